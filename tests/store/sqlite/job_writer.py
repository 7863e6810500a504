"""Creates jobs and applies updates, so many at once, and prints each saved version, until it is killed."""

import asyncio
import os
import sys
import time
from pathlib import Path

from gateway.jobs.commit import Commit
from gateway.store.base import Applied
from gateway.store.sqlite import SqliteStore
from tests.store import job_factory
from tests.store.sqlite.sqlite_stores import TEAM


async def commit_and_print(store: SqliteStore, commit: Commit) -> None:
    assert await store.commit(commit) == Applied()
    # Unbuffered: every printed version was saved.
    os.write(1, f"{commit.job.id} {commit.job.version}\n".encode())


async def create_jobs_forever(store: SqliteStore) -> None:
    while True:
        commit = job_factory.make_create_commit(time.time(), TEAM, has_webhook=True, documents={"request": b"r" * 700})
        await commit_and_print(store, commit)
        for update in (
            job_factory.make_attempt_started(commit.job),
            job_factory.make_ticket_received(),
            job_factory.make_images_stored(commit.job),
        ):
            commit = job_factory.make_update_commit(commit.job, update, time.time())
            await commit_and_print(store, commit)


async def main(path: Path, concurrency: int) -> None:
    store = await SqliteStore(path).open()
    await asyncio.gather(*(create_jobs_forever(store) for _ in range(concurrency)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
