"""The error of a request for which a budget does not suffice, and when the request may succeed."""

from datetime import UTC, datetime

import pytest

from gateway.api.budget_refusal import make_budget_exceeded_error
from gateway.jobs.budgets import BudgetLimit, WindowKind, get_window, make_owner
from gateway.store.base import BudgetExceeded

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC).timestamp()
CENT = 10_000


def make_refusal(kind: WindowKind, now: float, spent: int = 0, held: int = 0, key_id: str = "") -> BudgetExceeded:
    limit = BudgetLimit(make_owner("acme", key_id), get_window(kind, now), 200 * CENT)
    return BudgetExceeded(limit=limit, spent=spent, held=held)


def test_refusal_says_which_budget_and_when_it_returns() -> None:
    error = make_budget_exceeded_error(make_refusal(WindowKind.DAY, NOON, 190 * CENT, 5 * CENT), 8 * CENT, NOON)
    assert (error.status, error.code, error.error_type) == (429, "insufficient_quota", "insufficient_quota")
    assert error.message == (
        "Budget exceeded: your team has $0.05 of $2.00 left for the day 2026-11-28, and this request may cost $0.08 "
        "at the dearest seller of its route; "
        "$0.05 is held for running jobs. It returns on 2026-11-29 at 00:00 UTC; until then send a smaller request, or "
        "ask your platform team for a larger budget."
    )


@pytest.mark.parametrize(
    ("kind", "key_id", "texts"),
    [
        (WindowKind.WEEK, "k1", ("this API key has", "for the week 2026-W48,", "returns on 2026-11-30 at")),
        (WindowKind.MONTH, "", ("your team has", "for the month 2026-11,", "returns on 2026-12-01 at")),
        (WindowKind.LIFETIME, "k1", ("this API key has", "left of its lifetime,", "This budget does not return:")),
    ],
)
def test_each_window_is_named(kind: WindowKind, key_id: str, texts: tuple[str, ...]) -> None:
    message = make_budget_exceeded_error(make_refusal(kind, NOON, key_id=key_id), 300 * CENT, NOON).message
    assert [text for text in texts if text not in message] == []


@pytest.mark.parametrize(
    ("kind", "seconds_before_midnight", "spent", "held", "retry_after"),
    [
        (WindowKind.DAY, 3_000, 200, 0, "3001"),
        (WindowKind.DAY, 3_600, 200, 0, None),
        (WindowKind.DAY, 30, 100, 100, "31"),
        (WindowKind.DAY, 20_000, 100, 100, "60"),
        (WindowKind.DAY, 20_000, 196, 4, None),
        (WindowKind.LIFETIME, 30, 100, 100, "60"),
        (WindowKind.LIFETIME, 30, 200, 0, None),
        (WindowKind.WEEK, 30, 200, 0, None),
    ],
)
def test_retry_after_is_sent_if_the_budget_may_return_soon(
    kind: WindowKind, seconds_before_midnight: int, spent: int, held: int, retry_after: str | None
) -> None:
    """SDKs must not repeat the request by themselves in any case."""
    now = datetime(2026, 11, 29, tzinfo=UTC).timestamp() - seconds_before_midnight
    error = make_budget_exceeded_error(make_refusal(kind, now, spent * CENT, held * CENT), 5 * CENT, now)
    headers = error.build_response_headers()
    assert (headers.get("retry-after"), headers["x-should-retry"]) == (retry_after, "false")
    assert not error.is_retryable


def test_amount_left_is_never_negative() -> None:
    refusal = make_refusal(WindowKind.DAY, NOON, 250 * CENT, 3 * CENT)
    assert "has $0.00 of $2.00 left" in make_budget_exceeded_error(refusal, CENT, NOON).message
