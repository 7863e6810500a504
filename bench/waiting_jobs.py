"""Measures memory and files of one process with many waiting jobs. `python -m bench.waiting_jobs [jobs] [seconds]`

Half of the orders hold a connection to their seller, the others are polled; every client holds a connection to the
gateway. All orders finish at the same moment, and every response contains its image.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import httpx
from msgspec import Struct

from tests.chaos import chaos_config
from tests.chaos.persistent_clients import make_job_body
from tests.harness import sandbox_runner
from tests.harness.gateway_process import API_KEY, GatewayProcess, run_replica

JOBS, SECONDS = 1_000, 20.0
TIMEOUT_SECONDS = 120.0


class ProcessUsage(Struct, frozen=True, kw_only=True):
    """Resident memory before, with `concurrent_jobs` jobs in progress, and at its peak; responses by status."""

    concurrent_jobs: int
    before_mb: float
    during_mb: float
    peak_mb: float
    open_files: int
    seconds: float
    status_counts: dict[int, int]
    images: int

    def render(self) -> str:
        return (
            f"{self.concurrent_jobs} at once; resident {self.before_mb:.0f} MB before, "
            f"{self.during_mb:.0f} MB with them, {self.peak_mb:.0f} MB at most; "
            f"{self.open_files} open files; {self.seconds:.1f} s until the last of {self.images} images"
        )


def measure_waiting_jobs(target: GatewayProcess, jobs: int, seconds: float) -> ProcessUsage:
    """Measures the process while `jobs` requests wait. The sellers' latency must already be set to `seconds`."""
    return asyncio.run(_measure_waiting_jobs(target, jobs, seconds))


async def _measure_waiting_jobs(target: GatewayProcess, jobs: int, seconds: float) -> ProcessUsage:
    before_mb, started_at = target.read_memory_mb("VmRSS"), time.monotonic()
    limits = httpx.Limits(max_connections=jobs, max_keepalive_connections=0)
    headers = {"authorization": f"Bearer {API_KEY}"}
    async with httpx.AsyncClient(
        base_url=target.url, headers=headers, limits=limits, timeout=TIMEOUT_SECONDS + seconds, trust_env=False
    ) as client:
        tasks = [asyncio.create_task(_send_order(client, number)) for number in range(jobs)]
        peak = await _sample_peak(target, jobs, tasks)
        results = [await task for task in tasks]
    statuses = [status for status, _ in results]
    return ProcessUsage(
        before_mb=before_mb,
        concurrent_jobs=int(peak["jobs"]),
        during_mb=peak["memory"],
        peak_mb=target.read_memory_mb("VmHWM"),
        open_files=int(peak["files"]),
        seconds=time.monotonic() - started_at,
        status_counts={status: statuses.count(status) for status in set(statuses)},
        images=sum(has_image for _, has_image in results),
    )


async def _send_order(client: httpx.AsyncClient, number: int) -> tuple[int, bool]:
    seller = chaos_config.SELLERS[number % len(chaos_config.SELLERS)]
    response = await client.post("/v1/images/generations", json=make_job_body(f"waiting-{number}", seller))
    return response.status_code, response.is_success and len(response.json()["data"]) == 1


async def _sample_peak(
    target: GatewayProcess, jobs: int, tasks: "list[asyncio.Task[tuple[int, bool]]]"
) -> dict[str, float]:
    """Returns the peak of jobs in progress before any finished, with memory and files at that time."""
    peak = {"jobs": 0.0, "memory": 0.0, "files": 0.0}
    while peak["jobs"] < jobs and not any(task.done() for task in tasks):
        in_progress = await asyncio.to_thread(target.read_metric, "igw_jobs_in_flight")
        counts = await asyncio.to_thread(target.count_resources)
        peak = {"jobs": in_progress, "memory": target.read_memory_mb("VmRSS"), "files": counts["files"]}
    return peak


def main(jobs: int = JOBS, seconds: float = SECONDS) -> None:
    with sandbox_runner.run_sandbox() as sandbox, tempfile.TemporaryDirectory() as folder:
        sandbox.set_latency(seconds)
        config = chaos_config.write_config(Path(folder) / "config", sandbox.url, expected_seconds=seconds)
        with run_replica(Path(folder) / "gateway", config) as target:
            print(f"{jobs} jobs, each waiting {seconds:g} s: {measure_waiting_jobs(target, jobs, seconds).render()}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
