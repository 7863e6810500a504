"""A store for one story, child processes that buy until they are killed, and whether what is kept fits together."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from gateway.jobs.commit import windows_of
from gateway.jobs.job import Job
from gateway.store.sqlite import SqliteStore

ROOT = Path(__file__).parents[3]
TEAM = "acme"


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore(path, **options).open()
    try:
        yield store
    finally:
        await store.close()


def told(path: Path, story: Callable[[SqliteStore], Awaitable[None]], **options: Any) -> None:
    """The whole of a test that needs one store."""

    async def whole() -> None:
        async with opened(path, **options) as store:
            await story(store)

    asyncio.run(whole())


@contextmanager
def child(script: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", f"tests.store.sqlite.{script}", *(str(one) for one in arguments)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def bought_until_killed(path: Path, side_by_side: int, lines: int) -> dict[str, int]:
    """What a process was told to have saved before `kill -9`: jobs, and their versions."""
    acknowledged: dict[str, int] = {}
    with child("buying", path, side_by_side) as process:
        assert process.stdout
        for number, line in enumerate(process.stdout, 1):
            job, version = line.split()
            acknowledged[job] = int(version)
            if number == lines:
                process.kill()
    assert len(acknowledged) > 0
    return acknowledged


async def all_jobs(store: SqliteStore) -> list[Job]:
    jobs: list[Job] = []
    after = None
    while True:
        page = await store.list(TEAM, 100, after)
        jobs += page.jobs
        if (after := page.more) is None:
            return jobs


async def assert_whole(store: SqliteStore) -> list[Job]:
    """Each job is there with everything that belongs to its version, and with nothing more."""
    assert (await store.audit(0, repair=False)).violations == 0
    jobs = await all_jobs(store)
    entries = [entry for day in {windows_of(job.created)[0] for job in jobs} for entry in await store.ledger(day)]
    for job in jobs:
        numbers = [milestone.number for milestone in await store.milestones(job.id)]
        assert numbers == list(range(1, job.milestones + 1))
        assert list(await store.documents(job.id, "request")) == ["request"]
        assert sum(entry.amount for entry in entries if entry.job == job.id) == job.captured
    return jobs
