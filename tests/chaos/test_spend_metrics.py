"""The money in metrics is that of the ledger, to the micro-USD, also after kills and while Redis is gone."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from gateway.jobs.commit import LedgerEntry
from gateway.jobs.transition_tables import LedgerLine
from tests.chaos.job_batches import post_jobs, wait_for_jobs
from tests.chaos.process_pauses import STORE_TIMEOUT_SECONDS
from tests.chaos.store_setups import StoreSetup
from tests.harness.child_spec import ChildSpec
from tests.harness.gateway_process import GatewayProcess, run_replica
from tests.harness.ledger_reader import read_ledger
from tests.harness.metric_scrapes import Scrape, scrape, sum_series, take_maximum
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import CHAOS_TIMINGS, change_timing
from tests.harness.wait import wait_for_value, wait_until
from tests.store import redis_servers

MAX_AGE_SECONDS = 2.0
MAINTENANCE = {
    "store_metric_interval_seconds": 0.3,
    "store_metric_max_age_seconds": MAX_AGE_SECONDS,
    "new_series_zero_seconds": 1.0,
}
CHILD = ChildSpec(change_timing(CHAOS_TIMINGS, maintenance=MAINTENANCE))
Replicas = tuple[GatewayProcess, GatewayProcess]


@pytest.fixture
def replicas(redis_setup: StoreSetup) -> Iterator[Replicas]:
    with ExitStack() as running:
        first, second = (
            running.enter_context(
                run_replica(redis_setup.folder / name, redis_setup.config, redis_setup.environ, CHILD)
            )
            for name in ("1", "2")
        )
        yield first, second


def sum_ledger(entries: tuple[LedgerEntry, ...]) -> Counter[tuple[str, ...]]:
    """Sums the ledger as the metrics do: net money in micro-USD by team, seller and line, and by cell; and images."""
    sums = Counter[tuple[str, ...]]()
    for entry in entries:
        cell = entry.cell.operation, entry.cell.resolution, entry.cell.quality
        sums["team", entry.team, entry.seller, entry.line] += entry.amount
        sums["cell", entry.seller, *cell, entry.line] += entry.amount
        if entry.line is LedgerLine.CAPTURE:
            sums["images", entry.team, entry.seller] += entry.images
            sums["cell images", entry.seller, *cell] += entry.images
    return +sums


def sum_metrics(found: Scrape) -> Counter[tuple[str, ...]]:
    sums = Counter[tuple[str, ...]]()
    cell_labels = ("operation", "resolution", "quality")
    for (name, pairs), value in found.items():
        labels, sign = dict(pairs), -1 if "_corrections_" in name else 1
        match name:
            case "igw_spend_usd_total" | "igw_spend_corrections_usd_total":
                sums["team", labels["team"], labels["seller"], labels["line"]] += sign * to_micros(value)
            case "igw_cell_spend_usd_total" | "igw_cell_spend_corrections_usd_total":
                cell = [labels[name] for name in cell_labels]
                sums["cell", labels["seller"], *cell, labels["line"]] += sign * to_micros(value)
            case "igw_images_delivered_total":
                sums["images", labels["team"], labels["seller"]] += int(value)
            case "igw_cell_images_delivered_total":
                sums["cell images", labels["seller"], *[labels[name] for name in cell_labels]] += int(value)
    return +sums


def to_micros(usd: float) -> int:
    return round(usd * 1_000_000)


def expect_metrics_of_ledger(gateways: Replicas, redis_setup: StoreSetup) -> Counter[tuple[str, ...]]:
    """Waits until nothing is in flight. Then the maximum over both replicas, and each replica, show the ledger."""
    for gateway in gateways:
        wait_until(gateway.is_idle, "all jobs are settled")
    expected = sum_ledger(read_ledger(redis_setup.make_store))
    wait_for_value(
        lambda: [sum_metrics(scrape(gateway)) for gateway in gateways],
        lambda sums: sums == [expected, expected],
        f"both replicas show the ledger: {expected}",
        timeout_seconds=15.0,
    )
    assert sum_metrics(take_maximum(scrape(gateway) for gateway in gateways)) == expected
    return expected


class MoneyWatch:
    """Scrapes a replica all the time, and keeps the highest value of each of its counters of money."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.falls: list[str] = []
        self.scrape_count = 0
        self._gateway, self._highest = gateway, dict[object, float]()
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_stopped.wait(0.05):
            try:
                found = scrape(self._gateway)
            except httpx.HTTPError:
                continue
            self.scrape_count += 1
            self._compare(found)

    def _compare(self, found: Scrape) -> None:
        for key, value in found.items():
            if "_usd_total" not in key[0] and "_images_delivered_total" not in key[0]:
                continue
            highest = self._highest.setdefault(key, value)
            if value < highest:
                self.falls.append(f"{key} fell from {highest} to {value}")
            self._highest[key] = max(highest, value)

    def stop(self) -> None:
        self._is_stopped.set()
        self._thread.join()


@contextmanager
def watch_money(gateways: Replicas) -> Iterator[list[MoneyWatch]]:
    watches = [MoneyWatch(gateway) for gateway in gateways]
    try:
        yield watches
    finally:
        for watch in watches:
            watch.stop()


@pytest.mark.one_in(2)
def test_sums_over_two_replicas_are_the_ledgers_after_kills(
    replicas: Replicas, redis_setup: StoreSetup, sandbox: RunningSandbox
) -> None:
    """A replica is killed with open orders, some of which cannot be recovered, then the other one right after commits,
    then both. No counter of a replica ever falls, not even over its restart."""
    first, second = replicas
    with watch_money(replicas) as watches:
        done = post_jobs(first, "runflow-runs", 6, "done") + post_jobs(second, "runapi", 4, "done")
        assert {job["status"] for job in wait_for_jobs(first, done)} == {"completed"}
        sandbox.hold_orders()
        held = [*post_jobs(first, "runapi", 4, "held"), *post_jobs(first, "openai", 3, "held")]
        wait_until(
            lambda: sum(len(sandbox.list_requests(vendor, "submit")) for vendor in ("runapi", "openai")) == 11,
            "all orders reached their sellers",
        )
        first.kill()
        sandbox.release_orders()
        wait_for_jobs(second, held)
        first.start()
        wait_for_jobs(first, post_jobs(second, "runflow-run", 5, "more"))
        second.kill()
        second.start()
        sums = expect_metrics_of_ledger(replicas, redis_setup)
        assert {key[-1] for key in sums if key[0] == "team"} == {LedgerLine.CAPTURE, LedgerLine.SUSPECTED}
        assert sums["team", "chaos", "openai", LedgerLine.SUSPECTED] > 0
        for gateway in replicas:
            gateway.kill()
        for gateway in replicas:
            gateway.start()
        assert expect_metrics_of_ledger(replicas, redis_setup) == sums
    assert [watch.falls for watch in watches] == [[], []]
    assert min(watch.scrape_count for watch in watches) > 10


def test_values_are_absent_while_redis_is_gone_and_exact_afterwards(
    replicas: Replicas, redis_setup: StoreSetup, redis_server: redis_servers.RedisServer, sandbox: RunningSandbox
) -> None:
    first, second = replicas
    assert {job["status"] for job in wait_for_jobs(first, post_jobs(first, "runapi", 3))} == {"completed"}
    sums = expect_metrics_of_ledger(replicas, redis_setup)
    redis_server.kill()
    try:
        for gateway in replicas:
            wait_until(lambda gateway=gateway: not sum_metrics(scrape(gateway)), "old values are absent")
            assert sum_series(scrape(gateway), "igw_store_reading_age_seconds") > MAX_AGE_SECONDS
    finally:
        redis_server.start()
    wait_until(
        lambda: second.get("/readyz").status_code == 200, "Redis is back", timeout_seconds=10 * STORE_TIMEOUT_SECONDS
    )
    assert {job["status"] for job in wait_for_jobs(second, post_jobs(second, "runapi", 2, "later"))} == {"completed"}
    later = expect_metrics_of_ledger(replicas, redis_setup)
    assert later["images", "chaos", "runapi"] == sums["images", "chaos", "runapi"] + 2


def test_backlog_and_heartbeats_show_a_killed_replica(
    replicas: Replicas, redis_setup: StoreSetup, sandbox: RunningSandbox
) -> None:
    """Its jobs stay open, and are overdue, until the other one claims them; its heartbeat grows old."""
    first, second = replicas
    sandbox.hold_orders()
    jobs = post_jobs(first, "runapi", 3)
    wait_until(
        lambda: sum_series(scrape(second), "igw_open_jobs", state="in_progress") == 3,
        "the other replica shows the jobs",
    )
    assert len([key for key in scrape(second) if key[0] == "igw_replica_heartbeat_age_seconds"]) == 2
    assert sum_series(scrape(second), "igw_holds_usd", team="chaos") > 0
    first.kill()
    wait_until(lambda: sum_series(scrape(second), "igw_replica_heartbeat_age_seconds") > 3.0, "a heartbeat grows old")
    assert sum_series(scrape(second), "igw_oldest_open_job_age_seconds") > 0.0
    sandbox.release_orders()
    assert {job["status"] for job in wait_for_jobs(second, jobs)} == {"completed"}
    wait_until(lambda: sum_series(scrape(second), "igw_open_jobs") == 0, "no job is open")
    assert sum_series(scrape(second), "igw_holds_usd") == 0.0
    first.start()
    wait_until(
        lambda: len([key for key in scrape(second) if key[0] == "igw_replica_heartbeat_age_seconds"]) == 3,
        "the restarted process is a new replica",
    )
    first.stop()
    wait_until(
        lambda: len([key for key in scrape(second) if key[0] == "igw_replica_heartbeat_age_seconds"]) == 2,
        "a replica that stops normally leaves",
    )
