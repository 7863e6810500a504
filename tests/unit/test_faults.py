"""The one table of failures: complete, and in agreement with itself."""

import pytest

from providers.faults import (
    MEANINGS,
    VERDICTS,
    Blame,
    Bought,
    Fault,
    FaultKind,
    Patience,
    Then,
    kind_of_status,
    unless_refused,
)


def test_every_kind_has_a_verdict_and_a_meaning() -> None:
    assert set(VERDICTS) == set(MEANINGS) == set(FaultKind)


@pytest.mark.parametrize("kind", list(FaultKind))
def test_money_decides_what_happens_next(kind: FaultKind) -> None:
    """What may have been bought is never bought again by itself; what was surely not may be had elsewhere."""
    verdict = VERDICTS[kind]
    allowed = {
        Bought.NO: {Then.FAIL_OVER, Then.FINAL},
        Bought.PERHAPS: {Then.STOP},
        Bought.YES: {Then.FAIL_OVER, Then.FAIL},
    }
    assert verdict.then in allowed[verdict.bought]


def test_what_the_seller_charged_outranks_the_kind() -> None:
    """Failed orders are not charged; one that was all the same is money spent for nothing."""
    assert Fault(kind=FaultKind.FAILED).bought is Bought.NO
    assert Fault(kind=FaultKind.FAILED, cost=0).bought is Bought.NO
    assert Fault(kind=FaultKind.FAILED, cost=133_000).bought is Bought.YES
    assert Fault(kind=FaultKind.CANCELLED, cost=133_000).bought is Bought.YES


def test_a_refused_content_is_final_and_hurts_nobody() -> None:
    verdict = VERDICTS[FaultKind.CONTENT_REFUSED]
    assert (verdict.then, verdict.blame) == (Then.FINAL, Blame.NOBODY)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "bad_order"),
        (401, "bad_key"),
        (402, "no_credit"),
        (403, "forbidden"),
        (404, "not_found"),
        (405, "bad_order"),
        (408, "lost"),
        (409, "conflict"),
        (410, "not_found"),
        (418, "bad_order"),
        (422, "bad_order"),
        (429, "rate_limited"),
        (455, "broken"),
        (500, "broken"),
        (502, "broken"),
        (503, "overloaded"),
        (504, "broken"),
        (529, "broken"),
        (301, "broken"),
        (100, "broken"),
        (999, "broken"),
    ],
)
def test_what_a_status_says_by_itself(status: int, kind: str) -> None:
    assert kind_of_status(status) == kind


@pytest.mark.parametrize("status", [*range(500, 600), *range(300, 400)])
def test_nothing_that_may_have_passed_an_order_on_counts_as_refused(status: int) -> None:
    assert VERDICTS[kind_of_status(status)].bought is Bought.PERHAPS


def test_only_an_ended_order_is_believed_when_asking() -> None:
    """A key that stopped working, or a limit, says nothing about the order that is being asked for."""
    believed = {kind for kind, verdict in VERDICTS.items() if verdict.when_asking is Patience.BELIEVE}
    assert believed == {
        FaultKind.CONTENT_REFUSED,
        FaultKind.FAILED,
        FaultKind.CANCELLED,
        FaultKind.OVERDUE,
        FaultKind.EMPTY,
        FaultKind.EXPIRED,
    }


@pytest.mark.parametrize(
    "text",
    [
        "Your request was rejected by the safety system.",
        "moderation_blocked",
        "This violates our Content Policy",
        "content_policy_violation",
        "flagged by safety filter",
        "NSFW content detected",
        "against our usage policies",
    ],
)
def test_words_of_refusal_are_known(text: str) -> None:
    for kind in (FaultKind.BAD_ORDER, FaultKind.FAILED):
        assert unless_refused(kind, text, None) is unless_refused(kind, None, text) is FaultKind.CONTENT_REFUSED


@pytest.mark.parametrize(
    "text", ["", "Validation failed", "image dimensions exceed 4096x4096", "provider error", "timeout"]
)
def test_other_words_are_not_taken_for_refusal(text: str) -> None:
    assert unless_refused(FaultKind.FAILED, None, text) is FaultKind.FAILED


@pytest.mark.parametrize("kind", [FaultKind.BROKEN, FaultKind.LOST, FaultKind.RATE_LIMITED, FaultKind.CANCELLED])
def test_words_do_not_make_an_unclear_end_a_refusal(kind: FaultKind) -> None:
    """A proxy's error page may mention anything."""
    assert unless_refused(kind, "moderation_blocked") is kind
