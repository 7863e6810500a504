"""Runs real Redis servers for tests, on free ports and with their own folders. They end with the test run."""

import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gateway.store.redis.access_problems import ACL_RULES
from tests.harness.ports import reserve_port
from tests.harness.wait import wait_for_value, wait_until
from tests.store.tls_files import TlsFiles

REPOSITORY = Path(__file__).parent.parent.parent
READY_TIMEOUT_SECONDS = 60.0
SLOT_COUNT = 16_384
PR_SET_PDEATHSIG = 1
SERVER_PROGRAMS = ("redis-server", "valkey-server")
# Loaded before the fork: nothing may be loaded between fork and exec.
_PRCTL = ctypes.CDLL(None, use_errno=True).prctl


class RedisServer:
    """A Redis server that loses no data when it is killed, and restarts on the same port. `options`: further ones,
    as on the command line."""

    def __init__(  # noqa: PLR0913 - all but the folder have a default
        self,
        folder: Path,
        is_cluster: bool = False,
        options: tuple[str, ...] = (),
        password: str | None = None,
        program: str = "redis-server",
        tls: TlsFiles | None = None,
    ) -> None:
        self.folder = folder
        self.tls = tls
        self.program = program
        self.is_cluster = is_cluster
        self.password = password
        self.port, self.bus_port = reserve_port(), reserve_port()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return (
            f"rediss://127.0.0.1:{self.port}/0?{self.tls.url_option}"
            if self.tls
            else f"redis://127.0.0.1:{self.port}/0"
        )

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def create_user(self, name: str = "gateway", rules: str = ACL_RULES) -> str:
        """Creates a user with these rights, by default those that the gateway needs. Returns its URL."""
        self.execute("ACL", "SETUSER", name, "reset", "on", ">password", *rules.split())
        return self.url.replace("://", f"://{name}:password@", 1)

    def start(self) -> None:
        """Starts the server. Returns when it answers with all its data."""
        assert self._process is None, "the server is running"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_config()
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [find_server_program(self.program), self._config_path],
                stdout=log,
                stderr=log,
                preexec_fn=set_parent_death_signal,
            )
        self._wait_until("it answers", self._is_ready)
        if self.is_cluster:
            self._take_all_slots()

    def wait_for_aof_rewrite(self) -> None:
        """Waits until no rewrite of the append-only file is running or scheduled."""
        wait_until(self._has_no_aof_rewrite, "the append-only file is rewritten", timeout_seconds=READY_TIMEOUT_SECONDS)

    def _has_no_aof_rewrite(self) -> bool:
        info = self.execute("INFO", "persistence")
        return not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]

    def stop(self) -> None:
        """Stops the server normally."""
        self._stop_process(signal.SIGTERM)

    def kill(self) -> None:
        self._stop_process(signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def execute(self, *command: Any) -> Any:
        with closing(self.make_client()) as client:
            return client.execute_command(*command)

    def make_client(self) -> "redis.Redis[bytes]":
        """Makes a client that never retries."""
        return redis.Redis(
            host="127.0.0.1",
            port=self.port,
            password=self.password,
            ssl=self.tls is not None,
            **(self.tls.client_options if self.tls else {}),
            socket_timeout=60.0,
            retry=Retry(NoBackoff(), 0),
        )

    @property
    def _config_path(self) -> Path:
        return self.folder / "redis.conf"

    def _write_config(self) -> None:
        """Writes the configuration before the first start. Afterwards it is the server's own: Sentinels let a server
        save which one it follows, since that must hold after a restart."""
        if not self._config_path.exists():
            self._config_path.write_text("\n".join(self._make_config()))

    def _make_config(self) -> Iterator[str]:
        ports = self.tls.list_server_options(self.port) if self.tls else [("port", str(self.port))]
        yield from (f"{name} {value}" for name, value in ports)
        yield from ("bind 127.0.0.1", f"dir {self.folder}")
        yield from ("appendonly yes", "appendfsync always", "maxmemory-policy noeviction", 'save ""')
        if self.password:
            yield from (f'requirepass "{self.password}"', f'masterauth "{self.password}"')
        if self.is_cluster:
            yield from ("cluster-enabled yes", f"cluster-port {self.bus_port}")
        yield from " ".join(self._options).removeprefix("--").split(" --")

    def _is_ready(self) -> bool:
        process = self._process
        assert process is not None
        assert process.poll() is None, f"the server has ended:\n{(self.folder / 'redis.log').read_text()}"
        try:
            return bool(self.execute("PING"))
        except (redis.ConnectionError, redis.exceptions.BusyLoadingError):
            return False

    def _take_all_slots(self) -> None:
        if b"cluster_slots_assigned:0" in self.execute("CLUSTER", "INFO"):
            self.execute("CLUSTER", "ADDSLOTSRANGE", 0, SLOT_COUNT - 1)
        self._wait_until("the cluster is whole", lambda: b"cluster_state:ok" in self.execute("CLUSTER", "INFO"))

    def _wait_until(self, description: str, condition: Callable[[], bool]) -> None:
        """Waits for the condition. On a timeout the error contains the server's log."""
        wait_for_value(
            lambda: (condition(), (self.folder / "redis.log").read_text()),
            lambda state: state[0],
            description,
            timeout_seconds=READY_TIMEOUT_SECONDS,
        )

    def _stop_process(self, stop_signal: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(stop_signal)
        self._process.wait(timeout=READY_TIMEOUT_SECONDS)
        self._process = None


def find_server_program(name: str = "redis-server") -> str:
    path = f"{REPOSITORY / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    program = shutil.which(name, path=path)
    assert program is not None, f"there is no {name}: run `make setup`"
    return program


@contextmanager
def run_server(
    folder: Path, is_cluster: bool = False, options: tuple[str, ...] = (), program: str = "redis-server"
) -> Iterator[RedisServer]:
    server = RedisServer(folder, is_cluster, options, program=program)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def run_single_server(folder: Path, *options: str) -> AbstractContextManager[RedisServer]:
    return run_server(folder, options=options)


def run_cluster_server(
    folder: Path, *options: str, program: str = "redis-server"
) -> AbstractContextManager[RedisServer]:
    """Runs one node with all slots. It checks slots as strictly as a larger Cluster."""
    return run_server(folder, is_cluster=True, options=options, program=program)


def run_valkey_server(folder: Path, *options: str) -> AbstractContextManager[RedisServer]:
    return run_server(folder, options=options, program="valkey-server")


def set_parent_death_signal() -> None:
    """Makes the server end with the test run, however that ends."""
    _PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL)
