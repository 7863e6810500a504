"""When an order is polled: near its expected end, then with a growing interval, or when its seller asks for it."""

import pytest

from gateway.engine.poll_schedule import (
    BACKOFF_FACTOR,
    FIRST_POLL_SHARE,
    POLL_SHARE,
    PollSchedule,
    UnansweredPolls,
    get_retry_after,
)
from gateway.timeouts_and_intervals import PollTiming
from providers.faults import Fault, FaultKind
from providers.order_status import InProgress, NoAnswer, Progress, Ready

TIMING = PollTiming()
EXPECTED_SECONDS = 20.0
LONG_SECONDS, SHORT_SECONDS = 10 * TIMING.max_interval_seconds, TIMING.min_interval_seconds


def make_schedule(expected_seconds: float = EXPECTED_SECONDS, age_seconds: float = 0.0) -> PollSchedule:
    return PollSchedule(expected_seconds, age_seconds, TIMING)


@pytest.mark.parametrize(
    ("age_seconds", "delay"),
    [
        (0.0, FIRST_POLL_SHARE * EXPECTED_SECONDS),
        (6.0, FIRST_POLL_SHARE * EXPECTED_SECONDS - 6.0),
        (18.0, 0.0),
        (60.0, 0.0),
        (-5.0, FIRST_POLL_SHARE * EXPECTED_SECONDS),
    ],
    ids=["new", "started", "nearly expected", "overdue", "sent by a replica whose clock is ahead"],
)
def test_first_poll_is_near_the_expected_end(age_seconds: float, delay: float) -> None:
    assert make_schedule(age_seconds=age_seconds).next_delay() == pytest.approx(delay)


def test_interval_grows_to_its_maximum() -> None:
    schedule = make_schedule()
    _, *delays = [schedule.next_delay() for _ in range(20)]
    first_delay = POLL_SHARE * EXPECTED_SECONDS
    assert delays[:3] == pytest.approx([first_delay, first_delay * BACKOFF_FACTOR, first_delay * BACKOFF_FACTOR**2])
    assert delays == sorted(delays)
    assert delays[-1] == TIMING.max_interval_seconds


@pytest.mark.parametrize(
    ("expected_seconds", "delay"),
    [(SHORT_SECONDS, TIMING.min_interval_seconds), (LONG_SECONDS, TIMING.max_interval_seconds)],
    ids=["fast", "slow"],
)
def test_first_interval_is_within_its_limits(expected_seconds: float, delay: float) -> None:
    schedule = make_schedule(expected_seconds)
    schedule.next_delay()
    assert schedule.next_delay() == delay


@pytest.mark.parametrize(
    ("retry_after", "delay"),
    [(7.0, 7.0), (0.0, TIMING.min_interval_seconds), (1e9, TIMING.max_retry_after_seconds)],
    ids=["usual", "at once", "too long"],
)
def test_seller_may_ask_for_a_delay(retry_after: float, delay: float) -> None:
    schedule = make_schedule()
    schedule.next_delay()
    assert schedule.next_delay(retry_after) == delay


def test_seller_may_delay_the_first_poll_but_not_hasten_it() -> None:
    first_delay = FIRST_POLL_SHARE * EXPECTED_SECONDS
    assert make_schedule().next_delay(1.0) == pytest.approx(first_delay)
    assert make_schedule().next_delay(1e9) == TIMING.max_retry_after_seconds


@pytest.mark.parametrize(
    ("progress", "retry_after"),
    [
        (InProgress(status="running", retry_after=3.0), 3.0),
        (NoAnswer(fault=Fault(kind=FaultKind.RATE_LIMITED, retry_after=4.0)), 4.0),
        (Ready(images=()), None),
    ],
    ids=["in progress", "no answer", "ready"],
)
def test_delay_is_read_from_answers_that_name_one(progress: Progress, retry_after: float | None) -> None:
    assert get_retry_after(progress) == retry_after


def test_missing_order_is_given_up_when_two_polls_are_far_enough_apart() -> None:
    """The times at which the polls were sent count: the answer to one may be slow."""
    polls, missing = UnansweredPolls(TIMING), NoAnswer(fault=Fault(kind=FaultKind.NOT_FOUND))
    assert polls.record_poll(missing, 0.0) is None
    assert polls.record_poll(missing, TIMING.missing_order_grace_seconds - 0.1) is None
    assert polls.record_poll(missing, TIMING.missing_order_grace_seconds) is FaultKind.RESPONSE_LOST
