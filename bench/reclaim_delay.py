"""Measures how soon the jobs of a killed or paused gateway go on. `python -m bench.reclaim_delay [kills]`

On Redis at another replica, for kills and pauses, and for kills with Sentinels and in a Cluster; on SQLite in the next
process, whose start is a part of the delay.
The lease is 15 s, as by default.
"""

import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.chaos import chaos_config
from tests.chaos.failover_servers import run_failover_servers
from tests.chaos.job_batches import post_jobs
from tests.harness import sandbox_runner
from tests.harness.child_spec import NO_CHANGES
from tests.harness.gateway_environ import make_redis_environ
from tests.harness.gateway_process import GatewayProcess
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until
from tests.store import redis_servers

KILLS, JOBS = 10, 8
# Until a replica that has just started trusts its own connection.
GRACE_SECONDS = 6.0


def main(kills: int = KILLS) -> None:
    with sandbox_runner.run_sandbox() as sandbox, tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        config = chaos_config.write_config(folder / "config", sandbox.url)
        for kind, name, number in (
            ("Redis", "killed", signal.SIGKILL),
            ("Redis", "paused", signal.SIGSTOP),
            ("sentinel", "killed", signal.SIGKILL),
            ("cluster", "killed", signal.SIGKILL),
        ):
            with run_servers(kind, folder / f"{kind}-{name}") as url:
                environ = make_redis_environ(url, folder / "images")
                delays = [measure_other_replica(folder, config, environ, sandbox, number) for _ in range(kills)]
            print(f"{kind}, another replica after one was {name}: {render(delays)}", flush=True)
        delays = [measure_restart(folder / f"sqlite-{number}", config, sandbox) for number in range(kills)]
        print(f"SQLite, the next process after one was killed: {render(delays)}")


@contextmanager
def run_servers(kind: str, folder: Path) -> Iterator[str]:
    if kind == "Redis":
        with redis_servers.run_single_server(folder) as server:
            yield server.url
    else:
        with run_failover_servers(kind, folder) as servers:
            yield servers.url


def measure_other_replica(
    folder: Path, config: Path, environ: Mapping[str, str], sandbox: RunningSandbox, number: signal.Signals
) -> float:
    first, second = (GatewayProcess(folder / name, config, environ, child=NO_CHANGES) for name in ("1", "2"))
    try:
        first.start()
        second.start()
        time.sleep(GRACE_SECONDS)
        post_running_jobs(first, sandbox)
        delay = measure_until_reclaimed(lambda: first.send_signal(number), second)
        if number == signal.SIGSTOP:
            first.send_signal(signal.SIGCONT)
        sandbox.release_orders()
        wait_until(second.is_idle, "all jobs are settled")
        return delay
    finally:
        first.kill_if_running()
        second.kill_if_running()


def measure_restart(folder: Path, config: Path, sandbox: RunningSandbox) -> float:
    gateway = GatewayProcess(folder, config, child=NO_CHANGES)

    def restart() -> None:
        gateway.kill()
        gateway.start()

    try:
        gateway.start()
        post_running_jobs(gateway, sandbox)
        delay = measure_until_reclaimed(restart, gateway)
        sandbox.release_orders()
        wait_until(gateway.is_idle, "all jobs are settled")
        return delay
    finally:
        gateway.kill_if_running()


def post_running_jobs(gateway: GatewayProcess, sandbox: RunningSandbox) -> None:
    before = len(sandbox.list_requests("runapi", "submit"))
    sandbox.hold_orders()
    post_jobs(gateway, "runapi", JOBS, key=str(before))
    wait_until(lambda: len(sandbox.list_requests("runapi", "submit")) == before + JOBS, "all orders reached the seller")


def measure_until_reclaimed(stop_owner: Callable[[], None], survivor: GatewayProcess) -> float:
    """Returns the seconds until all jobs have a new owner."""
    started_at = time.monotonic()
    stop_owner()
    wait_until(lambda: survivor.read_metric("igw_jobs_reclaimed_total") >= JOBS, "all jobs are reclaimed")
    return time.monotonic() - started_at


def render(delays: list[float]) -> str:
    return f"min {min(delays):.2f} s, median {statistics.median(delays):.2f} s, max {max(delays):.2f} s"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
