"""Runs the real command with its own sandbox, on free ports."""

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

from tests.harness.sandbox_runner import RunningSandbox

ROOT = Path(__file__).parents[2]
# The tests' own configuration: edits of `config/` do not affect them.
CONFIG = ROOT / "tests" / "config"
API_KEY = "igw_sandbox"
READY_TIMEOUT_SECONDS = 60
PR_SET_PDEATHSIG = 1
# Loaded before the fork, because the child may not import between fork and exec.
_PRCTL = ctypes.CDLL(None, use_errno=True).prctl


class RunningGateway:
    """A running gateway and its sandbox."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.url = self._wait_for_output(r"image-gateway listening on (\S+)")
        self.http = make_client(self.url)
        self._sandbox_http = httpx.Client(
            base_url=self._wait_for_output(r"Sandbox +(\S+)/_/"), trust_env=False, timeout=30
        )
        self.sandbox = RunningSandbox(str(self._sandbox_http.base_url).rstrip("/"), self._sandbox_http)

    def _wait_for_output(self, pattern: str) -> str:
        deadline = time.monotonic() + READY_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if match := re.search(pattern, self.stdout):
                return match[1]
            assert self.process.poll() is None, self.stdout + self.stderr
            time.sleep(0.02)
        raise AssertionError(f"the gateway did not start:\n{self.stdout}{self.stderr}")

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def read_log_lines(self) -> list[dict[str, Any]]:
        """Returns the parsed log, without a line that is still being written."""
        return [json.loads(line) for line in self.stderr.rpartition("\n")[0].splitlines()]

    def read_problem_lines(self) -> list[dict[str, Any]]:
        return [line for line in self.read_log_lines() if line["level"] != "info"]

    def wait_until_idle(self, timeout: float = 10.0) -> None:
        """Waits until no job is in flight."""
        deadline = time.monotonic() + timeout
        while self.http.get("/readyz").json()["jobs"] and time.monotonic() < deadline:
            time.sleep(0.02)

    def get_resident_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert match is not None
        return int(match[1]) * 1024

    def close(self) -> None:
        self.http.close()
        self._sandbox_http.close()


def make_client(url: str, api_key: str = API_KEY) -> httpx.Client:
    headers = {"authorization": f"Bearer {api_key}"}
    return httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60)


@contextmanager
def run_gateway(
    folder: Path,
    *options: str,
    ports: tuple[str, ...] = ("--port", "0"),
    environ: Mapping[str, str] | None = None,
    module: str = "gateway.cli",
) -> Iterator[RunningGateway]:
    """Runs a gateway. It is killed after the block, and when the test run ends."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", module, "serve", "--sandbox", "--data", str(folder / "data"), *ports]
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("IGW_") and name != "REDIS_URL"
    }
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        process = subprocess.Popen(
            [*command, *options],
            cwd=ROOT,
            stdout=out,
            stderr=err,
            env={**inherited, "IGW_CONFIG": str(CONFIG), **(environ or {})},
            preexec_fn=_set_parent_death_signal,
        )
    try:
        gateway = RunningGateway(process, folder)
        with contextlib.closing(gateway):
            yield gateway
    finally:
        process.kill()
        process.wait(timeout=10)


def _set_parent_death_signal() -> None:
    _PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL)
