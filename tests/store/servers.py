"""Real redis-servers of a test's own: on free ports, with folders of their own, gone when the test run is."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

ROOT = Path(__file__).parent.parent.parent
READY_SECONDS = 20.0
SLOTS = 16_384
PR_SET_PDEATHSIG = 1
# Loaded before the fork: between fork and exec nothing may be looked up.
_PRCTL = ctypes.CDLL(None, use_errno=True).prctl


class Server:
    """One redis-server that loses nothing when it is killed, and comes back on the same port with the same data."""

    def __init__(self, folder: Path, clustered: bool = False, options: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.clustered = clustered
        self.port, self.bus = _free_ports(2)
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "it is not running"
        return self._process.pid

    def start(self) -> None:
        """Returns when it answers, with everything that it had."""
        assert self._process is None, "it is running"
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log, preexec_fn=_die_with_parent)
        self._until("it answers", self._answers)
        if self.clustered:
            self._take_all_slots()

    def stop(self) -> None:
        """As an operator does it."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def cli(self, *command: Any) -> Any:
        with closing(self.client()) as client:
            return client.execute_command(*command)

    def client(self) -> "redis.Redis[bytes]":
        """One that never tries anything twice."""
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=10.0, retry=Retry(NoBackoff(), 0))

    def _command(self) -> list[str]:
        path = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        server = shutil.which("redis-server", path=path)
        assert server is not None, "there is no redis-server: run `make setup`"
        cluster = ("--cluster-enabled", "yes", "--cluster-port", str(self.bus)) if self.clustered else ()
        return [
            *(server, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction", "--save", ""),
            *cluster,
            *self._options,
        ]

    def _answers(self) -> bool:
        process = self._process
        assert process is not None
        assert process.poll() is None, f"it ended:\n{(self.folder / 'redis.log').read_text()}"
        try:
            return bool(self.cli("PING"))
        except (redis.ConnectionError, redis.exceptions.BusyLoadingError):
            return False

    def _take_all_slots(self) -> None:
        if b"cluster_slots_assigned:0" in self.cli("CLUSTER", "INFO"):
            self.cli("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        self._until("the cluster is whole", lambda: b"cluster_state:ok" in self.cli("CLUSTER", "INFO"))

    def _until(self, what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not holds():
            assert time.monotonic() < deadline, f"never: {what}\n{(self.folder / 'redis.log').read_text()}"
            time.sleep(0.005)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        self._process.wait(timeout=READY_SECONDS)
        self._process = None


@contextmanager
def running(folder: Path, clustered: bool = False, options: tuple[str, ...] = ()) -> Iterator[Server]:
    server = Server(folder, clustered, options)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def single(folder: Path, *options: str) -> "contextmanager[Server]":
    return running(folder, options=options)


def clustered(folder: Path, *options: str) -> "contextmanager[Server]":
    """One node that has all slots: as strict about them as a cluster of many."""
    return running(folder, clustered=True, options=options)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _die_with_parent() -> None:
    """However the test run ends."""
    _PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL)
