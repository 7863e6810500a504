"""Measures how long an audit delays the event loop and the reads of the store. `python -m bench.audit_stalls [jobs]`

All jobs are open and belong to one partition. A heartbeat runs in the event loop every two milliseconds, and a job is
loaded every ten milliseconds, while the partition is audited three times. `make bench` runs it.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from gateway.store.base import Store
from gateway.store.partitions import job_partition
from gateway.store.redis import RedisStore
from gateway.store.sqlite import SqliteStore
from tests.store import job_factory, redis_servers

JOB_COUNT, AUDIT_COUNT = 20_000, 3
MAX_STALL_MS = 50.0
CONCURRENT_COMMITS = 200
SCHEDULER_STATISTICS = Path("/proc/thread-self/schedstat")
HEARTBEAT_SECONDS, LOAD_INTERVAL_SECONDS = 0.002, 0.01


async def fill_store(store: Store, job_count: int) -> str:
    """Creates the jobs and returns the id of one of them."""
    job_id = ""
    for _ in range(0, job_count, CONCURRENT_COMMITS):
        commits = [job_factory.make_create_commit(time.time()) for _ in range(CONCURRENT_COMMITS)]
        await asyncio.gather(*(store.commit(commit) for commit in commits))
        job_id = commits[0].job.id
    return job_id


async def measure_delays(
    probe: Callable[[], Coroutine[Any, Any, object]], interval_seconds: float, delays_ms: list[float]
) -> None:
    """Calls the probe in intervals until it is cancelled, and records how long each call takes.

    On a busy machine, a call counts without the time that this thread waited for a processor, and with at most the CPU
    time of this process.
    """
    while True:
        started_at, cpu_before, wait_before = time.perf_counter(), time.process_time(), read_processor_wait()
        await probe()
        elapsed, cpu_used = time.perf_counter() - started_at, time.process_time() - cpu_before
        delays_ms.append(min(elapsed - (read_processor_wait() - wait_before), cpu_used) * 1000)
        await asyncio.sleep(interval_seconds)


def read_processor_wait() -> float:
    """Reads how many seconds this thread has been ready to run while other programs had the processors."""
    try:
        return int(SCHEDULER_STATISTICS.read_text().split()[1]) / 1e9
    except FileNotFoundError:
        return 0.0


async def measure_audits(store: Store, job_count: int) -> str:
    job_id = await fill_store(store, job_count)
    beats_ms: list[float] = []
    loads_ms: list[float] = []
    probes = [
        asyncio.create_task(measure_delays(lambda: asyncio.sleep(HEARTBEAT_SECONDS), 0.0, beats_ms)),
        asyncio.create_task(measure_delays(lambda: store.load_job(job_id), LOAD_INTERVAL_SECONDS, loads_ms)),
    ]
    await asyncio.sleep(1.0)
    quiet_beat_ms, quiet_load_ms = max(beats_ms), max(loads_ms)
    beats_ms.clear()
    loads_ms.clear()
    partition = (job_partition(job_id) or 0) if len(store.partitions) > 1 else 0
    started_at = time.perf_counter()
    for _ in range(AUDIT_COUNT):
        report = await store.audit(partition, repair=False)
        if report.discrepancy_count:
            raise SystemExit(f"the audit found {report.discrepancy_count} discrepancies")
    seconds = (time.perf_counter() - started_at) / AUDIT_COUNT
    for probe in probes:
        probe.cancel()
    return (
        f"{job_count} jobs: {seconds:.2f} s each; longest delay of the event loop "
        f"{max(beats_ms):.1f} ms (without audit {quiet_beat_ms:.1f}), "
        f"longest load of a job {max(loads_ms):.1f} ms (without audit {quiet_load_ms:.1f})"
    )


@asynccontextmanager
async def open_sqlite(folder: Path) -> AsyncIterator[Store]:
    store = await SqliteStore(folder / "bench.db").open()
    yield store
    await store.close()


@asynccontextmanager
async def open_redis(folder: Path) -> AsyncIterator[Store]:
    with redis_servers.run_single_server(folder / "redis") as server:
        store = await RedisStore(server.url).open()
        yield store
        await store.close()


async def main(job_count: int = JOB_COUNT) -> None:
    for name, open_store in (("sqlite", open_sqlite), ("redis", open_redis)):
        with tempfile.TemporaryDirectory() as folder:
            async with open_store(Path(folder)) as store:
                print(f"{name:7}{await measure_audits(store, job_count)}", flush=True)
    print(f"target: at most {MAX_STALL_MS:g} ms")


if __name__ == "__main__":
    uvloop.run(main(*map(int, sys.argv[1:2])))
