"""Orders of one team while another's links lead to names whose name server is silent.
`python -m bench.dead_links [seconds] [requests]`

Team alpha orders from four sellers, each by two callers one order after the other. Team beta sends so many requests a
second (one unless said), each with 16 links. Sellers are reached by a name, which the same name server knows.
"""

import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from msgspec import Struct

from tests import vendors
from tests.chaos import configs
from tests.chaos.clients import body
from tests.chaos.gateways import STRANGERS_KEY, Gateway, gateway
from tests.flow.names import serving_names

SECONDS, REQUESTS, PATIENCE_SECONDS = 20.0, 1.0, 300.0
SELLER_NAME, LINKS, CALLERS = "sellers.example", 16, 2


class Measured(Struct, frozen=True, kw_only=True):
    orders: int
    failed: int
    slowest: float
    seconds: float

    def __str__(self) -> str:
        rate = self.orders / self.seconds * 60
        return f"{rate:.0f} orders a minute, {self.failed} failed, slowest {self.slowest:.2f} s"


def measure(at: Gateway, seconds: float) -> Measured:
    began, took, failed = time.monotonic(), list[float](), Counter[str]()

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
    return Measured(orders=len(took), failed=failed.total(), slowest=max(took), seconds=time.monotonic() - began)


class Flood:
    """Beta's. `answers` by status and code."""

    def __init__(self, at: Gateway, requests: float) -> None:
        headers = {"authorization": f"Bearer {STRANGERS_KEY}"}
        limits = httpx.Limits(max_connections=None)
        # One for all of them: making one costs more than what it is to measure.
        self._client = httpx.Client(
            base_url=at.url, headers=headers, limits=limits, timeout=PATIENCE_SECONDS, trust_env=False
        )
        self._pause, self._over = 1.0 / requests, threading.Event()
        self.answers: Counter[tuple[int, str]] = Counter()

    def run(self, while_: Callable[[], Measured]) -> Measured:
        pacing = threading.Thread(target=self._pace)
        pacing.start()
        try:
            time.sleep(2.0)
            return while_()
        finally:
            self._over.set()
            pacing.join()
            self._client.close()

    def _pace(self) -> None:
        sent, threads = 0, list[threading.Thread]()
        while not self._over.wait(self._pause):
            sent += 1
            threads.append(threading.Thread(target=self._send, args=(sent,)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def _send(self, number: int) -> None:
        links = [f"https://dead-{number}-{link}.example/picture.png" for link in range(LINKS)]
        edit = {"prompt": "beta", "operation": "edit", "images": links}
        answer = self._client.post("/v1/jobs", json=edit)
        self.answers[answer.status_code, answer.json()["error"]["code"]] += 1


def unhealthy(at: Gateway) -> int:
    return len(re.findall(r"^igw_cell_healthy\{.*\} 0\.0$", at.get("/metrics").text, re.MULTILINE))


def main(seconds: float = SECONDS, requests: float = REQUESTS) -> None:
    with (
        vendors.running() as sandbox,
        tempfile.TemporaryDirectory() as folder,
        serving_names(Path(folder), {SELLER_NAME: "127.0.0.1"}) as names,
    ):
        sandbox.latency(0.0)
        config = configs.write(Path(folder) / "config", sandbox.url.replace("127.0.0.1", SELLER_NAME), expected=0.05)
        with gateway(Path(folder) / "gateway", config, names.environ()) as one:
            measure(one, 2.0)
            print(f"alpha alone:     {measure(one, seconds)}")
            flood = Flood(one, requests)
            print(f"with dead links: {flood.run(lambda: measure(one, seconds))}; {unhealthy(one)} cells marked down")
            print(f"beta's answers, {requests:g} requests of {LINKS} links a second: {dict(flood.answers)}")
            print(f"alone again:     {measure(one, seconds)}")


if __name__ == "__main__":
    main(*map(float, sys.argv[1:3]))
