"""Buys one job after the other, so many side by side, and says each time what is saved, until it is killed."""

import asyncio
import os
import sys
import time
from pathlib import Path

from gateway.jobs.commit import Commit
from gateway.store.base import Applied
from gateway.store.sqlite import SqliteStore
from tests.store import orders
from tests.store.sqlite.helping import TEAM


async def saved(store: SqliteStore, commit: Commit) -> None:
    assert await store.commit(commit) == Applied()
    # Past every buffer of ours: what was said was saved.
    os.write(1, f"{commit.job.id} {commit.job.version}\n".encode())


async def buy(store: SqliteStore) -> None:
    while True:
        commit = orders.acceptance(time.time(), TEAM, webhook=True, documents={"request": b"r" * 700})
        await saved(store, commit)
        for happening in (orders.opened(commit.job), orders.ticket(), orders.delivered(commit.job)):
            commit = orders.changed(commit.job, happening, time.time())
            await saved(store, commit)


async def main(path: Path, side_by_side: int) -> None:
    store = await SqliteStore(path).open()
    await asyncio.gather(*(buy(store) for _ in range(side_by_side)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
