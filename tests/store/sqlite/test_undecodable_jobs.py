"""Jobs of a newer version in the same tables stay unchanged, and all other jobs are processed."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from gateway.jobs.job import Job
from gateway.store.base import Applied, StoreError
from tests.harness.manual_clock import ManualClock
from tests.store import job_factory
from tests.store.sqlite.sqlite_stores import TEAM, open_store


def test_undecodable_job_is_skipped_and_reported(tmp_path: Path) -> None:
    path, clock = tmp_path / "jobs.db", ManualClock(job_factory.NOON)
    undecodable, known = job_factory.make_create_commit(clock.now), job_factory.make_create_commit(clock.now + 1)

    async def create_jobs() -> None:
        async with open_store(path, clock=clock) as store:
            assert set(await job_factory.gather_all(store.commit(commit) for commit in (undecodable, known))) == {
                Applied()
            }

    async def scenario() -> None:
        async with open_store(path, clock=clock) as store:
            assert store.warnings == ()
            clock.now += 60
            assert await store.claim_jobs(1) == ()
            assert [claimed.job for claimed in await store.claim_jobs(1)] == [known.job]
            with pytest.raises(StoreError, match="cannot be read by this version"):
                await store.load_job(undecodable.job.id)
            assert (await store.list_jobs(TEAM)).jobs == (known.job,)
            assert undecodable.job.id in " ".join(store.warnings)
            with pytest.raises(StoreError, match="cannot be read by this version"):
                await store.audit(0)

    asyncio.run(create_jobs())
    before = make_undecodable(path, undecodable.job)
    asyncio.run(scenario())
    assert read_job_row(path, undecodable.job) == before


def make_undecodable(path: Path, job: Job) -> list[object]:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "UPDATE jobs SET encoded_job = replace(encoded_job, 'created_at', 'made_at') WHERE id = ?", (job.id,)
        )
        # Due first, so that it could block the other jobs.
        connection.execute("UPDATE due SET due_at = due_at - 1 WHERE job_id = ?", (job.id,))
        connection.commit()
    return read_job_row(path, job)


def read_job_row(path: Path, job: Job) -> list[object]:
    """Returns the stored job, and asserts that it has a due time."""
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT jobs.*, due.job_id FROM jobs JOIN due ON due.job_id = jobs.id WHERE jobs.id = ?"
        return list(connection.execute(query, (job.id,)).fetchone())


def test_failed_query_does_not_keep_an_old_snapshot(tmp_path: Path) -> None:
    path, clock = tmp_path / "jobs.db", ManualClock(job_factory.NOON)

    async def scenario() -> None:
        async with open_store(path, clock=clock) as store:
            with closing(sqlite3.connect(path)) as connection:
                row = (job_factory.DAY, TEAM, b"strange")
                connection.executemany("INSERT INTO ledger (day, team, entry) VALUES (?, ?, ?)", [row, row])
                connection.commit()
            with pytest.raises(msgspec.MsgspecError) as raised:
                await store.list_ledger_entries(job_factory.DAY)
            commit = job_factory.make_create_commit(clock.now)
            assert await store.commit(commit) == Applied()
            assert await store.load_job(commit.job.id) == commit.job
            assert raised.value.__traceback__ is not None

    asyncio.run(scenario())
