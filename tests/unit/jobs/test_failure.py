"""All attempts of a failed job and the table of verdicts decide what was bought, and whether the same request again is
right. The answer to its team follows from that, for every fault, ending and earlier attempt."""

from itertools import product

import pytest

from gateway.api.failures import failure_response
from gateway.jobs.commit import IdempotencyRecord
from gateway.jobs.facts import (
    AttemptGivenUp,
    AttemptOpened,
    CancelAsked,
    JobAbandoned,
    JobExpired,
    OrderFailed,
    PartGivenUp,
)
from gateway.jobs.failure import classify_failure, may_be_asked_again
from gateway.jobs.job import Job, State
from providers.faults import VERDICTS, Bought, FaultKind
from tests.unit.jobs.living import FENCE, SECONDS, Life, acceptance, place

BY_BODY = IdempotencyRecord(key="body", fingerprint="body", soft=True)
# A kind that is missing here has no answer yet: add it.
ANSWERS: dict[FaultKind, tuple[int, str]] = {
    FaultKind.NOT_SENT: (503, "sellers_unavailable"),
    FaultKind.NO_ROOM: (503, "sellers_unavailable"),
    FaultKind.BAD_ORDER: (424, "order_refused"),
    FaultKind.NOT_FOUND: (424, "sellers_failed"),
    FaultKind.BAD_KEY: (503, "sellers_unavailable"),
    FaultKind.NO_CREDIT: (503, "sellers_unavailable"),
    FaultKind.FORBIDDEN: (503, "sellers_unavailable"),
    FaultKind.RATE_LIMITED: (503, "sellers_unavailable"),
    FaultKind.UNAVAILABLE: (503, "sellers_unavailable"),
    FaultKind.INPUT_MISSING: (503, "input_missing"),
    FaultKind.CONTENT_REFUSED: (400, "moderation_blocked"),
    FaultKind.FAILED: (424, "sellers_failed"),
    FaultKind.LOST: (424, "outcome_unknown"),
    FaultKind.BROKEN: (424, "outcome_unknown"),
    FaultKind.OVERLOADED: (424, "outcome_unknown"),
    FaultKind.CONFLICT: (424, "outcome_unknown"),
    FaultKind.UNREADABLE: (424, "outcome_unknown"),
    FaultKind.UNKNOWN_WORD: (424, "outcome_unknown"),
    FaultKind.CANCELLED: (424, "outcome_unknown"),
    FaultKind.OVERDUE: (424, "outcome_unknown"),
    FaultKind.EMPTY: (424, "paid_not_delivered"),
    FaultKind.EXPIRED: (424, "paid_not_delivered"),
}
MONEY = {
    Bought.NO: "Nothing was bought, and you were not charged.",
    Bought.PERHAPS: "An order may have been bought; you were not charged.",
    Bought.YES: "The seller was paid; you were not charged.",
}
# What an earlier attempt may have ended with, so that the images were ordered again, by a policy that says so.
EARLIER = (None, FaultKind.FAILED, FaultKind.LOST, FaultKind.EMPTY)
CERTAINTY = (Bought.NO, Bought.PERHAPS, Bought.YES)


def ends(life: Life, kind: FaultKind) -> None:
    """The latest attempt, however such an end is learned of."""
    number = len(life.job.attempts)
    if VERDICTS[kind].bought is Bought.NO:
        life.after(OrderFailed(attempt=number, kind=kind))
    else:
        life.after(AttemptGivenUp(fence=FENCE, attempt=number, kind=kind))


def lived(kind: FaultKind, state: State, earlier: FaultKind | None) -> Job:
    """A job for one image that ended so: its first attempt with `earlier`, if any, and its last one with `kind`."""
    kinds = [one for one in (earlier, kind) if one]
    # For a deadline to end it, one seller must be left that was not asked yet.
    places = len(kinds) + (state is State.EXPIRED)
    route = tuple(place(f"seller-{number}") for number in range(places))
    life = Life(acceptance(route=route, tries=places, reorder=True, idempotency=BY_BODY))
    for number, one in enumerate(kinds):
        life.opens(number)
        if state is State.CANCELLED and number == len(kinds) - 1:
            life.after(CancelAsked())
        ends(life, one)
    if state is State.EXPIRED and not life.job.state.is_terminal:
        life.after(JobExpired(fence=FENCE), SECONDS)
    assert life.job.state.is_terminal
    ending = next(commit for commit in reversed(life.commits) if commit.linger is not None)
    assert ending.is_refused == may_be_asked_again(life.job), "the store remembers it accordingly"
    return life.job


def most(*kinds: FaultKind | None) -> Bought:
    return max((VERDICTS[kind].bought for kind in kinds if kind), key=CERTAINTY.index)


CASES = list(product(FaultKind, (State.FAILED, State.EXPIRED, State.CANCELLED), EARLIER))


@pytest.mark.parametrize("kind", FaultKind)
def test_every_fault_is_answered_by_its_verdict(kind: FaultKind) -> None:
    response = failure_response(lived(kind, State.FAILED, None))
    assert (response.status, response.code) == ANSWERS[kind]
    assert MONEY[VERDICTS[kind].bought] in response.message


@pytest.mark.parametrize(("kind", "state", "earlier"), CASES)
def test_answer_says_what_any_attempt_bought(kind: FaultKind, state: State, earlier: FaultKind | None) -> None:
    job = lived(kind, state, earlier)
    response, failure = failure_response(job), classify_failure(job)
    assert failure.bought is most(kind, earlier)
    assert MONEY[failure.bought] in response.message
    assert response.code not in ("outcome_unknown", "paid_not_delivered") or failure.bought is not Bought.NO
    if failure.bought is not Bought.NO:
        assert response.status in (400, 424)
        assert "is a new purchase" in response.message


@pytest.mark.parametrize(("kind", "state", "earlier"), CASES)
def test_only_what_was_not_bought_and_may_end_better_asks_to_be_repeated(
    kind: FaultKind, state: State, earlier: FaultKind | None
) -> None:
    job = lived(kind, state, earlier)
    response = failure_response(job)
    is_right = most(kind, earlier) is Bought.NO and VERDICTS[kind].passes and state is not State.CANCELLED
    assert may_be_asked_again(job) is is_right
    assert (response.retry_after is not None) is is_right
    assert (response.status == 503) is is_right
    assert response.status in (400, 424, 503), "no client repeats a 400 or a 424 by itself"
    assert ("Retry" in response.message) is is_right


@pytest.mark.parametrize(("kind", "state", "earlier"), CASES)
def test_content_refusal_is_answered_as_one_whatever_was_bought_before(
    kind: FaultKind, state: State, earlier: FaultKind | None
) -> None:
    response = failure_response(lived(kind, state, earlier))
    is_refusal = kind is FaultKind.CONTENT_REFUSED and state is not State.CANCELLED
    assert (response.status == 400) is (response.code == "moderation_blocked") is is_refusal


def expired(life: Life) -> Job:
    life.after(JobExpired(fence=FENCE), SECONDS)
    assert life.job.state is State.EXPIRED
    return life.job


def test_a_deadline_that_ends_what_was_never_ordered_asks_to_be_repeated() -> None:
    response = failure_response(expired(Life()))
    assert (response.status, response.code) == (503, "deadline_exceeded")
    assert response.retry_after
    assert MONEY[Bought.NO] in response.message


def test_an_order_that_outlives_the_deadline_may_have_been_bought() -> None:
    life = Life()
    life.tickets()
    response = failure_response(expired(life))
    assert (response.status, response.code, response.retry_after) == (424, "outcome_unknown", None)
    assert "deadline" in response.message
    assert MONEY[Bought.PERHAPS] in response.message


def test_later_outcome_of_such_an_order_changes_the_answer() -> None:
    bought, failed = Life(), Life()
    for life in (bought, failed):
        life.tickets()
        expired(life)
    bought.readies(SECONDS + 1)
    assert failure_response(bought.job).code == "paid_not_delivered"
    failed.fails(FaultKind.FAILED, SECONDS + 1)
    assert (failure_response(failed.job).status, classify_failure(failed.job).bought) == (503, Bought.NO)


def test_pictures_that_turn_up_after_an_order_was_given_up_were_bought() -> None:
    life = Life()
    life.loses()
    life.after(AttemptGivenUp(fence=FENCE, attempt=1, kind=FaultKind.LOST))
    assert failure_response(life.job).code == "outcome_unknown"
    life.readies()
    assert failure_response(life.job).code == "paid_not_delivered"


def test_a_failure_that_was_charged_all_the_same_was_bought() -> None:
    life = Life(acceptance(route=(place(),)))
    life.opens()
    life.fails(FaultKind.FAILED, cost=60_000)
    assert failure_response(life.job).code == "paid_not_delivered"


def test_inputs_that_did_not_reach_a_seller_whose_answer_was_lost_were_no_order() -> None:
    """The same words that make an order suspect: but nothing was ordered."""
    life = Life(acceptance(route=(place(),)))
    life.after(PartGivenUp(fence=FENCE, images=(0,), kind=FaultKind.BROKEN))
    response = failure_response(life.job)
    assert (response.status, response.code) == (503, "sellers_unavailable")
    assert MONEY[Bought.NO] in response.message


def test_one_image_that_nobody_can_make_outweighs_others_that_only_came_too_soon() -> None:
    life = Life(acceptance(n=2, route=(place(images=1),)))
    for image, kind in ((0, FaultKind.RATE_LIMITED), (1, FaultKind.BAD_ORDER)):
        life.after(AttemptOpened(fence=FENCE, place=0, images=(image,)))
        life.fails(kind)
        life.after(PartGivenUp(fence=FENCE, images=(image,)))
    response = failure_response(life.job)
    assert (response.status, response.code) == (424, "order_refused")


def test_a_job_that_its_owners_die_of_is_not_asked_for_again_by_itself() -> None:
    life = Life()
    life.after(JobAbandoned(fence=FENCE))
    assert (failure_response(life.job).status, may_be_asked_again(life.job)) == (424, False)
