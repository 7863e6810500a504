"""The ledger counts the images that a canary should have delivered and did not, also if it charged nothing."""

import pytest
from msgspec.structs import replace

from gateway.jobs.commit import build_commit
from gateway.jobs.job_update_types import OrderFailed
from gateway.jobs.transition_tables import LedgerLine
from providers.faults import VERDICTS, ChargeStatus, FaultKind, HealthScope
from tests.unit.jobs.job_scenario import JobScenario, make_new_job, make_route_entry

FREE_FAULTS = [kind for kind in FaultKind if VERDICTS[kind].charge_status is ChargeStatus.NOT_CHARGED]


def fail_order(fault: FaultKind, is_canary: bool) -> JobScenario:
    """Returns a job for two images whose first order, at a canary or not, failed."""
    route = (make_route_entry("new", is_canary=is_canary), make_route_entry("old"))
    scenario = JobScenario(make_new_job(n=2, route=route))
    scenario.start_attempt(images=(0, 1))
    scenario.apply(OrderFailed(attempt=1, fault=fault))
    return scenario


def list_entries(scenario: JobScenario) -> list[tuple[str, LedgerLine, int, int]]:
    entries = [entry for commit in scenario.commits for entry in commit.ledger_entries]
    return [(entry.seller, entry.line, entry.amount, entry.images) for entry in entries]


@pytest.mark.parametrize("fault", FREE_FAULTS)
def test_free_failure_of_a_canary_is_counted_if_it_is_the_fault_of_its_seller(fault: FaultKind) -> None:
    is_sellers_fault = VERDICTS[fault].health_scope is not HealthScope.NONE
    scenario = fail_order(fault, is_canary=True)
    assert list_entries(scenario) == ([("new", LedgerLine.FAILED, 0, 2)] if is_sellers_fault else [])
    assert list_entries(fail_order(fault, is_canary=False)) == []
    expected = build_commit(None, scenario.job, scenario.started_at).ledger_entries
    assert [(entry.line, entry.images) for entry in expected] == [
        (entry.line, entry.images) for entry in scenario.commits[-1].ledger_entries
    ], "the audit of a store derives the same entries from the job"


def test_failure_that_turns_out_to_be_charged_is_counted_once() -> None:
    scenario = fail_order(FaultKind.ORDER_FAILED, is_canary=True)
    job = scenario.job
    [attempt] = job.attempts
    charged = replace(job, attempts=(replace(attempt, orphaned_amount=100, cost=100),))
    entries = build_commit(job, charged, scenario.started_at).ledger_entries
    assert [(entry.line, entry.amount, entry.images) for entry in entries] == [
        (LedgerLine.ORPHAN, 100, 2),
        (LedgerLine.FAILED, 0, -2),
    ]
