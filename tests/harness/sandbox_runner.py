"""Runs the sandbox's real command on a free port. It ends with the test run."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import httpx

# Longer than any test.
HELD_SECONDS = 3_600.0


class RunningSandbox:
    """A running sandbox and its control routes."""

    def __init__(self, url: str, http: httpx.Client) -> None:
        self.url = url
        self.http = http

    def call_control_route(self, method: str, path: str, body: object = None) -> Any:
        answer = self.http.request(method, f"/_{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def reset(self) -> None:
        """Resets the sandbox to its initial state, without latency."""
        self.call_control_route("POST", "/reset")
        self.set_latency(0.0)

    def list_charges(self, vendor: str | None = None) -> list[dict[str, Any]]:
        lines = self.call_control_route("GET", "/charges")["charges"]
        return [line for line in lines if vendor in (None, line["vendor"])]

    def sum_charges_usd(self, vendor: str) -> Decimal:
        return sum((Decimal(line["usd_micros"]) / 1_000_000 for line in self.list_charges(vendor)), Decimal(0))

    def inject_fault(self, kind: str, **rule: object) -> None:
        self.call_control_route("POST", "/faults", {"kind": kind, **rule})

    def set_latency(self, median: float, spread: float = 0.0, **scope: str) -> None:
        self.call_control_route("POST", "/latency", {"median": median, "spread": spread, **scope})

    def hold_orders(self, **scope: str) -> None:
        """Keeps new orders in progress until they are released."""
        self.set_latency(HELD_SECONDS, **scope)

    def hold_responses(self, vendor: str, route: str = "submit", times: int | None = None) -> None:
        """Delays responses until they are released. The requests are processed at once."""
        self.inject_fault("slow", vendor=vendor, route=route, seconds=HELD_SECONDS, times=times)

    def release_orders(self, **scope: str) -> None:
        """Finishes held orders and sends held responses now. New orders take no time."""
        self.set_latency(0.0, **scope)
        self.call_control_route("POST", "/finish", scope)

    def set_balance(self, vendor: str, usd: str) -> None:
        self.call_control_route("POST", "/balance", {"vendor": vendor, "usd": usd})

    def list_requests(self, vendor: str, route: str | None = None) -> list[dict[str, Any]]:
        """Returns the requests to the vendor on this route, oldest first. Without a route, all but the free queries of
        accounts, which gateways send on their own."""
        entries = self.call_control_route("GET", "/requests")["requests"]
        own = [entry for entry in entries if entry["vendor"] == vendor]
        return [entry for entry in own if (entry["route"] == route if route else entry["route"] != "account")]

    @contextmanager
    def override_switches(self, vendor: str, **switches: object) -> Iterator[None]:
        """Changes switches of the simulated vendor during the block."""
        previous = self.call_control_route("GET", "/switches")[vendor]
        self.call_control_route("POST", "/switches", {vendor: switches})
        try:
            yield
        finally:
            self.call_control_route("POST", "/switches", {vendor: previous})

    def fetch_sample_image(self, width: int = 256, height: int = 256) -> bytes:
        return self.http.get("/_/sample.png", params={"w": width, "h": height}).raise_for_status().content


@contextmanager
def start_sandbox_process(*options: str, **process_options: Any) -> Iterator["subprocess.Popen[str]"]:
    """Starts a sandbox, and kills it after the block if it still runs."""
    command = [sys.executable, "-m", "gateway.cli", "sandbox", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **process_options
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def run_sandbox(*options: str) -> Iterator[RunningSandbox]:
    with start_sandbox_process("--port", "0", "--with-parent", *options) as process:
        url = read_url(process)
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as http:
            yield RunningSandbox(url, http)


def read_url(process: "subprocess.Popen[str]") -> str:
    """Reads the sandbox's output until it listens, and returns its URL."""
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if match := re.search(r"sandbox listening on (\S+)", line):
            return match[1]
    raise AssertionError(f"the sandbox did not start:\n{output}")
