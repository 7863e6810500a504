"""Helpers of SQLite tests: a store for one test, child processes that are killed, and a consistency check."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.jobs.budgets import list_budget_windows
from gateway.jobs.job import Job
from gateway.store.sqlite import SqliteStore

REPOSITORY = Path(__file__).parents[3]
TEAM = "acme"


@asynccontextmanager
async def open_store(path: Path, **options: Any) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore(path, **options).open()
    try:
        yield store
    finally:
        await store.close()


def run_with_store(path: Path, scenario: Callable[[SqliteStore], Awaitable[None]], **options: Any) -> None:
    """Opens a store, runs the scenario with it, and closes it."""

    async def run_scenario() -> None:
        async with open_store(path, **options) as store:
            await scenario(store)

    asyncio.run(run_scenario())


def record_connections(
    monkeypatch: pytest.MonkeyPatch, on_connect: Callable[[str, sqlite3.Connection], object]
) -> None:
    """Calls `on_connect` with the name and the connection whenever a database is opened."""
    connect = sqlite3.connect

    def connect_and_record(name: str, **options: bool) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(name, **options)  # type: ignore[call-overload]
        on_connect(name, connection)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_and_record)


@contextmanager
def run_child(script: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", f"tests.store.sqlite.{script}", *(str(argument) for argument in arguments)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def create_jobs_until_killed(path: Path, concurrency: int, line_count: int) -> dict[str, int]:
    """Kills a writing process and returns the versions of the jobs that it had saved before."""
    acknowledged: dict[str, int] = {}
    with run_child("job_writer", path, concurrency) as process:
        assert process.stdout
        for number, line in enumerate(process.stdout, 1):
            job_id, version = line.split()
            acknowledged[job_id] = int(version)
            if number == line_count:
                process.kill()
    assert len(acknowledged) > 0
    return acknowledged


async def list_all_jobs(store: SqliteStore) -> list[Job]:
    jobs: list[Job] = []
    position = None
    while True:
        page = await store.list_jobs(TEAM, 100, position)
        jobs += page.jobs
        if (position := page.next_position) is None:
            return jobs


async def assert_consistent(store: SqliteStore) -> list[Job]:
    """Asserts that each job is stored with everything that belongs to its version, and nothing more."""
    assert (await store.audit(0, repair=False)).discrepancy_count == 0
    jobs = await list_all_jobs(store)
    entries = [
        entry
        for day in {list_budget_windows(job.created_at)[0] for job in jobs}
        for entry in await store.list_ledger_entries(day)
    ]
    for job in jobs:
        numbers = [milestone.number for milestone in await store.list_milestones(job.id)]
        assert numbers == list(range(1, job.milestone_count + 1))
        assert list(await store.load_documents(job.id, "request")) == ["request"]
        assert sum(entry.amount for entry in entries if entry.job == job.id) == job.captured_amount
    return jobs
