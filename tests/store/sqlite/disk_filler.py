"""Commits until a file size limit is reached, then lifts it. Prints the outcome of each commit."""

import asyncio
import resource
import sys
from collections import Counter
from pathlib import Path

from gateway.jobs.commit import Commit
from gateway.store.base import StoreUnavailable
from gateway.store.sqlite import SqliteStore
from tests.store import job_factory

MAX_FILE_BYTES = 600_000


async def try_commit(store: SqliteStore, commit: Commit) -> str:
    try:
        return type(await store.commit(commit)).__name__
    except StoreUnavailable as error:
        return type(error).__name__


async def main(path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    store = await SqliteStore(path).open()
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, hard))
    commits = [
        job_factory.make_create_commit(job_factory.NOON, documents={"request": b"r" * 5_000}) for _ in range(200)
    ]
    for _ in range(2):
        outcomes: Counter[str] = Counter()
        for start in range(0, len(commits), 10):
            outcomes.update(
                [await outcome for outcome in [try_commit(store, commit) for commit in commits[start : start + 10]]]
            )
        print(
            outcomes["Applied"],
            outcomes.total() - outcomes["Applied"],
            (await store.audit(0)).discrepancy_count,
            flush=True,
        )
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
