"""The sandbox as a test sees it: the real command in a process of its own, on free ports, gone when the test run is."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import httpx

READY_SECONDS = 30


class Vendors:
    """A running sandbox and what tests ask of its control routes."""

    def __init__(self, url: str, http: httpx.Client) -> None:
        self.url = url
        self.http = http

    def control(self, method: str, path: str, body: object = None) -> Any:
        answer = self.http.request(method, f"/_{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def reset(self) -> None:
        """As freshly started, and without any of the vendors' latency unless a test asks for some."""
        self.control("POST", "/reset")
        self.latency(0.0)

    def charges(self, vendor: str | None = None) -> list[dict[str, Any]]:
        lines = self.control("GET", "/charges")["charges"]
        return [line for line in lines if vendor in (None, line["vendor"])]

    def charged_usd(self, vendor: str) -> Decimal:
        return sum((Decimal(line["usd_micros"]) / 1_000_000 for line in self.charges(vendor)), Decimal(0))

    def fault(self, kind: str, **rule: object) -> None:
        self.control("POST", "/faults", {"kind": kind, **rule})

    def latency(self, median: float, spread: float = 0.0, **which: str) -> None:
        self.control("POST", "/latency", {"median": median, "spread": spread, **which})

    def balance(self, vendor: str, usd: str) -> None:
        self.control("POST", "/balance", {"vendor": vendor, "usd": usd})

    def requests(self, vendor: str, route: str | None = None) -> list[dict[str, Any]]:
        """What the vendor was sent, oldest first."""
        asked = self.control("GET", "/requests")["requests"]
        return [entry for entry in asked if entry["vendor"] == vendor and route in (None, entry["route"])]

    @contextmanager
    def switched(self, vendor: str, **switches: object) -> Iterator[None]:
        """Another reading of the vendor's pages, for one test."""
        before = self.control("GET", "/switches")[vendor]
        self.control("POST", "/switches", {vendor: switches})
        try:
            yield
        finally:
            self.control("POST", "/switches", {vendor: before})

    def sample(self, width: int = 256, height: int = 256) -> bytes:
        return self.http.get("/_/sample.png", params={"w": width, "h": height}).raise_for_status().content


@contextmanager
def running(*options: str) -> Iterator[Vendors]:
    command = [sys.executable, "-m", "gateway.cli", "sandbox", "--port", "0", "--with-parent", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            url = _announced_url(process)
            with httpx.Client(base_url=url, trust_env=False, timeout=30) as http:
                yield Vendors(url, http)
        finally:
            process.terminate()
            process.wait(timeout=10)


def _announced_url(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + READY_SECONDS
    said = ""
    while time.monotonic() < deadline:
        line = process.stdout.readline()
        said += line
        if found := re.search(r"sandbox listening on (\S+)", line):
            return found[1]
        if not line and process.poll() is not None:
            break
    raise AssertionError(f"the sandbox did not start:\n{said}")
