"""Contents of commits: milestones, one webhook, commit ids, and a small encoded job."""

import msgspec
import pytest

from gateway.jobs.commit import Commit, Milestone, build_update_commit, decode_job
from gateway.jobs.first_commit import build_first_commit
from gateway.jobs.job import Job, order_reference
from gateway.jobs.job_update_types import (
    AttemptAbandoned,
    CancelRequested,
    ImagesReady,
    ImagesStored,
    JobExpired,
    TicketReceived,
)
from providers.faults import FaultKind
from tests.unit.jobs.job_scenario import DEADLINE_SECONDS, FENCE, START, JobScenario, make_new_job, make_route_entry


def test_milestones_are_complete_and_ordered() -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.start_attempt(images=(1,))
    scenario.start_attempt(images=(0,))
    scenario.apply(ImagesStored(attempt=1, images=(1,)), 5.0)
    scenario.apply(ImagesStored(attempt=2, images=(0,)), 6.0)
    assert [milestone for commit in scenario.commits for milestone in commit.milestones] == [
        Milestone(number=1, reached_at=START, name="queued"),
        Milestone(number=2, reached_at=START, name="in_progress"),
        Milestone(number=3, reached_at=START + 5, name="image", image=1, delivered_count=1, cost=100_000),
        Milestone(number=4, reached_at=START + 6, name="image", image=0, delivered_count=2, cost=200_000),
        Milestone(number=5, reached_at=START + 6, name="completed", delivered_count=2, cost=200_000),
    ]


def test_images_of_one_order_are_separate_milestones() -> None:
    scenario = JobScenario(make_new_job(n=3, max_attempts=1))
    scenario.start_attempt(images=(0, 1, 2))
    scenario.store_images((2, 0))
    assert scenario.totals.milestones[2:] == [("image", 0), ("image", 2), ("completed", None)]


def test_job_that_ends_at_once_has_milestones() -> None:
    scenario = JobScenario()
    scenario.apply(CancelRequested())
    assert scenario.totals.milestones == [("queued", None), ("cancelled", None)]


def test_one_webhook_is_sent_at_the_end() -> None:
    scenario = JobScenario()
    scenario.receive_ticket()
    scenario.apply(JobExpired(fence=FENCE), DEADLINE_SECONDS)
    scenario.apply(ImagesReady(attempt=1), DEADLINE_SECONDS + 1)
    deliveries = [webhook_delivery for commit in scenario.commits for webhook_delivery in commit.webhook_deliveries]
    assert [(delivery.id, delivery.job, delivery.event_name, delivery.created_at) for delivery in deliveries] == [
        ("job-1-expired", "job-1", "job.expired", START + DEADLINE_SECONDS)
    ]


def test_no_webhook_unless_requested() -> None:
    scenario = JobScenario(make_new_job(has_webhook=False))
    scenario.apply(CancelRequested())
    assert scenario.totals.webhooks == []


def test_commit_id_identifies_the_change() -> None:
    job = build_first_commit(make_new_job(), START).job
    first, again, later, other = (
        build_update_commit(job, JobExpired(fence=fence), START + seconds)
        for fence, seconds in ((1, 900), (1, 900), (1, 901), (2, 900))
    )
    commit_ids = [commit.commit_id for commit in (first, again, later, other) if isinstance(commit, Commit)]
    assert commit_ids[0] == commit_ids[1]
    assert len(set(commit_ids)) == 3


def test_decisions_carry_fence_and_facts_do_not() -> None:
    scenario = JobScenario()
    scenario.start_attempt()
    assert [commit.fence for commit in scenario.commits] == [None, FENCE]
    assert scenario.fail_order(FaultKind.ORDER_FAILED).fence is None


# --- the encoded job


def make_job_of_ten_orders() -> JobScenario:
    """Orders ten images at three sellers in turn, with names, tickets and times of realistic length."""
    route = tuple(make_route_entry(seller, max_images=1) for seller in ("runapi-pro", "runflow-runs", "runflow-run"))
    new_job = make_new_job(n=10, id="37-01kab3cd4efgh5jkmnpqrstvwx", config_hash="0123456789ab", route=route)
    scenario = JobScenario(new_job, START + 0.1234567)
    for image in range(10):
        number = scenario.start_attempt(image % 3, (image,), image + 0.1234567)
        ticket = f"0123abcd-0123-4bcd-8123-{image:012}"
        scenario.apply(TicketReceived(attempt=number, ticket=ticket), image + 1.7654321)
    for number in range(1, 11):
        scenario.apply(ImagesReady(attempt=number, cost=130_000), 40.7654321 + number)
    for number in range(1, 11):
        scenario.apply(ImagesStored(attempt=number, images=(number - 1,)), 60.7654321 + number)
    return scenario


def test_job_of_ten_orders_encodes_under_2100_bytes() -> None:
    """Field names are stored in each job, so a longer name of a field raises this bound."""
    scenario = make_job_of_ten_orders()
    assert scenario.job.is_settled
    assert max(len(commit.encoded_job) for commit in scenario.commits) < 2_100


def test_encoded_job_decodes_to_same_job() -> None:
    for commit in make_job_of_ten_orders().commits:
        assert decode_job(commit.encoded_job) == commit.job


def test_parts_with_same_outcome_are_merged() -> None:
    assert len(make_job_of_ten_orders().job.parts) == 1


def test_fields_of_newer_version_are_ignored() -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.receive_ticket(images=(0,))
    raw = msgspec.json.decode(scenario.commits[-1].encoded_job)
    raw["of_tomorrow"] = {"x": 1}
    for fields in (*raw["parts"], *raw["attempts"], *raw["route"]):
        fields.append("of tomorrow")
    assert decode_job(msgspec.json.encode(raw)) == scenario.job


@pytest.mark.parametrize(("field_count", "list_name"), [(1, "parts"), (4, "attempts")])
def test_fields_missing_in_older_version_get_defaults(field_count: int, list_name: str) -> None:
    scenario = JobScenario(make_new_job(n=2))
    scenario.start_attempt(images=(0,))
    raw = msgspec.json.decode(scenario.commits[-1].encoded_job)
    raw[list_name] = [fields[:field_count] for fields in raw[list_name]]
    older = decode_job(msgspec.json.encode(raw))
    assert isinstance(older, Job)
    assert [part.images for part in older.parts] == [(0,), (1,)]
    assert (older.attempts[0].images, older.attempts[0].ticket) == ((0,), None)


def test_order_reference_contains_job_id() -> None:
    assert order_reference("37-01k", 12) == "37-01k-12"


def test_abandoned_attempt_records_its_fault() -> None:
    scenario = JobScenario()
    number = scenario.receive_ticket()
    scenario.apply(AttemptAbandoned(fence=FENCE, attempt=number, fault=FaultKind.ORDER_TIMED_OUT), 420.0)
    assert (scenario.last_attempt.fault, scenario.job.fault) == (FaultKind.ORDER_TIMED_OUT, FaultKind.ORDER_TIMED_OUT)
