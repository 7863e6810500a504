"""Makes the error of a request for which a budget does not suffice."""

from datetime import UTC, datetime

from gateway.api.api_errors import ApiError
from gateway.jobs.budgets import BudgetLimit, WindowKind, get_window_end, split_owner
from gateway.money import format_usd
from gateway.store.base import BudgetExceeded

# A Retry-After names only a moment that a client may wait for.
MAX_ADVISED_SECONDS = 3_600
# Jobs that run may release what is held for them within about this time.
HELD_RELEASE_SECONDS = 60


def make_budget_exceeded_error(exceeded: BudgetExceeded, hold: int, now: float) -> ApiError:
    """Makes the error of a request that would hold more than is left."""
    limit = exceeded.limit
    message = (
        f"Budget exceeded: {describe_owner(limit)} has ${format_usd(exceeded.left)} of ${format_usd(limit.amount)} "
        f"left {describe_window(limit)}, and this request may cost ${format_usd(hold)} at the dearest seller of its "
        f"route; ${format_usd(exceeded.held)} is held for running jobs. {_describe_return(limit, now)}"
    )
    return ApiError(
        429,
        "insufficient_quota",
        message,
        error_type="insufficient_quota",
        is_retryable=False,
        advised_wait=compute_advised_wait(exceeded, hold, now),
    )


def compute_advised_wait(exceeded: BudgetExceeded, hold: int, now: float) -> int | None:
    """Returns after how many seconds the request may succeed; None if that is not soon."""
    end = get_window_end(exceeded.limit.window.kind, now)
    seconds_to_end = MAX_ADVISED_SECONDS + 1 if end is None else int(end - now) + 1
    may_fit_without_holds = exceeded.held > 0 and exceeded.spent + hold <= exceeded.limit.amount
    wait = min(seconds_to_end, HELD_RELEASE_SECONDS if may_fit_without_holds else seconds_to_end)
    return wait if wait <= MAX_ADVISED_SECONDS else None


def describe_owner(limit: BudgetLimit) -> str:
    _, key_id = split_owner(limit.owner)
    return "this API key" if key_id else "your team"


def describe_window(limit: BudgetLimit) -> str:
    """Describes the window after an amount: for the day 2026-11-28, or in its lifetime."""
    window = limit.window
    return "of its lifetime" if window.kind is WindowKind.LIFETIME else f"for the {window.kind} {window.name}"


def _describe_return(limit: BudgetLimit, now: float) -> str:
    end = get_window_end(limit.window.kind, now)
    if end is None:
        return "This budget does not return: send a smaller request, or ask your platform team for a larger budget."
    return (
        f"It returns on {datetime.fromtimestamp(end, UTC):%Y-%m-%d} at 00:00 UTC; until then send a smaller request, "
        "or ask your platform team for a larger budget."
    )
