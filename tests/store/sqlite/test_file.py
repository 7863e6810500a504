"""Whose the file is, and whether it is fit to hold jobs."""

import asyncio
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from gateway.store.base import StoreUnavailable, StoreUnfit
from gateway.store.sqlite import SqliteStore
from tests.store import orders
from tests.store.sqlite.helping import child, opened, told


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


async def nothing(store: SqliteStore) -> None:
    assert await store.load("job") is None


def refusal(path: Path) -> str:
    with pytest.raises(StoreUnfit) as refused:
        told(path, nothing)
    return str(refused.value)


def test_a_second_process_is_told_who_holds_the_file_and_what_to_do(path: Path) -> None:
    with child("buying", path, 1) as holder:
        assert holder.stdout
        assert holder.stdout.readline()
        said = refusal(path)
        assert f"in use by process {holder.pid}" in said
        assert "stop that one" in said
    told(path, nothing)


def test_a_refused_second_store_leaves_the_first_ones_lock_alone(path: Path) -> None:
    async def story() -> None:
        async with opened(path) as store:
            for _ in range(2):
                with pytest.raises(StoreUnfit, match=f"in use by process {os.getpid()}"):
                    await SqliteStore(path).open()
            await nothing(store)

    asyncio.run(story())


def test_another_name_for_the_same_file_is_no_way_around_the_lock(tmp_path: Path, path: Path) -> None:
    (tmp_path / "elsewhere.db").symlink_to(path)

    async def story() -> None:
        async with opened(tmp_path / "elsewhere.db"):
            with pytest.raises(StoreUnfit, match="in use"):
                await SqliteStore(path).open()

    asyncio.run(story())


def test_folder_and_files_are_made_for_us_alone(tmp_path: Path) -> None:
    path = tmp_path / "var" / "lib" / "jobs.db"

    async def story(store: SqliteStore) -> None:
        await store.commit(orders.acceptance(orders.NOON))
        names = {file.name for file in path.parent.iterdir()}
        assert names == {"jobs.db", "jobs.db-wal", "jobs.db-shm", "jobs.db.lock"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}

    told(path, story)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {file.name for file in path.parent.iterdir()} == {"jobs.db", "jobs.db.lock"}


def test_a_name_may_hold_any_letter(tmp_path: Path) -> None:
    told(tmp_path / "what? 100% #1 ü.db", nothing)
    assert (tmp_path / "what? 100% #1 ü.db").exists()


def test_a_newer_version_s_file_is_refused_and_left_as_it_is(path: Path) -> None:
    told(path, nothing)
    changed(path, "PRAGMA user_version=99")
    before = path.read_bytes()
    assert "made by a newer version" in refusal(path)
    assert path.read_bytes() == before


def test_another_program_s_database_is_refused(path: Path) -> None:
    changed(path, "CREATE TABLE recipes (name TEXT)")
    assert "another program's" in refusal(path)


@pytest.mark.parametrize("content", [b"no database", b"no database" * 1_000])
def test_a_file_that_is_no_database_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "no SQLite database" in refusal(path)
    assert path.read_bytes() == content


def test_a_damaged_database_is_refused(path: Path) -> None:
    async def story(store: SqliteStore) -> None:
        await asyncio.gather(*(store.commit(orders.acceptance(orders.NOON)) for _ in range(100)))

    told(path, story)
    content = bytearray(path.read_bytes())
    content[8192:40960] = bytes(32768)
    path.write_bytes(content)
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("where", ["file/jobs.db", "folder"])
def test_a_place_that_cannot_hold_a_file_is_refused(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert "cannot be used" in refusal(tmp_path / where)


def test_a_refused_store_can_be_opened_when_the_reason_is_gone(path: Path) -> None:
    changed(path, "CREATE TABLE recipes (name TEXT)")

    async def story() -> None:
        store = SqliteStore(path)
        with pytest.raises(StoreUnfit):
            await store.open()
        changed(path, "DROP TABLE recipes")
        await store.open()
        await nothing(store)
        await store.close()

    asyncio.run(story())


def test_what_is_answered_is_on_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of the very connection that writes: `synchronous` is not kept in the file."""
    connections: dict[bool, sqlite3.Connection] = {}
    connect = sqlite3.connect

    def noted(name: str, **options: bool) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(name, **options)  # type: ignore[call-overload]
        connections["mode=rw" in name] = connection
        return connection

    monkeypatch.setattr(sqlite3, "connect", noted)

    async def story(store: SqliteStore) -> None:
        await nothing(store)
        assert connections[True].execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connections[True].execute("PRAGMA synchronous").fetchone() == (2,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connections[False].execute("DELETE FROM jobs")

    told(path, story)


def test_closing_finishes_what_was_sent_and_ends_everything_else(path: Path) -> None:
    async def story() -> None:
        store = await SqliteStore(path).open()
        commits = [orders.acceptance(orders.NOON) for _ in range(300)]
        sent = [asyncio.create_task(store.commit(commit)) for commit in commits]
        await asyncio.sleep(0)
        await asyncio.gather(store.close(), store.close())
        assert all(task.done() and task.exception() is None for task in sent)
        for call in (store.load("job"), store.claim(), store.commit(commits[0])):
            with pytest.raises(StoreUnavailable):
                await call
        await store.close()
        async with opened(path) as again:
            assert [await again.load(commit.job.id) for commit in commits] == [commit.job for commit in commits]

    asyncio.run(story())


def test_a_cancelled_close_goes_on_to_its_end(path: Path) -> None:
    async def story() -> None:
        store = await SqliteStore(path).open()
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        await store.close()
        async with opened(path) as again:
            await nothing(again)

    asyncio.run(story())


def changed(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()
