"""Orders of one team while another's links lead to names whose name server is silent.
`python -m bench.dead_links [seconds] [requests] [repetitions]`

Team alpha orders from four sellers, each by two callers one order after the other. Team beta sends so many requests a
second (one unless said), each with 16 links. Sellers are reached by a name, which the same name server knows.

What the same number of requests costs that are refused before any link is looked at is measured beside it: they share a
processor with alpha's orders as well. Everything runs in a network namespace, where the machine allows one.
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

from tests import vendors
from tests.chaos import configs
from tests.chaos.clients import body
from tests.chaos.gateways import STRANGERS_KEY, Gateway, gateway
from tests.flow.names import NETWORK, own_network, serving_names

SECONDS, REQUESTS, REPETITIONS, PATIENCE_SECONDS = 20.0, 1.0, 3, 300.0
SELLER_NAME, LINKS, CALLERS = "sellers.example", 16, 2
# Makes the request invalid before its links are looked at.
REFUSED = {"quality": "none of ours"}


class Measured(Struct, frozen=True, kw_only=True):
    orders: int
    failed: int
    slowest: float
    seconds: float
    cpu_seconds: float

    @property
    def per_minute(self) -> float:
        return self.orders / self.seconds * 60

    def __str__(self) -> str:
        return (
            f"{self.per_minute:.0f} orders a minute, {self.failed} failed, slowest {self.slowest:.2f} s, "
            f"gateway's processor {self.cpu_seconds / self.seconds:.0%}"
        )


def measure(at: Gateway, seconds: float) -> Measured:
    began, used = time.monotonic(), cpu_seconds(at)
    took, failed = list[float](), Counter[str]()

    def order(seller: str) -> None:
        with at.client(PATIENCE_SECONDS) as client:
            while time.monotonic() - began < seconds:
                asked = time.monotonic()
                answer = client.post("/v1/images/generations", json=body("alpha", seller))
                took.append(time.monotonic() - asked)
                failed[seller] += not answer.is_success

    with ThreadPoolExecutor(CALLERS * len(configs.SELLERS)) as threads:
        for _ in threads.map(order, configs.SELLERS * CALLERS):
            pass
    return Measured(
        orders=len(took),
        failed=failed.total(),
        slowest=max(took),
        seconds=time.monotonic() - began,
        cpu_seconds=cpu_seconds(at) - used,
    )


def cpu_seconds(at: Gateway) -> float:
    """What its process has used so far, in the system's and its own code."""
    fields = Path(f"/proc/{at.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Flood:
    """Beta's, in a process of its own: alpha's clients share no interpreter with it."""

    def __init__(self, url: str, requests: float, extra: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "bench.dead_links", "flood", url, str(requests), json.dumps(extra)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)  # noqa: S603

    def run(self, while_: Callable[[], Measured]) -> tuple[Measured, str]:
        """And its answers, by status and code."""
        try:
            time.sleep(3.0)
            measured = while_()
        except BaseException:
            self._process.kill()
            raise
        return measured, self._process.communicate("over\n")[0].strip()


def send_flood(url: str, requests: float, extra: Mapping[str, str]) -> Counter[str]:
    """So many requests a second until a line is read, and then until the last is answered."""
    answers, over, numbers = Counter[str](), threading.Event(), count()
    threads: list[threading.Thread] = []
    with httpx.Client(
        base_url=url,
        headers={"authorization": f"Bearer {STRANGERS_KEY}"},
        limits=httpx.Limits(max_connections=None),
        timeout=PATIENCE_SECONDS,
        trust_env=False,
    ) as client:

        def send() -> None:
            number = f"{os.getpid()}-{next(numbers)}"
            links = [f"https://dead-{number}-{link}.example/picture.png" for link in range(LINKS)]
            answer = client.post("/v1/jobs", json={"prompt": "beta", "operation": "edit", "images": links, **extra})
            answers[f"{answer.status_code} {answer.json()['error']['code']}"] += 1

        threading.Thread(target=lambda: (sys.stdin.readline(), over.set()), daemon=True).start()
        while not over.wait(1.0 / requests):
            threads.append(threading.Thread(target=send))
            threads[-1].start()
        for thread in threads:
            thread.join()
    return answers


def unhealthy(at: Gateway) -> int:
    return len(re.findall(r"^igw_cell_healthy\{.*\} 0\.0$", at.get("/metrics").text, re.MULTILINE))


class Bench:
    """`rates`: orders a minute, by what beta does meanwhile."""

    def __init__(self, at: Gateway, seconds: float, requests: float) -> None:
        self._at, self._seconds, self._requests = at, seconds, requests
        self.rates: dict[str, list[float]] = {}

    def measure(self, name: str, extra: Mapping[str, str] | None) -> None:
        answers = "no requests"
        if extra is None:
            measured = measure(self._at, self._seconds)
        else:
            flood = Flood(self._at.url, self._requests, extra)
            measured, answers = flood.run(lambda: measure(self._at, self._seconds))
        self.rates.setdefault(name, []).append(measured.per_minute)
        print(f"{name:16} {measured}; {unhealthy(self._at)} cells marked down; beta: {answers}", flush=True)

    def __str__(self) -> str:
        shown = (
            f"{name}: {statistics.mean(rates):.0f} ± {statistics.stdev(rates) if len(rates) > 1 else 0:.0f}"
            for name, rates in self.rates.items()
        )
        return f"orders a minute, {self._requests:g} requests of {LINKS} links a second: {', '.join(shown)}"


def main(seconds: float = SECONDS, requests: float = REQUESTS, repetitions: float = REPETITIONS) -> None:
    with (
        vendors.running() as sandbox,
        tempfile.TemporaryDirectory() as folder,
        serving_names(Path(folder), {SELLER_NAME: "127.0.0.1"}) as names,
    ):
        sandbox.latency(0.0)
        config = configs.write(Path(folder) / "config", sandbox.url.replace("127.0.0.1", SELLER_NAME), expected=0.05)
        with gateway(Path(folder) / "gateway", config, names.environ()) as one:
            measure(one, 2.0)
            bench = Bench(one, seconds, requests)
            for _ in range(int(repetitions)):
                bench.measure("alpha alone", None)
                bench.measure("dead links", {})
                bench.measure("refused at once", REFUSED)
            print(bench)


@contextmanager
def network() -> Iterator[None]:
    """One of our own, or this machine's."""
    with ExitStack() as inside:
        try:
            inside.enter_context(own_network())
            print(f"in a network namespace: {os.readlink(NETWORK)}")
        except OSError as error:
            print(f"in the network of this machine, which does not allow another one ({error})")
        yield


if __name__ == "__main__":
    if sys.argv[1:2] == ["flood"]:
        print(dict(send_flood(sys.argv[2], float(sys.argv[3]), json.loads(sys.argv[4]))))
    else:
        with network():
            main(*map(float, sys.argv[1:4]))
