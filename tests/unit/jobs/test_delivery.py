"""What reaches the team: all of it, some of it, and from whom after how many tries."""

import pytest

from gateway.jobs.accepting import Acceptance, accept
from gateway.jobs.facts import AttemptOpened, OrderFailed, PartGivenUp, PicturesDelivered, PicturesReady, TicketLearned
from gateway.jobs.job import AttemptState, Part, PartState, State
from gateway.jobs.recovery import Buy, recover
from gateway.jobs.tables import Line
from providers.faults import FaultKind
from tests.unit.jobs.living import CEILING, FENCE, PRICE, START, Life, acceptance, place


def test_an_accepted_job_is_queued_and_paid_for_in_advance() -> None:
    life = Life(acceptance(n=4))
    assert life.ended() == (State.QUEUED, False)
    assert life.job.parts == (Part(images=(0, 1, 2, 3)),)
    assert life.job.hold == 4 * CEILING


def test_the_hold_covers_the_dearest_seller_within_reach() -> None:
    life = Life(acceptance(n=2, route=(place(ceiling=100), place(ceiling=300), place(ceiling=200))))
    assert life.job.hold == 600


@pytest.mark.parametrize(
    "asked",
    [
        acceptance(n=0),
        acceptance(route=()),
    ],
    ids=["no image", "no seller"],
)
def test_what_cannot_be_bought_is_not_accepted(asked: Acceptance) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        accept(asked, START)


def test_an_order_goes_from_opened_by_its_ticket_to_delivered() -> None:
    life = Life(acceptance(n=2))
    number = life.opens(images=(0, 1))
    assert (life.job.state, life.attempt.state) == (State.IN_PROGRESS, AttemptState.OPENED)
    life.after(TicketLearned(attempt=number, ticket="run-1"), 1.0)
    assert (life.attempt.state, life.attempt.ticket) == (AttemptState.TICKETED, "run-1")
    life.after(PicturesReady(attempt=number, links=("https://a.example/1",)), 20.0)
    assert (life.attempt.ready, life.attempt.links) == (True, ("https://a.example/1",))
    life.delivers((0, 1), 21.0)
    assert (life.attempt.state, life.attempt.links, life.attempt.closed) == (AttemptState.CLOSED, (), START + 21.0)
    assert life.ended() == (State.COMPLETED, True)
    assert (life.job.delivered, life.job.warnings, life.job.fault) == ((0, 1), (), None)


def test_where_pictures_lie_is_not_forgotten_when_they_are_told_of_again() -> None:
    life = Life()
    life.opens()
    life.readies(links=("https://a.example/1",))
    life.readies(cost=90_000)
    assert (life.attempt.links, life.attempt.cost) == (("https://a.example/1",), 90_000)


def test_three_of_four_after_all_failovers_complete_the_job_and_say_so() -> None:
    life = Life(acceptance(n=4, warnings=("quality_not_selectable",)))
    life.opens(0, (0, 1, 2, 3))
    life.delivers((0, 1), made=2)
    life.opens(1, (2, 3))
    life.delivers((3,), made=1)
    life.opens(2, (2,))
    life.fails(FaultKind.FAILED)
    assert life.ended() == (State.COMPLETED, True)
    assert life.job.delivered == (0, 1, 3)
    assert life.money() == {Line.CAPTURE: 3 * PRICE}
    assert life.job.warnings == ("quality_not_selectable", "partial_delivery: 3 of 4 images")
    assert life.job.fault is FaultKind.FAILED


def test_the_next_seller_may_take_fewer_images_at_once() -> None:
    life = Life(acceptance(n=4, route=(place(images=4), place(images=1))))
    life.opens(0, (0, 1, 2, 3))
    life.fails(FaultKind.UNAVAILABLE)
    for image in (2, 0, 3, 1):
        life.opens(1, (image,))
    assert [part.images for part in life.job.parts] == [(0,), (1,), (2,), (3,)]
    assert [part.tried for part in life.job.parts] == [(0, 1)] * 4
    for attempt in range(2, 6):
        images = life.job.attempts[attempt - 1].images
        life.after(PicturesDelivered(attempt=attempt, images=images), 30.0)
    assert life.ended() == (State.COMPLETED, True)


def test_images_that_wait_still_count_the_tries_they_had() -> None:
    life = Life(acceptance(n=2, tries=2))
    life.opens(0, (0, 1))
    life.fails(FaultKind.FAILED)
    life.opens(1, (0,))
    waiting = next(part for part in life.job.parts if part.state is PartState.WAITING)
    assert (waiting.images, waiting.tried, waiting.fault) == ((1,), (0,), FaultKind.FAILED)


@pytest.mark.parametrize(
    ("where", "images"),
    [(0, ()), (0, (0, 4)), (0, (-1,)), (3, (0,)), (-1, (0,)), (1, (0, 1))],
    ids=["none", "not ours", "below", "no such place", "place below", "more than it takes"],
)
def test_what_cannot_be_ordered_is_not_opened(where: int, images: tuple[int, ...]) -> None:
    life = Life(acceptance(n=4, route=(place(), place(images=1), place())))
    assert life.ignores(AttemptOpened(fence=FENCE, place=where, images=images))


def test_nothing_is_bought_twice_at_the_same_time() -> None:
    life = Life(acceptance(n=2))
    life.opens(images=(0,))
    assert "not waiting" in life.ignores(AttemptOpened(fence=FENCE, place=1, images=(0,)))
    assert "not waiting" in life.ignores(AttemptOpened(fence=FENCE, place=1, images=(0, 1)))


def test_images_named_twice_are_bought_once() -> None:
    life = Life(acceptance(n=2))
    life.opens(images=(1, 0, 1, 0))
    assert life.attempt.images == (0, 1)


def test_no_image_has_more_tries_than_allowed() -> None:
    life = Life(acceptance(tries=0))
    assert "used up" in life.ignores(AttemptOpened(fence=FENCE, place=0, images=(0,)))
    life.after(PartGivenUp(fence=FENCE, images=(0,)))
    assert life.ended() == (State.FAILED, True)


def test_nothing_is_ordered_again_where_it_was_tried() -> None:
    life = Life(acceptance(n=2))
    life.opens(images=(0, 1), place=0)
    life.after(OrderFailed(attempt=1, kind=FaultKind.FAILED))
    for images in ((0, 1), (0,), (1,)):
        assert "has been tried" in life.ignores(AttemptOpened(fence=FENCE, place=0, images=images))
    life.opens(images=(0, 1), place=1)
    assert life.attempt.place == 1


def test_with_nobody_left_the_images_are_given_up_for_the_last_reason() -> None:
    life = Life(acceptance(n=2))
    life.opens(0, (0, 1))
    life.fails(FaultKind.RATE_LIMITED)
    life.after(PartGivenUp(fence=FENCE, images=(1, 0)), 3.0)
    assert life.ended() == (State.FAILED, True)
    assert life.job.fault is FaultKind.RATE_LIMITED


def test_only_images_that_wait_together_are_given_up() -> None:
    life = Life(acceptance(n=3))
    life.opens(0, (0,))
    for images in ((0,), (0, 1), (0, 1, 2), (), (7,)):
        assert "not waiting" in life.ignores(PartGivenUp(fence=FENCE, images=images, kind=FaultKind.NO_CREDIT))
    life.after(PartGivenUp(fence=FENCE, images=(1, 2), kind=FaultKind.NO_CREDIT))
    assert life.job.state is State.IN_PROGRESS
    life.delivers((0,))
    assert (life.job.state, life.job.fault) == (State.COMPLETED, FaultKind.NO_CREDIT)


def test_some_images_of_a_part_are_given_up_and_the_others_still_wait() -> None:
    life = Life(acceptance(n=3))
    life.after(PartGivenUp(fence=FENCE, images=(2, 0), kind=FaultKind.BROKEN))
    assert (life.images(PartState.FAILED), life.images(PartState.WAITING)) == ([0, 2], [1])
    [buy] = recover(life.job, life.start + 2.0, is_accepted_here=True)
    assert buy == Buy(images=(1,), places=(0, 1, 2))
    life.opens(0, (1,))
    life.delivers((1,))
    assert (life.job.state, life.job.fault) == (State.COMPLETED, FaultKind.BROKEN)


def test_a_part_that_is_given_up_one_image_after_the_other_ends_the_job() -> None:
    life = Life(acceptance(n=3))
    for image in (1, 0, 2):
        assert not life.job.state.is_terminal
        life.after(PartGivenUp(fence=FENCE, images=(image,), kind=FaultKind.BROKEN))
    assert life.ended() == (State.FAILED, True)
    assert life.job.fault is FaultKind.BROKEN
    assert life.money() == {}


def test_images_of_other_orders_are_not_delivered_by_this_one() -> None:
    life = Life(acceptance(n=3))
    life.opens(0, (0,))
    life.delivers((0, 1, 2, 99, -1))
    assert life.job.delivered == (0,)
    assert life.images(PartState.WAITING) == [1, 2]


def test_warnings_of_a_delivery_are_kept_once_each() -> None:
    life = Life(acceptance(n=2, warnings=("a",)))
    life.opens(0, (0,))
    life.delivers((0,), warnings=("b", "a", "b"))
    life.opens(0, (1,))
    life.delivers((1,), warnings=("b", "c"))
    assert life.job.warnings == ("a", "b", "c")


def test_a_job_without_an_image_is_no_partial_delivery_and_warns_of_none() -> None:
    life = Life(acceptance(n=2, tries=1))
    life.opens(0, (0, 1))
    life.delivers((), warnings=("downgraded",))
    assert (life.job.state, life.job.warnings, life.job.fault) == (State.FAILED, (), FaultKind.EMPTY)


def test_a_ticket_is_bound_for_good() -> None:
    life = Life()
    number = life.tickets()
    assert "nothing new" in life.ignores(TicketLearned(attempt=number, ticket="run-1"))
    assert "another ticket" in life.ignores(TicketLearned(attempt=number, ticket="run-2"))
