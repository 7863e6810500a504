"""Measures reports of the ledger with 1,000,000 jobs of a month in SQLite, and with the same totals in Redis.

`make bench` runs it. Forty teams with two API keys each order at three sellers in two cells; one order in a hundred is
orphaned or suspected. Jobs, ledger entries and totals are inserted as commits write them. Each report is read five
times through the store; the median of the wall time counts, the CPU time of this process is beside it. A number as the
argument sets the count of jobs.
"""

import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from statistics import median

import msgspec
import redis
import uvloop
from msgspec.structs import replace

from gateway.jobs.commit import LedgerEntry
from gateway.jobs.job import Job
from gateway.jobs.transition_tables import LedgerLine
from gateway.ledger.report import build_report
from gateway.ledger.report_options import ReportOptions
from gateway.ledger.report_reader import list_irregular_entries
from gateway.store.base import Store
from gateway.store.ledger_totals import EntryTotals, add_entry
from gateway.store.partitions import new_job_id, team_partition
from gateway.store.redis import RedisStore, codec
from gateway.store.redis.keys import PartitionKeys
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.database import open_writer
from gateway.store.sqlite.ledger_rows import JSON_ENCODER, add_totals
from providers.orders import Cell, Operation
from tests.store import redis_servers
from tests.store.job_factory import make_create_commit

JOBS, DAYS, REPEATS, MAX_SECONDS = 1_000_000, 31, 5, 0.3
LAST_MOMENT = 1_796_000_000.0
SELLERS = (("runapi", 60_000), ("runflow", 75_000), ("openai", 53_000))
CELLS = (Cell(Operation.GENERATE, "1k", "high"), Cell(Operation.EDIT, "2k", "high"))
BATCH_ROWS = 50_000
REPORTS = {
    "by team": ReportOptions(since="31d", group_by=("team",)),
    "by key": ReportOptions(since="31d", group_by=("key",)),
    "by seller, model, cell": ReportOptions(since="31d", group_by=("seller,model,cell",)),
    "by day": ReportOptions(since="31d", group_by=("day",)),
    "by team, day": ReportOptions(since="31d", group_by=("team,day",)),
    "by all but the hour": ReportOptions(since="31d", group_by=("team,key,seller,model,cell,day",)),
    "of one team by day": ReportOptions(since="31d", team="team-7", group_by=("day",)),
    "of a day by hour": ReportOptions(since="24h", group_by=("hour",)),
    "of a week by hour": ReportOptions(since="7d", group_by=("hour",)),
    "of a day by team, key, hour": ReportOptions(since="24h", group_by=("team,key,hour",)),
}


def make_jobs(count: int) -> Iterator[tuple[Job, LedgerEntry]]:
    """Makes settled jobs with their entry, the oldest first."""
    draw = random.Random(1)  # noqa: S311
    template = make_create_commit(LAST_MOMENT).job
    for number in range(count):
        created_at = LAST_MOMENT - (DAYS - 1) * 86_400 * (1 - number / count)
        team = f"team-{draw.randrange(40)}"
        seller, price = draw.choice(SELLERS)
        line = draw.choices((LedgerLine.CAPTURE, LedgerLine.ORPHAN, LedgerLine.SUSPECTED), (200, 1, 1))[0]
        day = time.strftime("%Y-%m-%d", time.gmtime(created_at))
        job_id = new_job_id(team, draw.randbytes, lambda created_at=created_at: created_at)  # type: ignore[misc]
        entry = LedgerEntry(
            day=day,
            hour=int(created_at % 86_400 // 3_600),
            posted_at=created_at,
            line=line,
            amount=price,
            images=1,
            job=job_id,
            attempt=1,
            team=team,
            model="gpt-image-2",
            seller=seller,
            cell=draw.choice(CELLS),
            key_id=f"{team}-key{draw.randrange(2)}",
            ticket=f"{draw.getrandbits(128):032x}",
            reason="" if line is LedgerLine.CAPTURE else "response_lost",
        )
        yield replace(template, id=job_id, team=team, created_at=created_at), entry


def fill_sqlite(path: Path, count: int, totals: EntryTotals) -> None:
    path.touch()
    db = open_writer(path)
    db.execute("PRAGMA synchronous=OFF")
    jobs = make_jobs(count)
    encode = msgspec.json.encode
    while batch := list(islice(jobs, BATCH_ROWS)):
        db.execute("BEGIN")
        db.executemany(
            "INSERT INTO jobs (id, team, created_at, version, fence, commit_ids, settled_at, encoded_job) "
            "VALUES (?, ?, ?, 4, 1, '[]', ?, ?)",
            [(job.id, job.team, job.created_at, job.created_at, encode(job)) for job, _ in batch],
        )
        db.executemany(
            "INSERT INTO ledger (day, team, entry, is_irregular) VALUES (?, ?, ?, ?)",
            [(entry.day, entry.team, JSON_ENCODER.encode(entry), entry.is_irregular) for _, entry in batch],
        )
        db.execute("COMMIT")
        for _, entry in batch:
            add_entry(entry, totals)
    db.execute("BEGIN")
    add_totals(db, totals.values())
    db.execute("COMMIT")
    db.close()


def fill_redis(client: "redis.Redis[bytes]", totals: EntryTotals) -> None:
    pipeline = client.pipeline(transaction=False)
    for total in totals.values():
        key = PartitionKeys(team_partition(total.account.team)).totals(total.period)
        text = codec.encode_total_account(total.account, total.key_id)
        pipeline.hset(key, mapping={f"amount:{text}": total.amount, f"images:{text}": total.images})
    pipeline.execute()


async def measure(name: str, store: Store, expected_images: int) -> bool:
    """Prints the times of each report. Returns whether all are fast enough."""
    is_fast = True
    for title, options in REPORTS.items():
        times, cpu_times = [], []
        for _ in range(REPEATS):
            started_at, cpu_started_at = time.perf_counter(), time.process_time()
            query = options.to_query(LAST_MOMENT)
            report = build_report(query, await store.sum_totals(query))
            times.append(time.perf_counter() - started_at)
            cpu_times.append(time.process_time() - cpu_started_at)
        if title.startswith("by ") and report.total.images != expected_images:
            raise SystemExit(f"{name}, {title}: {report.total.images} images instead of {expected_images}")
        seconds, cpu_seconds = median(times), median(cpu_times)
        is_fast = is_fast and seconds <= MAX_SECONDS
        cells = f"{len(report.rows):>8} rows{seconds * 1000:>10.0f} ms{cpu_seconds * 1000:>10.0f} ms CPU"
        print(f"{name:8}{title:32}{cells}")
    return is_fast


async def measure_entries(store: Store) -> bool:
    started_at = time.perf_counter()
    listed = await list_irregular_entries(store, ReportOptions(since="31d"), LAST_MOMENT)
    seconds = time.perf_counter() - started_at
    print(f"{'sqlite':8}{'entries that no team pays':32}{len(listed.entries):>8} rows{seconds * 1000:>10.0f} ms")
    return seconds <= MAX_SECONDS


@asynccontextmanager
async def open_redis(folder: Path, totals: EntryTotals) -> AsyncIterator[Store]:
    with redis_servers.run_single_server(folder) as server:
        # The store audits a new server when it opens, and would delete totals without entries.
        store = await RedisStore(server.url).open()
        fill_redis(server.make_client(), totals)
        yield store
        await store.close()


async def main(count: int) -> None:
    totals: EntryTotals = {}
    with tempfile.TemporaryDirectory(dir=".") as folder:
        path = Path(folder) / "jobs.db"
        fill_sqlite(path, count, totals)
        days = sum(not total.is_hourly for total in totals.values())
        print(f"{count:,} jobs, {days:,} totals of days, {len(totals) - days:,} of hours")
        captured = sum(
            total.images
            for total in totals.values()
            if not total.is_hourly and total.account.line is LedgerLine.CAPTURE
        )
        store = await SqliteStore(path).open()
        is_fast = await measure("sqlite", store, captured) & await measure_entries(store)
        await store.close()
        async with open_redis(Path(folder), totals) as shared_store:
            is_fast &= await measure("redis", shared_store, captured)
    print("" if is_fast else f"A report took longer than {MAX_SECONDS * 1000:.0f} ms.")


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else JOBS))
