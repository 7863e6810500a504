"""The outcome of a settled job: what was delivered, what it cost, and how each order ended."""

from gateway.jobs.commit import Commit
from gateway.jobs.job_outcome import AttemptOutcome, JobOutcome, decode_job_outcome
from gateway.jobs.job_update_types import CancelRequested, JobExpired, OrderFailed, ResponseLost
from providers.faults import FaultKind
from tests.unit.jobs.job_scenario import DEADLINE_SECONDS, FENCE, PRICE, JobScenario, make_new_job


def read_outcome(commit: Commit) -> JobOutcome:
    assert commit.job_outcome is not None
    return decode_job_outcome(commit.job_outcome)


def test_outcome_lists_failed_and_successful_attempts() -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.start_attempt(images=(0, 1))
    scenario.fail_order(FaultKind.UNAVAILABLE, seconds=1.5)
    scenario.start_attempt(route_index=1, images=(0, 1), seconds=2.0)
    outcome = read_outcome(scenario.store_images((0, 1), seconds=12.25))
    assert outcome == JobOutcome(
        state="completed",
        seconds=12.25,
        delivered=2,
        captured=2 * PRICE,
        attempts=(
            AttemptOutcome(seller="runapi", images=2, fault=FaultKind.UNAVAILABLE, seconds=1.5),
            AttemptOutcome(seller="runflow-runs", images=2, delivered=2, seconds=10.25, cost=2 * PRICE),
        ),
    )


def test_paid_image_that_is_not_delivered_is_an_orphan() -> None:
    scenario = JobScenario(make_new_job(n=2, max_attempts=1))
    scenario.start_attempt(images=(0, 1))
    outcome = read_outcome(scenario.store_images((0,), made_count=2, missing_fault=FaultKind.IMAGES_EXPIRED))
    assert (outcome.delivered, outcome.captured, outcome.orphan) == (1, PRICE, PRICE)
    assert [(attempt.delivered, attempt.cost) for attempt in outcome.attempts] == [(1, 2 * PRICE)]


def test_outcome_is_written_when_the_last_open_order_ends() -> None:
    """A job that has ended for its team may still have an open order."""
    scenario = JobScenario()
    scenario.receive_ticket()
    expired = scenario.apply(JobExpired(fence=FENCE), DEADLINE_SECONDS)
    assert (expired.job.state, expired.job_outcome) == ("expired", None)
    outcome = read_outcome(scenario.store_images(seconds=DEADLINE_SECONDS + 60.0))
    assert (outcome.state, outcome.seconds, outcome.delivered) == ("expired", DEADLINE_SECONDS, 0)
    assert (outcome.captured, outcome.orphan) == (0, PRICE)


def test_cancelled_job_without_orders_has_an_empty_outcome() -> None:
    scenario = JobScenario()
    assert read_outcome(scenario.apply(CancelRequested(), 3.0)) == JobOutcome(state="cancelled", seconds=3.0)


def test_later_evidence_corrects_the_outcome() -> None:
    scenario = JobScenario()
    scenario.start_attempt()
    scenario.apply(ResponseLost(attempt=1))
    assert read_outcome(scenario.fail_order(FaultKind.RESPONSE_LOST)).suspected == PRICE
    corrected = read_outcome(scenario.apply(OrderFailed(attempt=1, fault=FaultKind.ORDER_FAILED), 400.0))
    assert (corrected.suspected, corrected.orphan, corrected.attempts[0].cost) == (0, 0, 0)


def test_clock_that_is_behind_gives_no_negative_durations() -> None:
    """The replica that ends the order may have another clock than the one that sent it."""
    scenario = JobScenario(make_new_job())
    scenario.start_attempt(images=(0,), seconds=5.0)
    outcome = read_outcome(scenario.store_images((0,), seconds=-3.0))
    assert outcome.seconds == 0.0
    assert [attempt.seconds for attempt in outcome.attempts] == [0.0]
