"""Every listed transition can happen. The invariants check that no other does."""

from collections.abc import Callable

import pytest

from gateway.jobs.job_update_types import (
    AttemptAbandoned,
    CancelRequested,
    ImagesStored,
    JobAbandoned,
    JobExpired,
    JobWithdrawn,
    OrderFailed,
    PartAbandoned,
    TicketReceived,
)
from gateway.jobs.transition_tables import ATTEMPT_TRANSITIONS, JOB_TRANSITIONS, PART_TRANSITIONS
from providers.faults import FaultKind
from tests.unit.jobs.job_scenario import DEADLINE_SECONDS, FENCE, JobScenario, make_new_job

EXPIRY = JobExpired(fence=FENCE)


def deliver_at_once() -> JobScenario:
    scenario = JobScenario()
    scenario.start_attempt()
    scenario.store_images()
    return scenario


def deliver_after_failover() -> JobScenario:
    scenario = JobScenario()
    scenario.receive_ticket()
    scenario.fail_order(FaultKind.ORDER_FAILED)
    scenario.start_attempt(1)
    scenario.apply(TicketReceived(attempt=2, ticket="run-2"))
    scenario.store_images()
    return scenario


def refuse_content() -> JobScenario:
    scenario = JobScenario()
    scenario.start_attempt()
    scenario.fail_order(FaultKind.CONTENT_REFUSED)
    return scenario


def lose_order() -> JobScenario:
    scenario = JobScenario()
    scenario.lose_response()
    scenario.apply(AttemptAbandoned(fence=FENCE, attempt=1, fault=FaultKind.RESPONSE_LOST), 121.0)
    return scenario


def time_out_order() -> JobScenario:
    scenario = JobScenario(make_new_job(n=2))
    scenario.receive_ticket(images=(0,))
    scenario.apply(EXPIRY, DEADLINE_SECONDS)
    scenario.apply(AttemptAbandoned(fence=FENCE, attempt=1, fault=FaultKind.ORDER_TIMED_OUT), DEADLINE_SECONDS)
    return scenario


def expire_in_queue() -> JobScenario:
    scenario = JobScenario()
    scenario.apply(EXPIRY, DEADLINE_SECONDS)
    return scenario


def abandon_unsold_part() -> JobScenario:
    scenario = JobScenario()
    scenario.apply(PartAbandoned(fence=FENCE, images=(0,)))
    return scenario


def cancel_in_queue() -> JobScenario:
    scenario = JobScenario()
    scenario.apply(CancelRequested())
    return scenario


def withdraw_job() -> JobScenario:
    scenario = JobScenario()
    scenario.apply(JobWithdrawn(fence=FENCE), 30.0)
    return scenario


def cancel_while_ordering() -> JobScenario:
    scenario = JobScenario(make_new_job(n=2))
    scenario.start_attempt(images=(0,))
    scenario.apply(CancelRequested())
    scenario.fail_order(FaultKind.UNAVAILABLE)
    return scenario


def abandon_job() -> JobScenario:
    scenario = JobScenario(make_new_job(n=3))
    scenario.start_attempt(images=(0,))
    scenario.receive_ticket(images=(1,))
    scenario.apply(ImagesStored(attempt=2, images=(1,)), 3.0)
    scenario.apply(JobAbandoned(fence=FENCE), 4.0)
    scenario.apply(OrderFailed(attempt=1, fault=FaultKind.ORDER_FAILED), 5.0)
    return scenario


SCENARIOS = (
    deliver_at_once,
    deliver_after_failover,
    refuse_content,
    lose_order,
    time_out_order,
    expire_in_queue,
    abandon_unsold_part,
    cancel_in_queue,
    withdraw_job,
    cancel_while_ordering,
    abandon_job,
)


@pytest.mark.parametrize(
    "table", [JOB_TRANSITIONS, PART_TRANSITIONS, ATTEMPT_TRANSITIONS], ids=["job", "part", "attempt"]
)
def test_every_listed_transition_happens(table: dict[tuple[object, object], str]) -> None:
    seen = {transition for make_scenario in SCENARIOS for transition in make_scenario().totals.seen_transitions}
    assert table.keys() - seen == set()
    assert all(table.values()), "a reason for each"


@pytest.mark.parametrize("make_scenario", SCENARIOS)
def test_every_scenario_ends_settled(make_scenario: Callable[[], JobScenario]) -> None:
    assert make_scenario().job.is_settled
