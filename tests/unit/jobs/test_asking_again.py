"""A job for which nothing can have been bought, because nobody could take it, may be asked for again by itself."""

import pytest

from gateway.jobs.commit import SOFT_KEY_SECONDS, IdempotencyRecord
from gateway.jobs.facts import CancelAsked, JobExpired, PartGivenUp
from gateway.jobs.failure import may_be_asked_again
from gateway.jobs.job import State
from providers.faults import FaultKind
from tests.unit.jobs.living import FENCE, SECONDS, Life, acceptance, place

NOBODY_TOOK_IT = {
    *(FaultKind.NOT_SENT, FaultKind.BAD_KEY, FaultKind.NO_CREDIT),
    *(FaultKind.FORBIDDEN, FaultKind.RATE_LIMITED, FaultKind.UNAVAILABLE, FaultKind.NO_ROOM),
    # What is gone from our storage comes again with the request.
    FaultKind.INPUT_MISSING,
}
BY_BODY = IdempotencyRecord(key="body", fingerprint="body", soft=True)
TWO = (place("runapi"), place("openai"))


def refused(*kinds: FaultKind, reorder: bool = False) -> Life:
    """By one seller after the other, until nobody is left."""
    life = Life(acceptance(route=TWO[: len(kinds)], tries=len(kinds), reorder=reorder, idempotency=BY_BODY))
    for number, kind in enumerate(kinds):
        life.opens(number)
        life.fails(kind)
    assert life.ended() == (State.FAILED, True)
    return life


@pytest.mark.parametrize("kind", FaultKind)
def test_only_if_nobody_could_take_it(kind: FaultKind) -> None:
    assert may_be_asked_again(refused(kind).job) is (kind in NOBODY_TOOK_IT)


def test_whoever_failed_before_them_has_taken_nothing_either() -> None:
    assert may_be_asked_again(refused(FaultKind.FAILED, FaultKind.NO_CREDIT).job)


def test_never_if_another_order_may_have_been_taken() -> None:
    assert not may_be_asked_again(refused(FaultKind.LOST, FaultKind.NO_CREDIT, reorder=True).job)
    assert not may_be_asked_again(refused(FaultKind.EMPTY, FaultKind.NO_CREDIT).job)


def test_never_if_a_refusal_was_charged_all_the_same() -> None:
    life = Life(acceptance(route=TWO[:1]))
    life.opens()
    life.fails(FaultKind.UNAVAILABLE, cost=60_000)
    life.after(PartGivenUp(fence=FENCE, images=(0,), kind=FaultKind.UNAVAILABLE))
    assert life.job.fault is FaultKind.UNAVAILABLE
    assert not may_be_asked_again(life.job)


def test_not_of_a_job_that_goes_on_was_cancelled_or_has_pictures() -> None:
    life = Life(acceptance(n=2, route=TWO))
    assert not may_be_asked_again(life.job)
    life.opens()
    life.delivers()
    life.after(PartGivenUp(fence=FENCE, images=(1,), kind=FaultKind.RATE_LIMITED))
    assert life.job.state is State.COMPLETED
    assert not may_be_asked_again(life.job)
    cancelled = Life()
    cancelled.after(CancelAsked())
    assert not may_be_asked_again(cancelled.job)


def test_not_while_an_order_that_outlived_the_deadline_is_open() -> None:
    life = Life(acceptance(n=2, route=TWO))
    life.after(PartGivenUp(fence=FENCE, images=(1,), kind=FaultKind.RATE_LIMITED))
    life.tickets()
    life.after(JobExpired(fence=FENCE), SECONDS)
    assert (life.job.state, life.job.fault) == (State.EXPIRED, FaultKind.RATE_LIMITED)
    assert not may_be_asked_again(life.job)


def test_whoever_asks_again_gets_a_new_job_then_and_the_old_one_otherwise() -> None:
    ends = [refused(kind).commits[-1] for kind in (FaultKind.NO_CREDIT, FaultKind.LOST)]
    assert [(end.is_refused, end.linger) for end in ends] == [(True, SOFT_KEY_SECONDS), (False, SOFT_KEY_SECONDS)]
