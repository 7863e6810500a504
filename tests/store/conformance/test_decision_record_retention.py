"""The decision records of a team with a time of its own are deleted after it, and those of other teams are kept."""

import pytest

from gateway.jobs.job_update_types import CancelRequested
from gateway.store import team_retention
from gateway.store.base import DAY_SECONDS, Retention
from gateway.store.partitions import new_job_id
from gateway.store.team_retention import ExpiredTeamDays, make_expired_decision_records
from tests.store import job_factory
from tests.store.store_harness import StoreHarness

ACME, NEIGHBOUR = job_factory.pick_teams_of_one_partition(2)
# The clock begins at noon. A day counts from its end.
SHORTLY_BEFORE_THE_END, SHORTLY_AFTER_THE_END = 0.4 * DAY_SECONDS, 0.6 * DAY_SECONDS


def make_old_records(harness: StoreHarness, days: dict[str, float]) -> ExpiredTeamDays:
    """`days` are those of the configuration, and may change."""
    return make_expired_decision_records(
        harness.store, lambda: {team: count * DAY_SECONDS for team, count in days.items()}, lambda: harness.now
    )


async def has_record(harness: StoreHarness, job_id: str) -> bool:
    return await harness.store.load_decision_record(job_id) is not None


async def test_records_of_given_jobs_are_deleted(harness: StoreHarness) -> None:
    deleted = [await harness.create_job() for _ in range(2)]
    kept = [await harness.create_job(ACME), await harness.create_job(NEIGHBOUR)]
    harness.advance_time(DAY_SECONDS)
    deleted.append(await harness.create_settled_job("another"))
    for _ in range(2):
        await harness.store.delete_decision_records(*(job.id for job in deleted))
        assert [await has_record(harness, job.id) for job in (*deleted, *kept)] == [False] * 3 + [True] * 2
    assert await harness.store.load_job(deleted[0].id) == deleted[0]


async def test_outcome_after_the_deletion_creates_no_record(harness: StoreHarness) -> None:
    job = await harness.create_job()
    await harness.store.delete_decision_records(job.id)
    await harness.apply_updates(job, CancelRequested())
    assert not await has_record(harness, job.id)
    assert (await harness.store.list_decision_records(job_factory.DAY)).records == ()


async def test_repeated_creation_after_the_deletion_creates_no_record(harness: StoreHarness) -> None:
    commit = harness.make_create_commit()
    await harness.apply_commit(commit)
    await harness.store.delete_decision_records(commit.job.id)
    await harness.store.commit(commit)
    assert not await has_record(harness, commit.job.id)


async def test_only_old_records_of_the_team_are_deleted(harness: StoreHarness) -> None:
    old_records = make_old_records(harness, {ACME: 2})
    old, other = await harness.create_settled_job(ACME), await harness.create_settled_job(NEIGHBOUR)
    harness.advance_time(DAY_SECONDS)
    newer = await harness.create_settled_job(ACME)
    harness.advance_time(DAY_SECONDS + SHORTLY_BEFORE_THE_END)
    await old_records.delete()
    assert [await has_record(harness, job.id) for job in (old, newer, other)] == [True, True, True]
    harness.advance_time(SHORTLY_AFTER_THE_END - SHORTLY_BEFORE_THE_END)
    await old_records.delete()
    assert [await has_record(harness, job.id) for job in (old, newer, other)] == [False, True, True]
    harness.advance_time(DAY_SECONDS)
    await old_records.delete()
    assert [await has_record(harness, job.id) for job in (old, newer, other)] == [False, False, True]


@pytest.mark.parametrize("batch_size", [1, 3])
async def test_many_records_of_a_day_are_deleted_in_batches(
    harness: StoreHarness, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(team_retention, "DELETE_BATCH_RECORDS", batch_size)
    # Too large for the compact form in which Redis returns a small hash as a whole.
    jobs = {
        team: [
            await harness.create_job(
                team, decision_record=job_factory.make_decision_record(team)[:-1] + b',"more":"' + b"x" * 200 + b'"}'
            )
            for _ in range(8)
        ]
        for team in (ACME, NEIGHBOUR)
    }
    harness.advance_time(2 * DAY_SECONDS)
    await make_old_records(harness, {ACME: 1}).delete()
    remaining = (await harness.store.list_decision_records(job_factory.DAY, limit=1_000)).records
    assert {record.job_id for record in remaining} == {job.id for job in jobs[NEIGHBOUR]}


async def test_shorter_time_applies_to_earlier_records(harness: StoreHarness) -> None:
    """A longer one restores nothing, and applies to later records."""
    days = {ACME: 20.0}
    old_records, job = make_old_records(harness, days), await harness.create_settled_job(ACME)
    harness.advance_time(5 * DAY_SECONDS)
    await old_records.delete()
    assert await has_record(harness, job.id)
    days[ACME] = 2.0
    await old_records.delete()
    assert not await has_record(harness, job.id)
    later = await harness.create_settled_job(ACME)
    days[ACME] = 4.0
    harness.advance_time(4 * DAY_SECONDS)
    await old_records.delete()
    assert await has_record(harness, later.id)
    harness.advance_time(DAY_SECONDS)
    await old_records.delete()
    assert not await has_record(harness, later.id)


async def test_record_written_after_the_deletion_of_its_day_is_deleted_later(harness: StoreHarness) -> None:
    """The request of a job may begin before midnight and be accepted when its day has been deleted."""
    old_records = make_old_records(harness, {ACME: 0.01})
    late_id = new_job_id(ACME, now=lambda: harness.now)
    harness.advance_time(SHORTLY_AFTER_THE_END)
    await old_records.delete()
    job = await harness.create_settled_job(ACME, id=late_id)
    await old_records.delete()
    assert await has_record(harness, job.id)
    harness.advance_time(DAY_SECONDS)
    await old_records.delete()
    assert not await has_record(harness, job.id)


async def test_only_newly_expired_days_are_read(harness: StoreHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call begins with the first day that the store keeps."""
    await harness.reopen(retention=Retention(decisions=5 * DAY_SECONDS))
    days: list[str] = []
    list_records = harness.store.list_decision_records

    async def record_day(day: str, *arguments: object) -> object:
        days.append(day)
        return await list_records(day, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(harness.store, "list_decision_records", record_day)
    old_records = make_old_records(harness, {ACME: 2})
    for expected_days in (["2040-05-05", "2040-05-06", "2040-05-07"], []):
        await old_records.delete()
        assert days == expected_days
        days.clear()
    harness.advance_time(DAY_SECONDS)
    await old_records.delete()
    assert days == ["2040-05-07", "2040-05-08"]
