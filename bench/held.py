"""Many jobs that sellers sit on, all waited for: what one process needs. `python -m bench.held [jobs] [seconds]`

Half of the orders keep a connection to their seller, the others are asked about; every caller keeps one to us. All end
at the same moment, and every answer holds its picture.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import httpx
from msgspec import Struct

from tests import vendors
from tests.chaos import configs
from tests.chaos.clients import body
from tests.chaos.gateways import KEY, Gateway, gateway

JOBS, SECONDS = 1_000, 20.0
LONGEST_SECONDS = 120.0


class Held(Struct, frozen=True, kw_only=True):
    """Megabytes as the system counts them: before, with `at_once` jobs in progress, at most. `answers` by status."""

    at_once: int
    before: float
    during: float
    peak: float
    files: int
    seconds: float
    answers: dict[int, int]
    pictures: int

    def shown(self) -> str:
        return (
            f"{self.at_once} at once; resident {self.before:.0f} MB before, {self.during:.0f} MB with these, "
            f"{self.peak:.0f} MB at most; {self.files} open files; {self.seconds:.1f} s until the last of "
            f"{self.pictures} pictures"
        )


def hold(at: Gateway, jobs: int, seconds: float) -> Held:
    """The sellers take so many seconds already."""
    return asyncio.run(_hold(at, jobs, seconds))


async def _hold(at: Gateway, jobs: int, seconds: float) -> Held:
    before, began = at.memory_mb("VmRSS"), time.monotonic()
    limits = httpx.Limits(max_connections=jobs, max_keepalive_connections=0)
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(
        base_url=at.url, headers=headers, limits=limits, timeout=LONGEST_SECONDS + seconds, trust_env=False
    ) as client:
        asked = [asyncio.create_task(_ask(client, number)) for number in range(jobs)]
        most = await _at_most(at, jobs, asked)
        answers = [await one for one in asked]
    statuses = [status for status, _ in answers]
    return Held(
        before=before,
        at_once=int(most["jobs"]),
        during=most["memory"],
        peak=at.memory_mb("VmHWM"),
        files=int(most["files"]),
        seconds=time.monotonic() - began,
        answers={status: statuses.count(status) for status in set(statuses)},
        pictures=sum(has_picture for _, has_picture in answers),
    )


async def _ask(client: httpx.AsyncClient, number: int) -> tuple[int, bool]:
    seller = configs.SELLERS[number % len(configs.SELLERS)]
    answer = await client.post("/v1/images/generations", json=body(f"held-{number}", seller))
    return answer.status_code, answer.is_success and len(answer.json()["data"]) == 1


async def _at_most(at: Gateway, jobs: int, asked: "list[asyncio.Task[tuple[int, bool]]]") -> dict[str, float]:
    """The most jobs that were in progress at once before any had ended, and what they took."""
    most = {"jobs": 0.0, "memory": 0.0, "files": 0.0}
    while most["jobs"] < jobs and not any(one.done() for one in asked):
        in_progress = await asyncio.to_thread(at.metric, "igw_jobs_in_flight")
        counts = await asyncio.to_thread(at.counts)
        most = {"jobs": in_progress, "memory": at.memory_mb("VmRSS"), "files": counts["files"]}
    return most


def main(jobs: int = JOBS, seconds: float = SECONDS) -> None:
    with vendors.running() as sandbox, tempfile.TemporaryDirectory() as folder:
        sandbox.latency(seconds)
        config = configs.write(Path(folder) / "config", sandbox.url, expected=seconds)
        with gateway(Path(folder) / "gateway", config) as one:
            print(f"{jobs} jobs, held {seconds:g} s: {hold(one, jobs, seconds).shown()}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
