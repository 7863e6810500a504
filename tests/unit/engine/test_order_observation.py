"""How late the end of an order was noticed, and what its callback was worth."""

import pytest

from gateway.engine.commit_events import OfferFields
from gateway.engine.order_observation import OrderObservation
from gateway.events import OrderObserved
from providers.faults import Fault, FaultKind
from providers.order_status import Failed, InProgress, NoAnswer, Progress, Ready
from providers.orders import Cell, Operation

WORKING = InProgress(status="running")
UNANSWERED = NoAnswer(fault=Fault(kind=FaultKind.UNAVAILABLE))
READY = Ready(images=())


def observe(*polls: tuple[float, Progress], observation: OrderObservation | None = None) -> OrderObserved:
    """Polls at these times an order that was sent at 100, and returns the event of the last poll."""
    observation = observation or OrderObservation(unfinished_at=100.0)
    endings = [observation.record_poll(progress, sent_at) for sent_at, progress in polls]
    assert endings == [False] * (len(polls) - 1) + [True]
    at, progress = polls[-1]
    cell = Cell(Operation.GENERATE, "1k", "low")
    fields = OfferFields(at=at + 1, job="job_1", seller="runapi", cell=cell, config="c", traceparent=None)
    return observation.make_event(fields, 1, progress)


def test_lag_counts_from_the_last_poll_that_found_the_order_unfinished() -> None:
    event = observe((110, WORKING), (115, WORKING), (120, READY))
    assert (event.polls, event.lag_seconds, event.saved_seconds) == (3, 6, 0)


def test_failed_order_is_observed_too() -> None:
    assert observe((110, Failed(fault=Fault(kind=FaultKind.ORDER_FAILED)))).lag_seconds == 11


def test_poll_without_an_answer_proves_nothing() -> None:
    assert observe((110, WORKING), (115, UNANSWERED), (120, READY)).lag_seconds == 11


@pytest.mark.parametrize(
    ("finished_at", "lag_seconds"), [(118.0, 3), (90.0, 11), (500.0, 0)], ids=["exact", "clock behind", "clock ahead"]
)
def test_timestamp_of_the_seller_counts_within_what_is_known(finished_at: float, lag_seconds: float) -> None:
    ready = Ready(images=(), finished_at=finished_at)
    assert observe((110, WORKING), (120, ready)).lag_seconds == lag_seconds


def test_callback_shows_when_the_order_ended_and_what_it_saved() -> None:
    observation = OrderObservation(unfinished_at=100.0)
    observation.record_callback(112.0)
    observation.record_callback(112.5)
    observation.record_wakeup(remaining_seconds=7.0)
    event = observe((113, READY), observation=observation)
    assert (event.lag_seconds, event.saved_seconds) == (2, 7)


def test_callback_at_the_time_of_the_poll_saves_nothing() -> None:
    """The pause may end a moment after it was due, on a busy machine."""
    observation = OrderObservation(unfinished_at=100.0)
    observation.record_callback(112.0)
    observation.record_wakeup(remaining_seconds=-0.01)
    assert observe((113, READY), observation=observation).saved_seconds == 0


def test_callback_before_the_end_saves_nothing() -> None:
    observation = OrderObservation(unfinished_at=100.0)
    observation.record_callback(112.0)
    observation.record_wakeup(remaining_seconds=7.0)
    event = observe((113, WORKING), (120, READY), observation=observation)
    assert (event.lag_seconds, event.saved_seconds) == (8, 0)


def test_wakeup_without_a_callback_saves_nothing() -> None:
    observation = OrderObservation(unfinished_at=100.0)
    observation.record_wakeup(remaining_seconds=7.0)
    assert observe((113, READY), observation=observation).saved_seconds == 0


def test_images_that_are_polled_again_are_observed_once() -> None:
    observation = OrderObservation(unfinished_at=100.0)
    assert [observation.record_poll(READY, sent_at) for sent_at in (110.0, 120.0)] == [True, False]
