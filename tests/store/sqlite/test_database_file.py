"""The database file: its lock, its checks, and what an unusable file causes."""

import asyncio
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from gateway.store.base import StoreMisconfigured, StoreUnavailable
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.file_inspection import inspect_file
from tests.store import job_factory
from tests.store.sqlite.sqlite_stores import open_store, record_connections, run_child, run_with_store


async def load_unknown_job(store: SqliteStore) -> None:
    assert await store.load_job("job") is None


def open_and_get_error(path: Path) -> str:
    with pytest.raises(StoreMisconfigured) as refused:
        run_with_store(path, load_unknown_job)
    return str(refused.value)


def test_second_process_gets_the_pid_of_the_owner_and_what_to_do(path: Path) -> None:
    with run_child("job_writer", path, 1) as holder:
        assert holder.stdout
        assert holder.stdout.readline()
        message = open_and_get_error(path)
        assert f"in use by process {holder.pid}" in message
        assert "Stop it, or configure another file" in message
    run_with_store(path, load_unknown_job)


def test_rejected_second_store_keeps_the_lock_of_the_first(path: Path) -> None:
    async def scenario() -> None:
        async with open_store(path) as store:
            for _ in range(2):
                with pytest.raises(StoreMisconfigured, match=f"in use by process {os.getpid()}"):
                    await SqliteStore(path).open()
            await load_unknown_job(store)

    asyncio.run(scenario())


def test_symlink_to_the_same_file_is_locked_too(tmp_path: Path, path: Path) -> None:
    (tmp_path / "elsewhere.db").symlink_to(path)

    async def scenario() -> None:
        async with open_store(tmp_path / "elsewhere.db"):
            with pytest.raises(StoreMisconfigured, match="in use"):
                await SqliteStore(path).open()

    asyncio.run(scenario())


def test_folder_and_files_are_created_private(tmp_path: Path) -> None:
    path = tmp_path / "var" / "lib" / "jobs.db"

    async def scenario(store: SqliteStore) -> None:
        await store.commit(job_factory.make_create_commit(job_factory.NOON))
        names = {file.name for file in path.parent.iterdir()}
        assert names == {"jobs.db", "jobs.db-wal", "jobs.db-shm", "jobs.db.lock"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}

    run_with_store(path, scenario)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {file.name for file in path.parent.iterdir()} == {"jobs.db", "jobs.db.lock"}


def test_file_name_may_contain_any_characters(tmp_path: Path) -> None:
    run_with_store(tmp_path / "what? 100% #1 ü.db", load_unknown_job)
    assert (tmp_path / "what? 100% #1 ü.db").exists()


def test_file_of_a_newer_version_is_rejected_unchanged(path: Path) -> None:
    run_with_store(path, load_unknown_job)
    execute_statement(path, "PRAGMA user_version=99")
    before = path.read_bytes()
    assert "written by a newer version" in open_and_get_error(path)
    assert path.read_bytes() == before


def test_database_of_another_program_is_rejected(path: Path) -> None:
    execute_statement(path, "CREATE TABLE recipes (name TEXT)")
    assert "belongs to another program" in open_and_get_error(path)


@pytest.mark.parametrize("content", [b"no database", b"no database" * 1_000])
def test_file_that_is_not_a_database_is_rejected(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "is not an SQLite database" in open_and_get_error(path)
    assert path.read_bytes() == content


def test_damaged_database_is_rejected(path: Path) -> None:
    async def scenario(store: SqliteStore) -> None:
        await asyncio.gather(*(store.commit(job_factory.make_create_commit(job_factory.NOON)) for _ in range(100)))

    run_with_store(path, scenario)
    content = bytearray(path.read_bytes())
    content[8192:40960] = bytes(32768)
    path.write_bytes(content)
    assert "damaged" in open_and_get_error(path)


@pytest.mark.parametrize("size", [0, 1, 50, 100, 4_096, 8_192, -4_096])
def test_inspection_finds_truncated_database(path: Path, size: int) -> None:
    run_with_store(path, load_unknown_job)
    assert inspect_file(path).problems == ()
    path.write_bytes(path.read_bytes()[:size])
    (problem,) = inspect_file(path).problems
    assert problem.loses_jobs
    assert "Restore a backup" in str(problem)


@pytest.mark.parametrize("statement", ["VACUUM", "PRAGMA journal_mode=WAL", "CREATE TABLE notes (text)"])
def test_inspection_finds_database_of_another_program(path: Path, statement: str) -> None:
    execute_statement(path, statement)
    (problem,) = inspect_file(path).problems
    assert problem.loses_jobs
    assert "another program" in problem.message
    assert "Restore a backup" in str(problem)


@pytest.mark.parametrize("unusable_path", ["file/jobs.db", "folder"])
def test_unusable_path_is_rejected(tmp_path: Path, unusable_path: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert "cannot be used" in open_and_get_error(tmp_path / unusable_path)


def test_rejected_store_can_be_opened_after_the_cause_is_fixed(path: Path) -> None:
    execute_statement(path, "CREATE TABLE recipes (name TEXT)")

    async def scenario() -> None:
        store = SqliteStore(path)
        with pytest.raises(StoreMisconfigured):
            await store.open()
        execute_statement(path, "DROP TABLE recipes")
        await store.open()
        await load_unknown_job(store)
        await store.close()

    asyncio.run(scenario())


def test_writer_is_synchronous_and_reader_is_read_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks the connections of the store themselves: `synchronous` is not stored in the file."""
    connections: dict[bool, sqlite3.Connection] = {}
    record_connections(monkeypatch, lambda name, connection: connections.update({"mode=rw" in name: connection}))

    async def scenario(store: SqliteStore) -> None:
        await load_unknown_job(store)
        assert connections[True].execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connections[True].execute("PRAGMA synchronous").fetchone() == (2,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connections[False].execute("DELETE FROM jobs")

    run_with_store(path, scenario)


def test_close_finishes_pending_commits_and_refuses_new_calls(path: Path) -> None:
    async def scenario() -> None:
        store = await SqliteStore(path).open()
        commits = [job_factory.make_create_commit(job_factory.NOON) for _ in range(300)]
        pending = [asyncio.create_task(store.commit(commit)) for commit in commits]
        await asyncio.sleep(0)
        await asyncio.gather(store.close(), store.close())
        assert all(task.done() and task.exception() is None for task in pending)
        for call in (store.load_job("job"), store.claim_jobs(), store.commit(commits[0])):
            with pytest.raises(StoreUnavailable):
                await call
        await store.close()
        async with open_store(path) as again:
            assert [await again.load_job(commit.job.id) for commit in commits] == [commit.job for commit in commits]

    asyncio.run(scenario())


def test_cancelled_close_still_completes(path: Path) -> None:
    async def scenario() -> None:
        store = await SqliteStore(path).open()
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        await store.close()
        async with open_store(path) as again:
            await load_unknown_job(again)

    asyncio.run(scenario())


def execute_statement(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()
