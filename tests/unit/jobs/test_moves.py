"""Every move that is listed can happen; that no other does is checked at each step of every test here."""

from collections.abc import Callable

import pytest

from gateway.jobs.facts import (
    AttemptGivenUp,
    CancelAsked,
    JobAbandoned,
    JobExpired,
    JobWithdrawn,
    OrderFailed,
    PartGivenUp,
    PicturesDelivered,
    TicketLearned,
)
from gateway.jobs.tables import ATTEMPT_MOVES, JOB_MOVES, PART_MOVES
from providers.faults import FaultKind
from tests.unit.jobs.living import FENCE, SECONDS, Life, acceptance

EXPIRED = JobExpired(fence=FENCE)


def delivered_at_once() -> Life:
    life = Life()
    life.opens()
    life.delivers()
    return life


def delivered_after_a_failover() -> Life:
    life = Life()
    life.tickets()
    life.fails(FaultKind.FAILED)
    life.opens(1)
    life.after(TicketLearned(attempt=2, ticket="run-2"))
    life.delivers()
    return life


def refused() -> Life:
    life = Life()
    life.opens()
    life.fails(FaultKind.CONTENT_REFUSED)
    return life


def not_traced() -> Life:
    life = Life()
    life.loses()
    life.after(AttemptGivenUp(fence=FENCE, attempt=1, kind=FaultKind.LOST), 121.0)
    return life


def overdue() -> Life:
    life = Life(acceptance(n=2))
    life.tickets(images=(0,))
    life.after(EXPIRED, SECONDS)
    life.after(AttemptGivenUp(fence=FENCE, attempt=1, kind=FaultKind.OVERDUE), SECONDS)
    return life


def expired_in_the_queue() -> Life:
    life = Life()
    life.after(EXPIRED, SECONDS)
    return life


def nobody_sells_it() -> Life:
    life = Life()
    life.after(PartGivenUp(fence=FENCE, images=(0,)))
    return life


def cancelled_in_the_queue() -> Life:
    life = Life()
    life.after(CancelAsked())
    return life


def withdrawn() -> Life:
    life = Life()
    life.after(JobWithdrawn(fence=FENCE), 30.0)
    return life


def cancelled_while_buying() -> Life:
    life = Life(acceptance(n=2))
    life.opens(images=(0,))
    life.after(CancelAsked())
    life.fails(FaultKind.UNAVAILABLE)
    return life


def abandoned() -> Life:
    life = Life(acceptance(n=3))
    life.opens(images=(0,))
    life.tickets(images=(1,))
    life.after(PicturesDelivered(attempt=2, images=(1,)), 3.0)
    life.after(JobAbandoned(fence=FENCE), 4.0)
    life.after(OrderFailed(attempt=1, kind=FaultKind.FAILED), 5.0)
    return life


STORIES = (
    delivered_at_once,
    delivered_after_a_failover,
    refused,
    not_traced,
    overdue,
    expired_in_the_queue,
    nobody_sells_it,
    cancelled_in_the_queue,
    withdrawn,
    cancelled_while_buying,
    abandoned,
)


@pytest.mark.parametrize("listed", [JOB_MOVES, PART_MOVES, ATTEMPT_MOVES], ids=["job", "part", "attempt"])
def test_every_listed_move_happens_in_one_of_these_stories(listed: dict[tuple[object, object], str]) -> None:
    seen = {move for story in STORIES for move in story().books.seen}
    assert listed.keys() - seen == set()
    assert all(listed.values()), "a reason for each"


@pytest.mark.parametrize("story", STORIES)
def test_each_story_ends_settled(story: Callable[[], Life]) -> None:
    assert story().job.is_settled
