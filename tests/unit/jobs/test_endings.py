"""A job ended from outside: cancelled by its team, overtaken by its deadline, or given up with its owners."""

import pytest

from gateway.jobs.facts import (
    AnswerLost,
    AttemptGivenUp,
    AttemptOpened,
    CallbackSeen,
    CancelAsked,
    Happening,
    JobAbandoned,
    JobExpired,
    OrderFailed,
    PartGivenUp,
    PicturesDelivered,
    PicturesReady,
)
from gateway.jobs.job import PartState, State
from gateway.jobs.tables import Line
from providers.faults import FaultKind
from tests.unit.jobs.living import FENCE, PRICE, SECONDS, START, Life, acceptance

EXPIRED = JobExpired(fence=FENCE)
ABANDONED = JobAbandoned(fence=FENCE)


# --- cancel


def test_a_job_cancelled_before_anything_was_bought_costs_nothing() -> None:
    life = Life(acceptance(n=2))
    life.after(CancelAsked())
    assert life.ended() == (State.CANCELLED, True)
    assert (life.money(), life.job.hold, life.images(PartState.DROPPED)) == ({}, 0, [0, 1])


def test_running_orders_are_awaited_and_what_is_not_bought_is_dropped() -> None:
    life = Life(acceptance(n=3))
    life.tickets(images=(0,))
    life.after(CancelAsked())
    assert life.ended() == (State.IN_PROGRESS, False)
    assert (life.images(PartState.BUYING), life.images(PartState.DROPPED)) == ([0], [1, 2])
    assert "not waiting" in life.ignores(AttemptOpened(fence=FENCE, place=0, images=(1,)))
    life.delivers((0,))
    assert life.ended() == (State.CANCELLED, True)
    assert life.money() == {Line.CAPTURE: PRICE}
    assert life.job.warnings == ("partial_delivery: 1 of 3 images",)


def test_a_cancel_that_races_success_keeps_and_pays_what_arrived() -> None:
    life = Life()
    life.tickets()
    life.after(CancelAsked())
    life.delivers()
    assert life.ended() == (State.CANCELLED, True)
    assert (life.money(), life.job.delivered, life.job.fault) == ({Line.CAPTURE: PRICE}, (0,), None)


def test_a_cancel_after_success_changes_nothing() -> None:
    life = Life()
    life.tickets()
    life.delivers()
    assert "completed" in life.ignores(CancelAsked())


def test_a_cancelled_job_does_not_fail_over() -> None:
    life = Life()
    life.tickets()
    life.after(CancelAsked())
    life.fails(FaultKind.FAILED)
    assert life.ended() == (State.CANCELLED, True)
    assert life.images(PartState.DROPPED) == [0]


def test_images_that_could_not_have_been_bought_again_have_failed_cancel_or_not() -> None:
    life = Life()
    life.tickets()
    life.after(CancelAsked())
    life.fails(FaultKind.CONTENT_REFUSED)
    assert (life.job.state, life.job.fault) == (State.CANCELLED, FaultKind.CONTENT_REFUSED)
    assert life.images(PartState.FAILED) == [0]


def test_to_ask_twice_is_to_ask_once() -> None:
    life = Life()
    life.tickets()
    life.after(CancelAsked())
    assert life.ignores(CancelAsked()) == "nothing new"


# --- deadline


@pytest.mark.parametrize("seconds", [0.0, SECONDS - 0.001])
def test_a_deadline_is_not_over_before_it_is(seconds: float) -> None:
    assert "not over" in Life().ignores(EXPIRED, seconds)


def test_what_nobody_bought_in_time_expires() -> None:
    life = Life(acceptance(n=2))
    life.after(EXPIRED, SECONDS)
    assert life.ended() == (State.EXPIRED, True)
    assert (life.money(), life.job.hold) == ({}, 0)


def test_nothing_is_bought_at_the_deadline_even_if_nobody_has_said_that_it_is_over() -> None:
    assert "nothing more" in Life().ignores(AttemptOpened(fence=FENCE, place=0, images=(0,)), SECONDS)


def test_what_was_not_bought_by_the_deadline_expires_whoever_notices_it_first() -> None:
    """Who has queued for a seller until then gives up at the same moment: that is no failure of the sellers."""
    life = Life()
    assert "deadline" in life.ignores(PartGivenUp(fence=FENCE, images=(0,), kind=FaultKind.RATE_LIMITED), SECONDS)
    life.after(EXPIRED, SECONDS)
    assert life.ended() == (State.EXPIRED, True)
    assert life.job.fault is None


def test_an_order_that_runs_on_leaves_the_job_terminal_but_not_settled() -> None:
    life = Life(acceptance(n=2))
    life.tickets(images=(0, 1))
    life.after(EXPIRED, SECONDS)
    assert life.ended() == (State.EXPIRED, False)
    assert life.commits[-1].due is not None
    life.after(AttemptGivenUp(fence=FENCE, attempt=1, kind=FaultKind.OVERDUE), SECONDS + 100)
    assert life.ended() == (State.EXPIRED, True)
    assert life.money() == {Line.SUSPECTED: 2 * PRICE}


@pytest.mark.parametrize("happening", [PicturesReady(attempt=1), PicturesDelivered(attempt=1, images=(0,))])
def test_late_pictures_are_an_orphan_and_never_the_teams(happening: Happening) -> None:
    life = Life()
    life.tickets()
    life.after(EXPIRED, SECONDS)
    life.after(happening, SECONDS + 10)
    assert life.ended() == (State.EXPIRED, True)
    assert (life.money(), life.job.delivered) == ({Line.ORPHAN: PRICE}, ())
    assert life.attempt.fault is FaultKind.OVERDUE


def test_an_order_that_fails_after_the_deadline_is_settled_without_cost() -> None:
    life = Life()
    life.tickets()
    life.after(EXPIRED, SECONDS)
    life.fails(FaultKind.FAILED, SECONDS + 10)
    assert (life.ended(), life.money()) == ((State.EXPIRED, True), {})


def test_pictures_that_exist_outlast_the_deadline() -> None:
    life = Life(acceptance(n=3))
    life.tickets(images=(0,))
    life.readies()
    life.tickets(images=(1,))
    life.after(EXPIRED, SECONDS)
    assert life.ended() == (State.IN_PROGRESS, False)
    assert (life.images(PartState.BUYING), life.images(PartState.FAILED)) == ([0], [1, 2])
    assert life.ignores(EXPIRED, SECONDS + 1) == "nothing new"
    life.after(PicturesDelivered(attempt=1, images=(0,)), SECONDS + 2)
    assert life.ended() == (State.COMPLETED, False)
    assert (life.job.delivered, life.job.warnings) == ((0,), ("partial_delivery: 1 of 3 images",))
    life.after(AttemptGivenUp(fence=FENCE, attempt=2, kind=FaultKind.OVERDUE), SECONDS + 100)
    assert life.ended() == (State.COMPLETED, True)
    assert life.money() == {Line.CAPTURE: PRICE, Line.SUSPECTED: PRICE}


def test_pictures_that_exist_and_cannot_be_had_expire_with_the_job() -> None:
    life = Life()
    life.tickets()
    life.readies()
    life.after(EXPIRED, SECONDS)
    life.after(AttemptGivenUp(fence=FENCE, attempt=1, kind=FaultKind.EXPIRED), SECONDS + 90_000)
    assert (life.ended(), life.money()) == ((State.EXPIRED, True), {Line.ORPHAN: PRICE})


def test_nothing_fails_over_after_the_deadline() -> None:
    life = Life()
    life.tickets()
    life.readies()
    life.after(EXPIRED, SECONDS)
    life.fails(FaultKind.EMPTY, SECONDS + 1)
    assert (life.ended(), life.money()) == ((State.EXPIRED, True), {Line.ORPHAN: PRICE})


def test_a_cancelled_job_that_runs_into_its_deadline_stays_cancelled() -> None:
    life = Life()
    life.tickets()
    life.after(CancelAsked())
    life.after(EXPIRED, SECONDS)
    assert life.ended() == (State.CANCELLED, False)


# --- abandonment


def test_a_poisonous_job_is_delivered_what_was_ordered_and_buys_nothing_more() -> None:
    """Even where the policy would buy again: the worker that does that dies of it."""
    life = Life(acceptance(n=5, reorder=True))
    life.tickets(images=(0,))
    life.delivers((0,))
    life.tickets(images=(1,))
    life.opens(images=(2,))
    life.tickets(images=(3,))
    life.after(ABANDONED, 5.0)
    assert (life.ended(), life.job.abandoned) == ((State.IN_PROGRESS, False), True)
    assert (life.images(PartState.BUYING), life.images(PartState.FAILED)) == ([1, 2, 3], [4])
    life.after(PicturesDelivered(attempt=2, images=(1,)), 6.0)
    life.after(AnswerLost(attempt=3), 6.0)
    life.after(AttemptGivenUp(fence=FENCE, attempt=3, kind=FaultKind.LOST), 126.0)
    assert life.images(PartState.FAILED) == [2, 4], "nothing is tried elsewhere, though the policy would"
    life.after(OrderFailed(attempt=4, kind=FaultKind.FAILED), 127.0)
    assert life.ended() == (State.COMPLETED, True)
    assert life.money() == {Line.CAPTURE: 2 * PRICE, Line.SUSPECTED: PRICE}
    assert life.images(PartState.FAILED) == [2, 3, 4]


@pytest.mark.parametrize("reorder", [False, True])
def test_an_abandoned_job_remembers_what_was_asked_of_it(reorder: bool) -> None:
    life = Life(acceptance(n=2, reorder=reorder))
    life.tickets(images=(0,))
    life.after(ABANDONED, 5.0)
    assert (life.job.tries, life.job.reorder) == (3, reorder)
    assert "nothing more is bought" in life.ignores(ABANDONED, 6.0)
    assert "not waiting" in life.ignores(AttemptOpened(fence=FENCE, place=1, images=(1,)), 6.0)


def test_an_image_that_came_loose_after_the_abandonment_is_not_bought_either() -> None:
    life = Life()
    life.tickets()
    life.after(ABANDONED, 5.0)
    life.fails(FaultKind.UNAVAILABLE, 6.0)
    assert (life.ended(), life.money()) == ((State.FAILED, True), {})


def test_a_poisonous_job_without_a_picture_fails() -> None:
    life = Life()
    life.after(ABANDONED)
    assert (life.ended(), life.money()) == ((State.FAILED, True), {})
    assert "nothing more is bought" in life.ignores(ABANDONED)


def test_a_job_that_has_ended_for_its_team_need_not_be_abandoned() -> None:
    life = Life()
    life.tickets()
    life.after(EXPIRED, SECONDS)
    assert "nothing more is bought" in life.ignores(ABANDONED, SECONDS + 5)
    assert (life.ended(), life.money()) == ((State.EXPIRED, False), {})


# --- callbacks


def test_a_callback_shows_that_the_seller_has_the_order_and_nothing_else() -> None:
    life = Life()
    number = life.loses()
    life.after(CallbackSeen(attempt=number), 3.0)
    assert life.attempt.called == START + 3.0
    assert life.ended() == (State.IN_PROGRESS, False)
    assert life.ignores(CallbackSeen(attempt=number), 4.0) == "nothing new"


def test_a_callback_after_the_end_changes_nothing() -> None:
    life = Life()
    number = life.tickets()
    life.delivers()
    assert life.ignores(CallbackSeen(attempt=number)) == "nothing new"
    assert life.ignores(CallbackSeen(attempt=9)) == "no such attempt"
