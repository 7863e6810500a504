"""Power, disk and process fail: what was answered is there, what was not is there as a whole or not at all."""

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest

from gateway.store.base import Applied, StoreFull
from gateway.store.sqlite import SqliteStore
from tests.store import orders
from tests.store.sqlite.helping import assert_whole, bought_until_killed, child, opened, told

WAL_HEADER, FRAME = 32, 24 + 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


def test_a_full_disk_refuses_every_commit_whole_and_takes_it_when_there_is_room(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def noted(name: str, **options: bool) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(name, **options)  # type: ignore[call-overload]
        writing.extend([connection] if "mode=rw" in name else [])
        return connection

    monkeypatch.setattr(sqlite3, "connect", noted)

    async def story(store: SqliteStore) -> None:
        known = orders.acceptance(orders.NOON)
        assert await store.commit(known) == Applied()
        (pages,) = writing[0].execute("PRAGMA page_count").fetchone()
        writing[0].execute(f"PRAGMA max_page_count={pages}").fetchone()
        large = {"request": bytes(20_000)}
        refused = [
            orders.acceptance(orders.NOON, documents=large, idempotency=orders.key(str(number))) for number in range(20)
        ]
        for commit in refused:
            with pytest.raises(StoreFull):
                await store.commit(commit)
        assert [await store.load(commit.job.id) for commit in refused] == [None] * 20
        assert await store.load(known.job.id) == known.job
        assert (await store.budget("acme", orders.DAY))[orders.DAY].held == known.job.hold
        await assert_nothing_wrong(store)
        writing[0].execute("PRAGMA max_page_count=1000000").fetchone()
        assert set(await orders.together(store.commit(commit) for commit in refused)) == {Applied()}
        await assert_nothing_wrong(store)

    told(path, story)


async def assert_nothing_wrong(store: SqliteStore) -> None:
    assert (await store.audit(0, repair=False)).violations == 0


def test_a_disk_that_stops_taking_bytes_is_survived(path: Path) -> None:
    """The log cannot grow; what was refused is done when it is sent again."""
    with child("filling", path) as process:
        said, _ = process.communicate(timeout=20)
        assert process.returncode == 0
    (done, refused, wrong), (done_again, refused_again, wrong_again) = (
        (int(number) for number in line.split()) for line in said.splitlines()
    )
    assert done > 0
    assert refused > 0
    assert (done_again, refused_again) == (200, 0)
    assert wrong == wrong_again == 0


@pytest.mark.parametrize("side_by_side", [1, 32])
def test_what_was_acknowledged_survives_kill_9(path: Path, side_by_side: int) -> None:
    acknowledged: dict[str, int] = {}

    async def look(store: SqliteStore) -> None:
        there = {job.id: job.version for job in await assert_whole(store)}
        assert {job for job, version in acknowledged.items() if there.get(job, 0) < version} == set()
        # What was being written when the kill came, and no more.
        ahead = sum(there.values()) - sum(acknowledged.values())
        assert 0 <= ahead <= side_by_side * 3

    for lines in (1, 150, 400):
        acknowledged |= bought_until_killed(path, side_by_side, lines)
        told(path, look)


def test_a_log_that_lost_its_tail_is_missing_whole_commits_only(path: Path, tmp_path: Path) -> None:
    """Power loss on a disk that lied. Whatever is cut off, the commits before it are all there."""
    acknowledged = bought_until_killed(path, 1, 120)
    log = path.with_name("jobs.db-wal")
    size = log.stat().st_size
    versions = []
    for number, cut in enumerate((0, 1, FRAME - 1, FRAME, 5 * FRAME + 100, 20 * FRAME, size // 2, size - WAL_HEADER)):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(path, folder)
        torn = folder / log.name
        torn.write_bytes(log.read_bytes()[: size - cut])
        versions.append(asyncio.run(_versions_in(folder / path.name)))
    assert versions[0] >= sum(acknowledged.values())
    assert versions == sorted(versions, reverse=True)
    # More than the last commit has, and what the kill has interruption_error.
    assert versions[5] < versions[0]
    assert versions[-1] == 0


async def _versions_in(path: Path) -> int:
    async with opened(path) as store:
        return sum(job.version for job in await assert_whole(store))
