"""A deleted job keeps what books late facts, and nothing else."""

import pytest

from gateway.jobs.job import SellerResponse
from gateway.jobs.job_update_types import ImagesReady, JobContentDeleted
from gateway.jobs.transition_tables import LedgerLine
from providers.faults import FaultKind
from tests.unit.jobs.job_scenario import JobScenario, make_new_job

MESSAGE = SellerResponse(status=500, code="secret_code", message="a secret message")


def make_failed_scenario() -> JobScenario:
    scenario = JobScenario(
        make_new_job(labels=("secret-label",), warnings=("a secret warning",), tracestate="secret=1")
    )
    scenario.start_attempt()
    scenario.fail_order(FaultKind.ORDER_TIMED_OUT, seller_response=MESSAGE)
    assert scenario.job.is_settled
    assert b"secret" in scenario.commits[-1].encoded_job
    return scenario


def test_deleted_job_contains_no_text_of_the_team_or_the_seller() -> None:
    scenario = make_failed_scenario()
    before, ledger = scenario.job, scenario.sum_ledger()
    commit = scenario.apply(JobContentDeleted(), 50.0)
    assert b"secret" not in commit.encoded_job
    assert (commit.job.is_deleted, commit.job.state) == (True, before.state)
    assert commit.ledger_entries == commit.budget_changes == commit.milestones == commit.webhook_deliveries == ()
    assert scenario.sum_ledger() == ledger
    assert scenario.expect_ignored(JobContentDeleted(), 60.0) == "nothing new"


def test_late_charge_of_a_deleted_job_is_booked() -> None:
    scenario = make_failed_scenario()
    scenario.apply(JobContentDeleted(), 50.0)
    commit = scenario.apply(ImagesReady(attempt=1, cost=70_000, seller_response=MESSAGE), 60.0)
    assert scenario.sum_ledger() == {LedgerLine.ORPHAN: 70_000}
    assert b"secret" not in commit.encoded_job


@pytest.mark.parametrize("is_started", [False, True])
def test_running_job_is_not_deleted(is_started: bool) -> None:
    scenario = JobScenario()
    if is_started:
        scenario.start_attempt()
    assert scenario.expect_ignored(JobContentDeleted(), 50.0) == "its orders are not settled"
