"""Measures whole requests: rate, CPU time per request, latency and memory. `python -m bench.end_to_end [options]`

`wrk` orders one image per request, each with a prompt of its own. nginx is the synchronous seller; it answers every
order with one small PNG as base64. The gateway has one processor core, all other processes share another. Every
response must be a 200, and orders, delivered images and ledger entries must be equally many. `make bench` runs it.

With several `--checkout`, the gateways of these folders take turns, so that other load on the machine affects all.
"""

import argparse
import asyncio
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import httpx
import msgspec
from msgspec import Struct

from bench.pinned_processes import ROOT, PinnedProcess, find_program, pin_process, run_pinned
from bench.stub_seller import count_orders, write_nginx_config
from gateway.jobs.transition_tables import LedgerLine
from gateway.store.base import Store
from gateway.store.redis import RedisStore
from gateway.store.sqlite import SqliteStore
from tests.harness.gateway_environ import get_clean_environ, make_redis_environ
from tests.harness.ports import reserve_port
from tests.harness.wait import wait_for_value, wait_until
from tests.store.redis_servers import RedisServer, run_single_server

GATEWAY_CORE, OTHER_CORE = 0, 1
CONNECTION_COUNTS = (1, 16, 64)
MAX_CPU_MS, MIN_REQUESTS_PER_SECOND = 2.0, 450
API_KEY, PRICE_MICROS = "igw_bench_key", 10_000
WARM_UP_SECONDS = 3.0
# A new series of metrics is 0 for a minute.
METRIC_TIMEOUT_SECONDS = 90.0
PACKAGES = ("uvicorn", "uvloop", "litestar", "aiohttp", "httpx", "msgspec", "redis")
WRK_SCRIPT = ROOT / "bench" / "wrk_orders.lua"
CONFIG_FILES = {
    "gateway.yaml": "{}",
    "models.yaml": "models: {gpt-image-2: {defaults: {size: 1024x1024, quality: low, output_format: png}}}",
    "accounts.yaml": 'accounts: {stub: {base_url: "URL/v1", key: "env:STUB_KEY", private: true}}',
    "policies.yaml": "{policies: {cheapest: {rank: cost}}, default: cheapest}",
    "teams.yaml": 'teams: {bench: {keys: ["env:IGW_KEY_BENCH"]}}',
    "offers/stub.yaml": """
account: stub
adapter: openai
offers:
  gpt-image-2:
    model: gpt-image-2
    images_per_order: 10
    quality: {selectable: [low]}
    formats: [png]
    generate: {pixels: exact}
    seconds: {any: {p50: 1, p90: 2}}
    prices: [{price: "0.01", operations: [generate], resolutions: [1k], source: bench, date: 2026-11-27}]
""",
}


class WrkResult(Struct, frozen=True):
    """What wrk printed after its run. `status_errors`: responses with a status above 399."""

    requests: int
    seconds: float
    status_errors: int
    socket_errors: int
    p50_ms: float
    p99_ms: float


class BenchRun(Struct, frozen=True):
    """The data folder of a run, and what it measures: with how many connections, and for how long each."""

    folder: Path
    connection_counts: Sequence[int]
    seconds: float


class MeasuredGateway(Struct, frozen=True):
    """A running gateway of one checkout, with its own seller, store and folder."""

    checkout: str
    redis_url: str | None
    url: str
    folder: Path
    process: PinnedProcess
    other_processes: dict[str, PinnedProcess]

    @property
    def store(self) -> str:
        return "redis" if self.redis_url else "sqlite"

    def read_text(self, path: str) -> str:
        return httpx.get(self.url + path, trust_env=False).text

    def wait_until_idle(self) -> None:
        wait_until(lambda: json.loads(self.read_text("/readyz"))["jobs"] == 0, "no job is in flight")

    def read_metric(self, name: str, label: str) -> int:
        """Returns the sum of the metric's series with a label like `outcome="delivered"`."""
        lines = [line for line in self.read_text("/metrics").splitlines() if line.startswith(f"{name}{{")]
        return sum(int(float(line.rpartition(" ")[2])) for line in lines if label in line)


def main() -> None:
    options = _parse_arguments()
    _print_versions()
    columns = (
        f"{'connections':>12}{'requests/s':>12}{'CPU ms each':>13}{'p50 ms':>8}{'p99 ms':>8}{'MB now':>8}{'peak':>6}"
    )
    print(f"\n{'store':8}{'checkout':12}{columns}  used of the cores")
    for store in options.store or ("sqlite", "redis"):
        with tempfile.TemporaryDirectory(dir=options.folder, prefix=".bench-") as folder:
            run = BenchRun(Path(folder), options.connections or CONNECTION_COUNTS, options.seconds)
            measure_store(run, store, options.checkout or [ROOT])
    print(f"goal with 64 connections: at least {MIN_REQUESTS_PER_SECOND} requests/s, at most {MAX_CPU_MS} ms each")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures requests, each from the client to the delivered image.")
    parser.add_argument("--store", action="append", choices=("sqlite", "redis"), help="may be repeated")
    parser.add_argument("--seconds", type=float, default=8.0, help="duration of each measurement")
    parser.add_argument("--connections", type=int, action="append", help="may be repeated")
    parser.add_argument("--folder", type=Path, default=ROOT, help="where to keep all data; its disk is measured, too")
    parser.add_argument("--checkout", type=Path, action="append", help="folder of the code to measure, may be repeated")
    return parser.parse_args()


def _print_versions() -> None:
    commands = (("nginx", "-v"), ("wrk", "-v"), ("redis-server", "--version"))
    results = [
        subprocess.run([find_program(name), flag], capture_output=True, text=True, check=False)
        for name, flag in commands
    ]
    programs = [(result.stdout + result.stderr).splitlines()[0].partition("Copyright")[0] for result in results]
    print(f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    print("; ".join(program.strip() for program in programs))
    print(f"Python {platform.python_version()}; {', '.join(f'{name} {metadata.version(name)}' for name in PACKAGES)}")
    print(f"gateway on core {GATEWAY_CORE}; wrk, nginx and redis on core {OTHER_CORE}")


def measure_store(run: BenchRun, store: str, checkouts: Sequence[Path]) -> None:
    with ExitStack() as redis_servers:
        with ExitStack() as gateways:
            measured = []
            for number, checkout in enumerate(checkouts):
                folder = run.folder / str(number)
                folder.mkdir()
                redis = redis_servers.enter_context(run_single_server(folder / "redis")) if store == "redis" else None
                measured.append(gateways.enter_context(run_measured_gateway(folder, checkout.resolve(), redis)))
            for gateway in measured:
                _run_wrk(gateway, 16, WARM_UP_SECONDS)
            for connections in run.connection_counts:
                for gateway in measured:
                    print(measure_gateway(gateway, connections, run.seconds), flush=True)
            delivered = [_check_counts(gateway) for gateway in measured]
        for gateway, count in zip(measured, delivered, strict=True):
            _check_ledger(gateway, count)


@contextmanager
def run_measured_gateway(folder: Path, checkout: Path, redis: RedisServer | None) -> Iterator[MeasuredGateway]:
    nginx_port, port = reserve_port(), reserve_port()
    nginx_command = [find_program("nginx"), "-e", str(folder / "error.log"), "-c"]
    nginx_command.append(str(write_nginx_config(folder, nginx_port)))
    environ = {"STUB_KEY": "sk-bench", "IGW_KEY_BENCH": API_KEY}
    if redis is not None:
        environ |= make_redis_environ(redis.url, folder / "images")
    arguments = ["--config", str(write_config(folder / "config", f"http://127.0.0.1:{nginx_port}"))]
    arguments += ["--port", str(port), "--data", str(folder / "data")]
    command = [sys.executable, "-m", "gateway.cli", "serve", *arguments]
    with (
        run_pinned(OTHER_CORE, nginx_command, folder / "nginx.txt") as nginx,
        run_pinned(GATEWAY_CORE, command, folder / "gateway.txt", get_clean_environ() | environ, checkout) as process,
    ):
        _wait_until_listening(folder / "gateway.txt")
        others = {"nginx": nginx} | ({"redis": pin_process(redis.pid, OTHER_CORE)} if redis else {})
        redis_url = redis.url if redis else None
        yield MeasuredGateway(checkout.name, redis_url, f"http://127.0.0.1:{port}", folder, process, others)


def _wait_until_listening(output: Path) -> None:
    wait_until(lambda: "listening on" in output.read_text() or "startup failed" in output.read_text(), "it listens")
    if "startup failed" in output.read_text():
        raise SystemExit(f"the gateway did not start:\n{output.read_text()}")


def write_config(folder: Path, seller_url: str) -> Path:
    (folder / "offers").mkdir(parents=True)
    for name, text in CONFIG_FILES.items():
        (folder / name).write_text(text.replace("URL", seller_url))
    return folder


def measure_gateway(gateway: MeasuredGateway, connections: int, seconds: float) -> str:
    """Measures and returns a line of the table."""
    processes = {"gateway": gateway.process} | gateway.other_processes
    before = {name: process.read_cpu_seconds() for name, process in processes.items()}
    result, wrk_cpu_seconds = _run_wrk(gateway, connections, seconds)
    used = {name: process.read_cpu_seconds() - before[name] for name, process in processes.items()}
    used["wrk"] = wrk_cpu_seconds
    gateway.wait_until_idle()
    now_mb, peak_mb = gateway.process.read_memory_mb("VmRSS"), gateway.process.read_memory_mb("VmHWM")
    shares = ", ".join(f"{name} {cpu_seconds / result.seconds:.0%}" for name, cpu_seconds in used.items())
    return (
        f"{gateway.store:8}{gateway.checkout:12}{connections:>12}{result.requests / result.seconds:>12.0f}"
        f"{used['gateway'] / result.requests * 1000:>13.2f}{result.p50_ms:>8.1f}{result.p99_ms:>8.1f}"
        f"{now_mb:>8.0f}{peak_mb:>6.0f}  {shares}"
    )


def _run_wrk(gateway: MeasuredGateway, connections: int, seconds: float) -> tuple[WrkResult, float]:
    """Runs wrk and returns its result and CPU time. Exits if a request failed."""
    started = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = ["taskset", "--cpu-list", str(OTHER_CORE), find_program("wrk"), "--threads", "1", "--timeout", "60s"]
    command += ["--connections", str(connections), "--duration", f"{seconds:.0f}s", "--script", str(WRK_SCRIPT)]
    command += [f"{gateway.url}/v1/images/generations", "--", f"{connections}-{time.time_ns()}"]
    output = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "IGW_KEY_BENCH": API_KEY}
    ).stdout
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = msgspec.json.decode(output.splitlines()[-1], type=WrkResult)
    if result.status_errors or result.socket_errors or not result.requests:
        raise SystemExit(f"requests failed:\n{output}")
    return result, ended.ru_utime + ended.ru_stime - started.ru_utime - started.ru_stime


def _check_counts(gateway: MeasuredGateway) -> int:
    """Returns the number of delivered images. Fails unless each order that the seller received was delivered."""
    return wait_for_value(
        lambda: gateway.read_metric("igw_attempts_ended_total", 'outcome="delivered"'),
        lambda delivered: delivered == count_orders(gateway.folder),
        "each order that the seller received was delivered",
        timeout_seconds=METRIC_TIMEOUT_SECONDS,
    )


def _check_ledger(gateway: MeasuredGateway, delivered: int) -> None:
    """Exits unless the ledger has exactly one captured image for each delivered image, at its price."""
    images, amount = asyncio.run(_sum_ledger(gateway))
    if (images, amount) != (delivered, delivered * PRICE_MICROS):
        raise SystemExit(f"{delivered} images were delivered, the ledger has {images} for {amount} micro-USD")
    print(
        f"{gateway.store:8}{gateway.checkout:12}{delivered} orders, images and ledger entries; all responses were 200"
    )


async def _sum_ledger(gateway: MeasuredGateway) -> tuple[int, int]:
    store: Store = SqliteStore(gateway.folder / "data" / "gateway.db")
    if gateway.redis_url:
        store = RedisStore(gateway.redis_url)
    await store.open()
    now = datetime.now(UTC).date()
    totals = await store.list_day_totals((now - timedelta(days=1)).isoformat(), now.isoformat())
    await store.close()
    if any(total.account.line is not LedgerLine.CAPTURE for total in totals):
        raise SystemExit(f"the ledger has entries that are not captures: {totals}")
    return sum(total.images for total in totals), sum(total.amount for total in totals)


if __name__ == "__main__":
    main()
