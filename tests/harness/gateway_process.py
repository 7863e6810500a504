"""A gateway in its own process. Port and data survive restarts, so that it can be killed, paused and started again."""

import multiprocessing
import os
import re
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import httpx

from sandbox.runapi.callbacks import CALLBACK_SECRET
from tests.harness import gateway_child
from tests.harness.wait import wait_until

API_KEY, OTHER_TEAM_KEY = "igw_chaos_key", "igw_other_team_key"
READY_TIMEOUT_SECONDS = 30.0
SECRET_ENVIRON = {
    "RUNFLOW_API_KEY": "rf_sandbox",
    "RUNAPI_API_KEY": "sk-sandbox",
    "OPENAI_API_KEY": "sk-sandbox",
    "RUNAPI_CALLBACK_SECRET": CALLBACK_SECRET,
    "IGW_KEY_CHAOS": API_KEY,
    "IGW_KEY_OTHER_TEAM": OTHER_TEAM_KEY,
}
_forkserver = multiprocessing.get_context("forkserver")
_forkserver.set_forkserver_preload(["pytest", "tests.harness.gateway_child"])


def find_free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


class GatewayProcess:
    """One replica. Its port, data and log stay the same over restarts."""

    def __init__(self, folder: Path, config: Path, environ: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.config, self.port = folder, config, find_free_port()
        self.environ = {**SECRET_ENVIRON, "IGW_DRAIN_SECONDS": "30", **(environ or {})}
        self.log_path = folder / "gateway.log"
        self._process: BaseProcess | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the gateway is not running"
        assert self._process.pid is not None
        return self._process.pid

    def start(self) -> None:
        """Starts the gateway and waits until it listens."""
        earlier_log = self.read_log()
        arguments = ["--config", str(self.config), "--port", str(self.port), "--data", str(self.folder / "data")]
        process = _forkserver.Process(
            target=gateway_child.serve_gateway, args=(arguments, self.environ, str(self.log_path)), daemon=True
        )
        process.start()
        self._process = process
        wait_until(
            lambda: "listening on" in self.read_log()[len(earlier_log) :], "the gateway listens", self._check_alive
        )

    def _check_alive(self) -> None:
        assert self._process is not None
        assert self._process.is_alive(), f"the gateway has exited:\n{self.read_log()[-4_000:]}"

    def read_log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait_for_exit(self, timeout_seconds: float = READY_TIMEOUT_SECONDS) -> int:
        """Waits for the exit and returns the exit code."""
        assert self._process is not None
        self._process.join(timeout_seconds)
        exit_code = self._process.exitcode
        assert exit_code is not None, f"the gateway does not exit:\n{self.read_log()[-4_000:]}"
        self._process.close()
        self._process = None
        return exit_code

    def has_exited(self) -> bool:
        return self._process is not None and not self._process.is_alive()

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
        self.wait_for_exit()

    def stop(self) -> None:
        self.send_signal(signal.SIGTERM)
        assert self.wait_for_exit() == 0, self.read_log()[-4_000:]

    def stop_immediately(self) -> None:
        """Stops with two signals, without waiting for jobs."""
        self.send_signal(signal.SIGTERM)
        wait_until(lambda: self.get("/readyz").status_code == 503, "/readyz reports draining")
        self.send_signal(signal.SIGTERM)
        self.wait_for_exit()

    def kill_if_running(self) -> None:
        if self._process is not None:
            self._process.kill()
            self.wait_for_exit()

    # --- requests and metrics

    def make_client(self, timeout_seconds: float = 60.0) -> httpx.Client:
        return httpx.Client(
            base_url=self.url, headers={"authorization": f"Bearer {API_KEY}"}, timeout=timeout_seconds, trust_env=False
        )

    def get(self, path: str, timeout_seconds: float = 60.0) -> httpx.Response:
        with self.make_client(timeout_seconds) as client:
            return client.get(path)

    def read_metric(self, name: str) -> float:
        """Returns the sum over all labels. Fails if the gateway has no such metric."""
        samples = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", self.get("/metrics").text, re.MULTILINE)
        return sum(map(float, samples))

    def is_idle(self) -> bool:
        return self.read_metric("igw_jobs_in_flight") == 0

    def stays_idle(self, seconds: float) -> bool:
        """Whether no job is in flight for `seconds`, in which jobs of other replicas would be reclaimed."""
        deadline = time.monotonic() + seconds
        while self.is_idle():
            if time.monotonic() >= deadline:
                return True
            time.sleep(0.1)
        return False

    def count_resources(self) -> dict[str, int]:
        """Counts the process's open files and sockets, threads, and event loop tasks."""
        process = Path(f"/proc/{self.pid}")
        counts = {name: len(list((process / kind).iterdir())) for name, kind in (("files", "fd"), ("threads", "task"))}
        return {**counts, "tasks": self._count_tasks()}

    def _count_tasks(self) -> int:
        log_length = len(self.read_log())
        self.send_signal(signal.SIGUSR1)
        return int(
            wait_until(
                lambda: re.search(r"tasks=(\d+)", self.read_log()[log_length:]), "the child prints its task count"
            )[1]
        )

    def read_memory_mb(self, field: str) -> float:
        """Reads `VmRSS` or `VmHWM` of the process, in MB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(rf"{field}:\s+(\d+) kB", status)
        assert match is not None
        return int(match[1]) / 1024


@contextmanager
def run_gateway(folder: Path, config: Path, environ: Mapping[str, str] | None = None) -> Iterator[GatewayProcess]:
    process = GatewayProcess(folder, config, environ)
    try:
        process.start()
        yield process
    finally:
        process.kill_if_running()
