"""A primary, replicas of it, and three Sentinels that replace the primary when it fails: all real processes."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gateway.store.redis.access_problems import ACL_RULES
from tests.harness.ports import reserve_port
from tests.harness.wait import wait_for_value, wait_until
from tests.store.redis_servers import RedisServer, find_server_program, set_parent_death_signal
from tests.store.tls_files import TlsFiles

SERVICE = "jobs"
SERVER_PASSWORD, SENTINEL_PASSWORD = "the servers' password", "the sentinels' password"
DOWN_AFTER_MILLISECONDS = 2_000
# A Sentinel whose timers were late by 2 s, on a busy machine, starts no failover for 30 s.
FAILOVER_TIMEOUT_SECONDS = 120.0


class Sentinel:
    """One Sentinel. It writes what it learns into its configuration file."""

    def __init__(self, folder: Path, program: str, tls: TlsFiles | None) -> None:
        self.port = reserve_port()
        self.program = program
        self.tls = tls
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, primary_port: int, quorum: int) -> None:
        self._folder.mkdir()
        ports = self.tls.list_server_options(self.port) if self.tls else [("port", str(self.port))]
        lines = [
            *(f"{name} {value}" for name, value in ports),
            "bind 127.0.0.1",
            f"dir {self._folder}",
            f'requirepass "{SENTINEL_PASSWORD}"',
            f'sentinel sentinel-pass "{SENTINEL_PASSWORD}"',
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary_port} {quorum}",
            f'sentinel auth-pass {SERVICE} "{SERVER_PASSWORD}"',
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MILLISECONDS}",
            f"sentinel failover-timeout {SERVICE} 5000",
        ]
        config = self._folder / "sentinel.conf"
        config.write_text("\n".join(lines) + "\n")
        with (self._folder / "sentinel.log").open("ab") as log:
            self._process = subprocess.Popen(
                [find_server_program(self.program), str(config), "--sentinel"],
                stdout=log,
                stderr=log,
                preexec_fn=set_parent_death_signal,
            )

    def execute(self, *command: str) -> object:
        with self._make_client() as client:
            return client.execute_command("SENTINEL", *command)

    def find_primary_port(self) -> int | None:
        try:
            reply = self.execute("GET-MASTER-ADDR-BY-NAME", SERVICE)
        except redis.ConnectionError:
            return None
        assert isinstance(reply, tuple | list | None)
        return int(reply[1]) if reply else None

    def has_peers(self, sentinel_count: int, replica_count: int) -> bool:
        """Returns whether this Sentinel has found all others, and all replicas."""
        try:
            [state] = [state for state in self._list_services().values() if state["name"] == SERVICE]
        except redis.ConnectionError:
            return False
        return (
            state["num-other-sentinels"] == sentinel_count - 1
            and state["num-slaves"] == replica_count
            and not state["is_disconnected"]
        )

    def _list_services(self) -> dict[str, dict[str, object]]:
        with self._make_client() as client:
            services: dict[str, dict[str, object]] = client.sentinel_masters()
            return services

    def _make_client(self) -> "redis.Redis[bytes]":
        return redis.Redis(
            host="127.0.0.1",
            port=self.port,
            password=SENTINEL_PASSWORD,
            ssl=self.tls is not None,
            **(self.tls.client_options if self.tls else {}),
            retry=Retry(NoBackoff(), 0),
        )

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(timeout=60)
            self._process = None


class SentinelDeployment:
    """Running servers, the first of which is the primary, and their Sentinels."""

    def __init__(self, servers: list[RedisServer], sentinels: list[Sentinel]) -> None:
        self.servers = servers
        self.sentinels = sentinels

    @property
    def url(self) -> str:
        return self.make_url()

    def make_url(self, user: str = "") -> str:
        tls = self.sentinels[0].tls
        scheme, options = ("rediss", f"&{tls.url_option}") if tls else ("redis", "")
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        password, sentinel_password = quote(SERVER_PASSWORD), quote(SENTINEL_PASSWORD)
        return (
            f"{scheme}+sentinel://{user}:{password}@{hosts}/{SERVICE}/0?sentinel_password={sentinel_password}{options}"
        )

    def create_user(self, rules: str = ACL_RULES) -> str:
        """Creates a user on all servers, since replicas do not receive it. Returns the URL with it."""
        for server in self.servers:
            server.execute("ACL", "SETUSER", "gateway", "reset", "on", f">{SERVER_PASSWORD}", *rules.split())
        return self.make_url("gateway")

    @property
    def primary(self) -> RedisServer:
        """The server that all Sentinels report as the primary."""
        ports = [sentinel.find_primary_port() for sentinel in self.sentinels]
        [server] = [server for server in self.servers if {server.port} == set(ports)]
        return server

    @property
    def replicas(self) -> list[RedisServer]:
        primary = self.primary
        return [server for server in self.servers if server is not primary]

    def list_primary_ports(self) -> set[int | None]:
        """Lists the ports that the Sentinels report. During a failover they may not agree."""
        return {sentinel.find_primary_port() for sentinel in self.sentinels}

    def wait_for_failover(self, old_primary: RedisServer) -> RedisServer:
        """Waits until all Sentinels report another primary. Returns it."""
        wait_for_value(
            self.list_primary_ports,
            lambda ports: len(ports) == 1 and not ports & {old_primary.port, None},
            "the Sentinels have replaced the primary",
            timeout_seconds=FAILOVER_TIMEOUT_SECONDS,
        )
        return self.primary

    def cut_replication(self) -> None:
        """Ends the replication, so that no replica receives what the primary writes from now on."""
        for replica in self.replicas:
            replica.execute("CONFIG", "SET", "masterauth", "wrong")
        self.primary.execute("CLIENT", "KILL", "TYPE", "replica")


def count_connected_replicas(server: RedisServer) -> int:
    info = server.execute("INFO", "replication")
    return sum(name.startswith("slave") and value["state"] == "online" for name, value in info.items() if name[5:6])


@contextmanager
def run_sentinel_deployment(
    folder: Path, replica_count: int = 1, program: str = "redis-server", tls: TlsFiles | None = None
) -> Iterator[SentinelDeployment]:
    # A replica receives its first data at once, and not after waiting for others.
    options = ("--repl-diskless-sync-delay", "0")
    make_server = partial(RedisServer, password=SERVER_PASSWORD, program=program, tls=tls)
    primary = make_server(folder / "server-0", options=options)
    replica_options = (*options, "--replicaof", "127.0.0.1", str(primary.port))
    replicas = [
        make_server(folder / f"server-{number + 1}", options=replica_options) for number in range(replica_count)
    ]
    sentinels = [Sentinel(folder / f"sentinel-{number}", program, tls) for number in range(3)]
    deployment = SentinelDeployment([primary, *replicas], sentinels)
    try:
        for server in deployment.servers:
            server.start()
        wait_until(lambda: count_connected_replicas(primary) == replica_count, "the replicas are connected")
        for sentinel in sentinels:
            sentinel.start(primary.port, 2)
        wait_until(
            lambda: all(sentinel.has_peers(len(sentinels), replica_count) for sentinel in sentinels),
            "the Sentinels have found each other",
        )
        yield deployment
    finally:
        for process in (*sentinels, *deployment.servers):
            process.kill()
