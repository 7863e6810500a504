"""Power, disk and process fail: acknowledged commits are stored, others completely or not at all."""

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest

from gateway.store.base import Applied, StoreFull
from gateway.store.sqlite import SqliteStore
from tests.store import job_factory
from tests.store.sqlite.sqlite_stores import (
    assert_consistent,
    create_jobs_until_killed,
    open_store,
    record_connections,
    run_child,
    run_with_store,
)

WAL_HEADER_BYTES, WAL_FRAME_BYTES = 32, 24 + 4096


def test_full_disk_refuses_commits_until_there_is_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connections: dict[bool, sqlite3.Connection] = {}
    record_connections(monkeypatch, lambda name, connection: connections.update({"mode=rw" in name: connection}))

    async def scenario(store: SqliteStore) -> None:
        earlier = job_factory.make_create_commit(job_factory.NOON)
        assert await store.commit(earlier) == Applied()
        (pages,) = connections[True].execute("PRAGMA page_count").fetchone()
        connections[True].execute(f"PRAGMA max_page_count={pages}").fetchone()
        large = {"request": bytes(20_000)}
        refused = [
            job_factory.make_create_commit(
                job_factory.NOON, documents=large, idempotency=job_factory.make_client_key(str(number))
            )
            for number in range(20)
        ]
        for commit in refused:
            with pytest.raises(StoreFull):
                await store.commit(commit)
        assert [await store.load_job(commit.job.id) for commit in refused] == [None] * 20
        assert await store.load_job(earlier.job.id) == earlier.job
        assert (await store.load_balances("acme", job_factory.DAY))[job_factory.DAY].held == earlier.job.hold
        await assert_no_discrepancies(store)
        connections[True].execute("PRAGMA max_page_count=1000000").fetchone()
        assert set(await job_factory.gather_all(store.commit(commit) for commit in refused)) == {Applied()}
        await assert_no_discrepancies(store)

    run_with_store(path, scenario)


async def assert_no_discrepancies(store: SqliteStore) -> None:
    assert (await store.audit(0, repair=False)).discrepancy_count == 0


def test_store_recovers_after_the_disk_was_full(path: Path) -> None:
    """The log cannot grow. Refused commits succeed when they are sent again."""
    with run_child("disk_filler", path) as process:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
    (applied, refused, discrepancies), (applied_later, refused_later, discrepancies_later) = (
        (int(number) for number in line.split()) for line in output.splitlines()
    )
    assert applied > 0
    assert refused > 0
    assert (applied_later, refused_later) == (200, 0)
    assert discrepancies == discrepancies_later == 0


@pytest.mark.parametrize("concurrency", [1, 32])
def test_acknowledged_commits_survive_kill_9(path: Path, concurrency: int) -> None:
    acknowledged: dict[str, int] = {}

    async def check_versions(store: SqliteStore) -> None:
        stored_versions = {job.id: job.version for job in await assert_consistent(store)}
        assert {job for job, version in acknowledged.items() if stored_versions.get(job, 0) < version} == set()
        # The commits that were being written when the process was killed, and no more.
        unacknowledged = sum(stored_versions.values()) - sum(acknowledged.values())
        assert 0 <= unacknowledged <= concurrency * 3

    for lines in (1, 150, 400):
        acknowledged |= create_jobs_until_killed(path, concurrency, lines)
        run_with_store(path, check_versions)


def test_truncated_wal_loses_only_whole_commits(path: Path, tmp_path: Path) -> None:
    """A power loss on a disk that confirmed unfinished writes. All commits before the cut are stored."""
    acknowledged = create_jobs_until_killed(path, 1, 120)
    log = path.with_name("jobs.db-wal")
    size = log.stat().st_size
    versions = []
    for number, cut in enumerate(
        (
            0,
            1,
            WAL_FRAME_BYTES - 1,
            WAL_FRAME_BYTES,
            5 * WAL_FRAME_BYTES + 100,
            20 * WAL_FRAME_BYTES,
            size // 2,
            size - WAL_HEADER_BYTES,
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(path, folder)
        truncated_log = folder / log.name
        truncated_log.write_bytes(log.read_bytes()[: size - cut])
        versions.append(asyncio.run(_sum_job_versions(folder / path.name)))
    assert versions[0] >= sum(acknowledged.values())
    assert versions == sorted(versions, reverse=True)
    # More than the last commit wrote and what the kill interrupted.
    assert versions[5] < versions[0]
    assert versions[-1] == 0


async def _sum_job_versions(path: Path) -> int:
    async with open_store(path) as store:
        return sum(job.version for job in await assert_consistent(store))
