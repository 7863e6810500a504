"""Measures one team's order rate while the input URLs of another team have unresponsive name servers.
`python -m bench.dead_links [seconds] [requests] [repetitions]`

Team alpha orders from four sellers, with two clients each that send one order after another. Team beta sends a number
of requests a second (default: one), each with 16 URLs. The same name server resolves the name of the sellers.

For comparison, beta also sends requests that are rejected before any URL is resolved, since these share the processor
with alpha's orders as well. Everything runs in a network namespace if the machine allows one.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import httpx
from msgspec import Struct

from tests.chaos import chaos_config
from tests.chaos.persistent_clients import make_job_body
from tests.harness import sandbox_runner
from tests.harness.child_spec import ChildSpec
from tests.harness.gateway_process import OTHER_TEAM_KEY, GatewayProcess, run_replica
from tests.harness.name_server import NETWORK_NAMESPACE, enter_own_network, run_name_server

SECONDS, REQUESTS_PER_SECOND, REPETITIONS, TIMEOUT_SECONDS = 20.0, 1.0, 3, 300.0
SELLER_NAME, LINKS_PER_REQUEST, CALLERS_PER_SELLER = "sellers.example", 16, 2
# Makes the request invalid before its URLs are resolved.
INVALID_FIELDS = {"quality": "unknown"}


class OrderRate(Struct, frozen=True, kw_only=True):
    orders: int
    failed: int
    slowest_seconds: float
    seconds: float
    cpu_seconds: float

    @property
    def per_minute(self) -> float:
        return self.orders / self.seconds * 60

    def __str__(self) -> str:
        return (
            f"{self.per_minute:.0f} orders a minute, {self.failed} failed, slowest {self.slowest_seconds:.2f} s, "
            f"gateway's processor {self.cpu_seconds / self.seconds:.0%}"
        )


def measure_orders(target: GatewayProcess, seconds: float) -> OrderRate:
    started_at, cpu_before = time.monotonic(), read_cpu_seconds(target)
    durations, failures = list[float](), Counter[str]()

    def send_orders(seller: str) -> None:
        with target.make_client(TIMEOUT_SECONDS) as client:
            while time.monotonic() - started_at < seconds:
                sent_at = time.monotonic()
                response = client.post("/v1/images/generations", json=make_job_body("alpha", seller))
                durations.append(time.monotonic() - sent_at)
                failures[seller] += not response.is_success

    with ThreadPoolExecutor(CALLERS_PER_SELLER * len(chaos_config.SELLERS)) as threads:
        for _ in threads.map(send_orders, chaos_config.SELLERS * CALLERS_PER_SELLER):
            pass
    return OrderRate(
        orders=len(durations),
        failed=failures.total(),
        slowest_seconds=max(durations),
        seconds=time.monotonic() - started_at,
        cpu_seconds=read_cpu_seconds(target) - cpu_before,
    )


def read_cpu_seconds(target: GatewayProcess) -> float:
    """Returns the CPU seconds of the process so far, user and system."""
    fields = Path(f"/proc/{target.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class FloodProcess:
    """Sends beta's requests from another process, so that alpha's clients do not share its interpreter."""

    def __init__(self, url: str, requests_per_second: float, extra_fields: Mapping[str, str]) -> None:
        command = [
            sys.executable,
            "-m",
            "bench.dead_links",
            "flood",
            url,
            str(requests_per_second),
            json.dumps(extra_fields),
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)

    def run_during(self, measurement: Callable[[], OrderRate]) -> tuple[OrderRate, str]:
        """Runs a measurement during the flood. Returns its result and beta's responses by status and code."""
        try:
            time.sleep(3.0)
            rate = measurement()
        except BaseException:
            self._process.kill()
            raise
        return rate, self._process.communicate("over\n")[0].strip()


def send_flood(url: str, requests_per_second: float, extra_fields: Mapping[str, str]) -> Counter[str]:
    """Sends requests until a line is read from standard input, then waits for the last response."""
    response_counts, stopped, numbers = Counter[str](), threading.Event(), count()
    threads: list[threading.Thread] = []
    with httpx.Client(
        base_url=url,
        headers={"authorization": f"Bearer {OTHER_TEAM_KEY}"},
        limits=httpx.Limits(max_connections=None),
        timeout=TIMEOUT_SECONDS,
        trust_env=False,
    ) as client:

        def send_request() -> None:
            number = f"{os.getpid()}-{next(numbers)}"
            links = [f"https://dead-{number}-{link}.example/image.png" for link in range(LINKS_PER_REQUEST)]
            response = client.post(
                "/v1/jobs", json={"prompt": "beta", "operation": "edit", "images": links, **extra_fields}
            )
            response_counts[f"{response.status_code} {response.json()['error']['code']}"] += 1

        threading.Thread(target=lambda: (sys.stdin.readline(), stopped.set()), daemon=True).start()
        while not stopped.wait(1.0 / requests_per_second):
            threads.append(threading.Thread(target=send_request))
            threads[-1].start()
        for thread in threads:
            thread.join()
    return response_counts


def count_unhealthy_cells(target: GatewayProcess) -> int:
    return len(re.findall(r"^igw_cell_circuit_breaker_state\{.*\} 2\.0$", target.get("/metrics").text, re.MULTILINE))


class DeadLinkBenchmark:
    """Measures each scenario. `rates_by_scenario`: orders per minute."""

    def __init__(self, target: GatewayProcess, seconds: float, requests_per_second: float) -> None:
        self._target, self._seconds, self._requests_per_second = target, seconds, requests_per_second
        self.rates_by_scenario: dict[str, list[float]] = {}

    def measure_scenario(self, name: str, extra_fields: Mapping[str, str] | None) -> None:
        responses = "no requests"
        if extra_fields is None:
            rate = measure_orders(self._target, self._seconds)
        else:
            flood = FloodProcess(self._target.url, self._requests_per_second, extra_fields)
            rate, responses = flood.run_during(lambda: measure_orders(self._target, self._seconds))
        self.rates_by_scenario.setdefault(name, []).append(rate.per_minute)
        print(
            f"{name:16} {rate}; {count_unhealthy_cells(self._target)} cells marked down; beta: {responses}", flush=True
        )

    def __str__(self) -> str:
        summaries = (
            f"{name}: {statistics.mean(rates):.0f} ± {statistics.stdev(rates) if len(rates) > 1 else 0:.0f}"
            for name, rates in self.rates_by_scenario.items()
        )
        load = f"{self._requests_per_second:g} requests of {LINKS_PER_REQUEST} URLs a second"
        return f"orders a minute, {load}: {', '.join(summaries)}"


def main(
    seconds: float = SECONDS, requests_per_second: float = REQUESTS_PER_SECOND, repetitions: float = REPETITIONS
) -> None:
    with (
        sandbox_runner.run_sandbox() as sandbox,
        tempfile.TemporaryDirectory() as folder,
        run_name_server(Path(folder), {SELLER_NAME: "127.0.0.1"}) as names,
    ):
        sandbox.set_latency(0.0)
        config = chaos_config.write_config(
            Path(folder) / "config", sandbox.url.replace("127.0.0.1", SELLER_NAME), expected_seconds=0.05
        )
        with run_replica(Path(folder) / "gateway", config, child=ChildSpec(hooks=(names.make_hook(),))) as target:
            measure_orders(target, 2.0)
            benchmark = DeadLinkBenchmark(target, seconds, requests_per_second)
            for _ in range(int(repetitions)):
                benchmark.measure_scenario("alpha alone", None)
                benchmark.measure_scenario("dead links", {})
                benchmark.measure_scenario("rejected at once", INVALID_FIELDS)
            print(benchmark)


@contextmanager
def enter_network() -> Iterator[None]:
    """Enters a new network namespace if the machine allows it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(enter_own_network())
            print(f"in a network namespace: {os.readlink(NETWORK_NAMESPACE)}")
        except OSError as error:
            print(f"in the network of this machine, which does not allow a namespace ({error})")
        yield


if __name__ == "__main__":
    if sys.argv[1:2] == ["flood"]:
        print(dict(send_flood(sys.argv[2], float(sys.argv[3]), json.loads(sys.argv[4]))))
    else:
        with enter_network():
            main(*map(float, sys.argv[1:4]))
