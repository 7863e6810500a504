"""A gateway as a test sees it: the real command in a process of its own, with the sandbox beside it, on free ports."""

import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.vendors import Vendors

ROOT = Path(__file__).parent.parent
# Tests' own, with the sellers and prices that they count on: whoever edits `config/` breaks none of them.
CONFIG = ROOT / "tests" / "config"
KEY = "igw_sandbox"
READY_SECONDS = 60
PR_SET_PDEATHSIG = 1
# Loaded before the fork: between fork and exec nothing may be looked up.
_PRCTL = ctypes.CDLL(None, use_errno=True).prctl


class Serving:
    """A running gateway, and the vendors that it buys from."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.url = self._announced(r"image-gateway listening on (\S+)")
        self.http = client(self.url)
        self._vendors_http = httpx.Client(base_url=self._announced(r"Sandbox +(\S+)/_/"), trust_env=False, timeout=30)
        self.vendors = Vendors(str(self._vendors_http.base_url).rstrip("/"), self._vendors_http)

    def _announced(self, pattern: str) -> str:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if found := re.search(pattern, self.said):
                return found[1]
            assert self.process.poll() is None, self.said + self.logged
            time.sleep(0.02)
        raise AssertionError(f"the gateway did not start:\n{self.said}{self.logged}")

    @property
    def said(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def logged(self) -> str:
        return (self.folder / "stderr").read_text()

    def log_lines(self) -> list[dict[str, Any]]:
        """Without the one that is being written."""
        return [json.loads(line) for line in self.logged.rpartition("\n")[0].splitlines()]

    def troubles(self) -> list[dict[str, Any]]:
        return [line for line in self.log_lines() if line["level"] != "info"]

    def come_to_rest(self, seconds: float = 10.0) -> None:
        """Until no job is being worked on."""
        deadline = time.monotonic() + seconds
        while self.http.get("/readyz").json()["jobs"] and time.monotonic() < deadline:
            time.sleep(0.02)

    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def close(self) -> None:
        self.http.close()
        self._vendors_http.close()


def client(url: str, key: str = KEY) -> httpx.Client:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60)


@contextmanager
def serving(
    folder: Path,
    *options: str,
    ports: tuple[str, ...] = ("--port", "0"),
    environ: Mapping[str, str] | None = None,
    program: str = "gateway.cli",
) -> Iterator[Serving]:
    """Killed when the block ends, and with the test run however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", program, "serve", "--sandbox", "--data", str(folder / "data"), *ports]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IGW_") and name != "REDIS_URL"}
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        process = subprocess.Popen(
            [*command, *options],
            cwd=ROOT,
            stdout=out,
            stderr=err,
            env={**kept, "IGW_CONFIG": str(CONFIG), **(environ or {})},
            preexec_fn=_die_with_parent,
        )
    try:
        running = Serving(process, folder)
        with contextlib.closing(running):
            yield running
    finally:
        process.kill()
        process.wait(timeout=10)


def _die_with_parent() -> None:
    _PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL)
