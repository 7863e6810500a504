"""Jobs that a newer version has written into the same tables: this one leaves them alone and serves all others."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from gateway.jobs.job import Job
from gateway.store.base import Applied, StoreError
from tests.store import orders
from tests.store.sqlite.helping import TEAM, opened


def test_a_job_that_cannot_be_read_is_left_alone_and_told_of(tmp_path: Path) -> None:
    path, clock = tmp_path / "jobs.db", orders.Clock()
    strange, known = orders.acceptance(clock.now), orders.acceptance(clock.now + 1)

    async def accepting() -> None:
        async with opened(path, clock=clock) as store:
            assert set(await orders.together(store.commit(commit) for commit in (strange, known))) == {Applied()}

    async def story() -> None:
        async with opened(path, clock=clock) as store:
            assert store.warnings == ()
            clock.now += 60
            assert await store.claim(1) == ()
            assert [claimed.job for claimed in await store.claim(1)] == [known.job]
            with pytest.raises(StoreError, match="cannot be read by this version"):
                await store.load(strange.job.id)
            assert (await store.list(TEAM)).jobs == (known.job,)
            assert strange.job.id in " ".join(store.warnings)
            with pytest.raises(StoreError, match="cannot be read by this version"):
                await store.audit(0)

    asyncio.run(accepting())
    before = rewritten(path, strange.job)
    asyncio.run(story())
    assert content(path, strange.job) == before


def rewritten(path: Path, job: Job) -> list[object]:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE jobs SET blob = replace(blob, 'created', 'made') WHERE id = ?", (job.id,))
        # The first to be claimed, so that it would be in everybody's way.
        connection.execute("UPDATE due SET at = at - 1 WHERE job = ?", (job.id,))
        connection.commit()
    return content(path, job)


def content(path: Path, job: Job) -> list[object]:
    """The job as it is saved, and that it is due some time."""
    with closing(sqlite3.connect(path)) as connection:
        question = "SELECT jobs.*, due.job FROM jobs JOIN due ON due.job = jobs.id WHERE jobs.id = ?"
        return list(connection.execute(question, (job.id,)).fetchone())


def test_a_question_that_failed_half_way_does_not_keep_the_reader_in_the_past(tmp_path: Path) -> None:
    path, clock = tmp_path / "jobs.db", orders.Clock()

    async def story() -> None:
        async with opened(path, clock=clock) as store:
            with closing(sqlite3.connect(path)) as connection:
                row = (orders.DAY, TEAM, b"strange")
                connection.executemany("INSERT INTO ledger (day, team, entry) VALUES (?, ?, ?)", [row, row])
                connection.commit()
            with pytest.raises(msgspec.MsgspecError) as kept:
                await store.ledger(orders.DAY)
            commit = orders.acceptance(clock.now)
            assert await store.commit(commit) == Applied()
            assert await store.load(commit.job.id) == commit.job
            assert kept.value.__traceback__ is not None

    asyncio.run(story())
