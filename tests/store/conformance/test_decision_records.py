"""A decision record is stored with its job, gets the outcome, and is kept independently of the job."""

import asyncio

import pytest

from gateway.jobs.job_outcome import decode_job_outcome
from gateway.jobs.job_update_types import CancelRequested, OrderFailed
from gateway.store.base import DAY_SECONDS, BudgetExceeded, DuplicateRequest, Retention
from gateway.store.decision_record_pages import DecisionRecordPage, StoredDecisionRecord
from gateway.store.partitions import new_job_id
from providers.faults import FaultKind
from tests.store import job_factory
from tests.store.job_factory import DAY, PRICE, make_decision_record
from tests.store.store_harness import StoreHarness

NEXT_DAY = "2040-05-11"


async def list_all_records(
    harness: StoreHarness, day: str = DAY, team: str | None = None, limit: int = 100
) -> list[StoredDecisionRecord]:
    """Lists every page, each record once, sorted by job id."""
    records, cursor = {}, None
    while True:
        page = await harness.store.list_decision_records(day, team, limit, cursor)
        records |= {record.job_id: record for record in page.records}
        if (cursor := page.next_cursor) is None:
            return [records[job_id] for job_id in sorted(records)]


async def load_record(harness: StoreHarness, job_id: str) -> StoredDecisionRecord:
    record = await harness.store.load_decision_record(job_id)
    assert record is not None
    return record


async def test_record_is_stored_with_its_job(harness: StoreHarness) -> None:
    record = make_decision_record("acme") + "ä".encode()
    job = await harness.create_job(decision_record=record)
    assert await load_record(harness, job.id) == StoredDecisionRecord(job_id=job.id, record=record)


async def test_job_without_record_has_none(harness: StoreHarness) -> None:
    job = await harness.create_settled_job(decision_record=None)
    assert await harness.store.load_decision_record(job.id) is None
    assert await list_all_records(harness) == []
    assert await harness.store.load_decision_record("not an id") is None


async def test_refused_job_has_no_record(harness: StoreHarness) -> None:
    key = job_factory.make_client_key()
    job = await harness.create_job(idempotency=key)
    refused = [harness.make_create_commit(idempotency=key), harness.make_create_commit(day=1)]
    outcomes = await harness.commit_without_effect(*refused)
    assert [type(outcome) for outcome in outcomes] == [DuplicateRequest, BudgetExceeded]
    assert [record.job_id for record in await list_all_records(harness)] == [job.id]


async def test_outcome_is_added_when_the_job_is_settled(harness: StoreHarness) -> None:
    job = await harness.create_job()
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job), job_factory.make_ticket_received())
    assert (await load_record(harness, job.id)).outcome is None
    await harness.apply_updates(job, job_factory.make_images_stored(job))
    stored = await load_record(harness, job.id)
    assert stored.record == make_decision_record("acme")
    assert stored.outcome is not None
    outcome = decode_job_outcome(stored.outcome)
    assert (outcome.state, outcome.delivered, outcome.captured, outcome.orphan) == ("completed", 1, PRICE, 0)
    assert [(attempt.seller, attempt.fault, attempt.cost) for attempt in outcome.attempts] == [("runapi", None, PRICE)]


async def test_correction_after_settlement_replaces_the_outcome(harness: StoreHarness) -> None:
    job = await harness.create_job()
    lost = OrderFailed(attempt=1, fault=FaultKind.RESPONSE_LOST)
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job), lost)
    assert job.is_settled
    before = decode_job_outcome((await load_record(harness, job.id)).outcome or b"")
    assert (before.suspected, before.orphan) == (PRICE, 0)
    await harness.apply_updates(job, OrderFailed(attempt=1, fault=FaultKind.ORDER_FAILED))
    stored = await load_record(harness, job.id)
    after = decode_job_outcome(stored.outcome or b"")
    assert (after.suspected, after.orphan, stored.record) == (0, 0, make_decision_record("acme"))


async def test_record_outlives_its_job(harness: StoreHarness) -> None:
    job = await harness.create_settled_job()
    record = await load_record(harness, job.id)
    harness.advance_time(8 * DAY_SECONDS)
    assert await harness.store.list_jobs_to_clean_up() == (job.id,)
    await harness.store.delete_job(job.id)
    await harness.store.delete_expired()
    assert await harness.store.load_job(job.id) is None
    assert await load_record(harness, job.id) == record
    assert await list_all_records(harness) == [record]


async def test_record_is_kept_for_ninety_days_after_its_day(harness: StoreHarness) -> None:
    job = await harness.create_settled_job()
    harness.advance_time(90.4 * DAY_SECONDS)
    await harness.store.delete_expired()
    assert (await load_record(harness, job.id)).job_id == job.id
    harness.advance_time(0.2 * DAY_SECONDS)
    await harness.store.delete_expired()
    assert await harness.store.load_decision_record(job.id) is None
    assert await list_all_records(harness) == []


async def test_retention_of_records_is_configurable(harness: StoreHarness) -> None:
    await harness.reopen(retention=Retention(decisions=2 * DAY_SECONDS))
    job = await harness.create_job()
    harness.advance_time(2.4 * DAY_SECONDS)
    await harness.store.delete_expired()
    assert await load_record(harness, job.id)
    harness.advance_time(0.2 * DAY_SECONDS)
    await harness.store.delete_expired()
    assert await harness.store.load_decision_record(job.id) is None
    assert await harness.store.load_job(job.id) == job


async def test_outcome_after_the_end_of_the_record_is_dropped(harness: StoreHarness) -> None:
    await harness.reopen(retention=Retention(decisions=DAY_SECONDS))
    job = await harness.create_job()
    harness.advance_time(3 * DAY_SECONDS)
    await harness.store.delete_expired()
    await harness.apply_updates(job, CancelRequested())
    assert await harness.store.load_decision_record(job.id) is None
    assert await list_all_records(harness) == []


async def test_records_are_listed_by_day_and_team(harness: StoreHarness) -> None:
    neighbours = job_factory.pick_teams_of_one_partition(2)
    teams = (*neighbours, "another")
    jobs = {team: [await harness.create_job(team) for _ in range(2)] for team in teams}
    harness.advance_time(DAY_SECONDS)
    later = await harness.create_settled_job()
    for team in teams:
        listed = await list_all_records(harness, team=team)
        assert [record.job_id for record in listed] == sorted(job.id for job in jobs[team])
    assert len(await list_all_records(harness)) == 6
    assert [record.job_id for record in await list_all_records(harness, NEXT_DAY)] == [later.id]
    assert await list_all_records(harness, "2040-05-12") == []


@pytest.mark.parametrize("limit", [1, 7, 1_000])
async def test_pages_contain_every_record_with_its_outcome(harness: StoreHarness, limit: int) -> None:
    # Their records are too large for the compact form in which Redis returns a small hash as a whole.
    long_record = make_decision_record("acme")[:-1] + b',"more":"' + b"x" * 200 + b'"}'
    settled = [await harness.create_settled_job(decision_record=long_record) for _ in range(8)]
    await asyncio.gather(*(harness.create_job("another") for _ in range(8)))
    records = await list_all_records(harness, limit=limit)
    assert len(records) == 16
    assert {record.job_id for record in records if record.outcome} == {job.id for job in settled}
    first_page = await harness.store.list_decision_records(DAY, limit=limit)
    assert (first_page.next_cursor is None) == (limit == 1_000)


@pytest.mark.parametrize("cursor", ["", "x", "64:0", "0:x", "job_00", "1:2:3", "-1:0"])
async def test_invalid_cursor_is_refused(harness: StoreHarness, cursor: str) -> None:
    with pytest.raises(ValueError, match="Invalid cursor"):
        await harness.store.list_decision_records(DAY, cursor=cursor)


async def test_record_belongs_to_the_day_of_its_job_id(harness: StoreHarness) -> None:
    """A job whose inputs were stored at midnight is found although it was created on the next day."""
    late_id = new_job_id("acme", now=lambda: harness.now + DAY_SECONDS / 2 - 0.001)
    harness.advance_time(DAY_SECONDS / 2 + 60.0)
    job = await harness.create_settled_job(id=late_id)
    assert (await load_record(harness, job.id)).outcome
    assert [record.job_id for record in await list_all_records(harness)] == [late_id]
    assert await list_all_records(harness, NEXT_DAY) == []


async def test_day_without_jobs_has_an_empty_page(harness: StoreHarness) -> None:
    assert await harness.store.list_decision_records(DAY) == DecisionRecordPage((), None)


async def test_repeated_commit_changes_no_record(harness: StoreHarness) -> None:
    commit = harness.make_create_commit()
    await harness.apply_commit(commit)
    await harness.commit_without_effect(commit)
