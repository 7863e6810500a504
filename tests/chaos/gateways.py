"""Gateways in processes of their own, on ports and data that outlive them: to be killed, stopped, and started again."""

import multiprocessing
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx

from sandbox.runapi_callbacks import CALLBACK_SECRET
from tests.chaos import hatching

KEY, STRANGERS_KEY = "igw_chaos_key", "igw_strangers_key"
READY_SECONDS = 30.0
ENVIRON = {
    "RUNFLOW_API_KEY": "rf_sandbox",
    "RUNAPI_API_KEY": "sk-sandbox",
    "OPENAI_API_KEY": "sk-sandbox",
    "RUNAPI_CALLBACK_SECRET": CALLBACK_SECRET,
    "IGW_KEY_CHAOS": KEY,
    "IGW_KEY_STRANGERS": STRANGERS_KEY,
}
_hatchery = multiprocessing.get_context("forkserver")
_hatchery.set_forkserver_preload(["pytest", "tests.chaos.hatching"])


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Gateway:
    """One replica: where it listens and what it keeps stays the same however often it is started."""

    def __init__(self, folder: Path, config: Path, environ: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.config, self.port = folder, config, free_port()
        self.environ = {**ENVIRON, "IGW_DRAIN_SECONDS": "30", **(environ or {})}
        self.log = folder / "gateway.log"
        self._process: BaseProcess | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "it is not running"
        assert self._process.pid is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when it listens."""
        said = self.said()
        arguments = ["--config", str(self.config), "--port", str(self.port), "--data", str(self.folder / "data")]
        started = _hatchery.Process(target=hatching.serve, args=(arguments, self.environ, str(self.log)), daemon=True)
        started.start()
        self._process = started
        until(lambda: "listening on" in self.said()[len(said) :], "it listens", self._is_alive)

    def _is_alive(self) -> None:
        assert self._process is not None
        assert self._process.is_alive(), f"it ended:\n{self.said()[-4_000:]}"

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def ended(self, seconds: float = READY_SECONDS) -> int:
        """Its exit code, when it has."""
        assert self._process is not None
        self._process.join(seconds)
        code = self._process.exitcode
        assert code is not None, f"it does not end:\n{self.said()[-4_000:]}"
        self._process.close()
        self._process = None
        return code

    def has_died(self) -> bool:
        return self._process is not None and not self._process.is_alive()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.ended()

    def stop(self) -> None:
        self.signal(signal.SIGTERM)
        assert self.ended() == 0, self.said()[-4_000:]

    def stop_at_once(self) -> None:
        """Without letting anything finish."""
        self.signal(signal.SIGTERM)
        until(lambda: self.get("/readyz").status_code == 503, "it drains")
        self.signal(signal.SIGTERM)
        self.ended()

    def discard(self) -> None:
        if self._process is not None:
            self._process.kill()
            self.ended()

    # --- what is asked of it

    def client(self, seconds: float = 60.0) -> httpx.Client:
        return httpx.Client(
            base_url=self.url, headers={"authorization": f"Bearer {KEY}"}, timeout=seconds, trust_env=False
        )

    def get(self, path: str, seconds: float = 60.0) -> httpx.Response:
        with self.client(seconds) as client:
            return client.get(path)

    def metric(self, name: str) -> float:
        """The sum over its labels."""
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", self.get("/metrics").text, re.MULTILINE)
        return sum(map(float, found))

    def is_idle(self) -> bool:
        return self.metric("igw_jobs_in_flight") == 0

    def is_idle_for(self, seconds: float) -> bool:
        """Also in a while: whatever somebody else has left behind would have been taken over by then."""
        ends = time.monotonic() + seconds
        while self.is_idle():
            if time.monotonic() >= ends:
                return True
            time.sleep(0.1)
        return False

    def counts(self) -> dict[str, int]:
        """What its process holds: open files and sockets, threads, tasks of its event loop."""
        process = Path(f"/proc/{self.pid}")
        held = {name: len(list((process / kind).iterdir())) for name, kind in (("files", "fd"), ("threads", "task"))}
        return {**held, "tasks": self._tasks()}

    def _tasks(self) -> int:
        said = len(self.said())
        self.signal(signal.SIGUSR1)
        return int(until(lambda: re.search(r"tasks=(\d+)", self.said()[said:]), "it tells its tasks")[1])

    def memory_mb(self, what: str) -> float:
        """`VmRSS` or `VmHWM`."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"{what}:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024


@contextmanager
def gateway(folder: Path, config: Path, environ: Mapping[str, str] | None = None) -> Iterator[Gateway]:
    one = Gateway(folder, config, environ)
    try:
        one.start()
        yield one
    finally:
        one.discard()


def until(
    holds: Callable[[], Any], what: str, meanwhile: Callable[[], None] = lambda: None, seconds: float = 60.0
) -> Any:
    """What `holds` says, as soon as it is true of anything."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        meanwhile()
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)
    return found
