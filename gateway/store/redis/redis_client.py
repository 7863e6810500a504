"""The Redis client of the store, for a single server, the primary that Sentinels report, or a Cluster.

Each server of a Cluster has its own pipeline, so that one that hangs delays only its own keys.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any
from urllib.parse import quote, unquote

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError, ResponseError, TimeoutError

from gateway.store.base import StoreError, StoreFull, StoreMisconfigured, StoreReadOnly, StoreUnavailable
from gateway.store.redis.access_problems import CLIENT_CERTIFICATE_REMEDY, find_access_problem
from gateway.store.redis.cluster_connection import ClusterCommands
from gateway.store.redis.command_pipeline import MAX_PIPELINES, CommandPipeline, PendingCommand
from gateway.store.redis.scripts import Script
from gateway.store.redis.sentinel_connection import make_primary_options
from gateway.store.redis.server_url import ServerUrl, check_files
from gateway.store.redis.write_refusals import FULL, find_write_refusal
from gateway.timeouts_and_intervals import StoreTiming

# A call takes Redis as long as all of its partitions do, and other commands wait for it.
MAX_PARTITIONS_PER_SCRIPT = 16
_CLIENT_NAME_PREFIX = "igw:"
_CLIENT_NAME = re.compile(rf" name={_CLIENT_NAME_PREFIX}(\S+)")
_CONNECTION_OPTIONS: dict[str, Any] = {
    "socket_connect_timeout": 2.0,
    "socket_timeout": 2.0,
    "socket_keepalive": True,
    "health_check_interval": 15,
}


def _make_retry() -> Retry:
    return Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.3), 1)


async def connect(url: ServerUrl, timing: StoreTiming, client_name: str | None = None) -> "Redis | RedisCluster":
    """Connects to a single server, a primary or a Cluster. A server at a plain URL reports whether it is in a Cluster.

    `client_name`: the name that the server shows for each connection.
    """
    check_files(url)
    max_connections = MAX_PIPELINES + 3
    if url.kind == "cluster":
        return await _connect_to_cluster(url, max_connections, client_name)
    client = create_client(url, max_connections, timing, client_name)
    try:
        server = await client.info("server")
    except Exception as error:
        await client.aclose()
        raise _make_connect_error(url, error) from error
    # Valkey has the second name.
    mode = server.get("redis_mode") or server.get("server_mode")
    if mode == "standalone":
        return client
    await client.aclose()
    if mode == "sentinel":
        raise StoreMisconfigured("REDIS_URL leads to a Sentinel. Write redis+sentinel://, and the service's name.")
    return await _connect_to_cluster(url, max_connections, client_name)


async def _connect_to_cluster(url: ServerUrl, max_connections: int, client_name: str | None) -> RedisCluster:
    options = {"max_connections": max_connections, "client_name": client_name, **_CONNECTION_OPTIONS}
    nodes = [ClusterNode(host, port) for host, port in url.hosts] or None
    cluster = RedisCluster.from_url(url.connection_url, retry=_make_retry(), startup_nodes=nodes, **options)
    cluster.commands_parser = ClusterCommands(cluster)
    try:
        await cluster.initialize()
    except Exception as error:
        await cluster.aclose()
        raise _make_connect_error(url, error) from error
    return cluster


def _make_connect_error(url: ServerUrl, error: Exception) -> StoreUnavailable:
    if problem := find_access_problem(error):
        return StoreUnavailable(str(problem))
    message = f"Redis cannot be reached: {str(error).removesuffix('.')}."
    # A server without TLS waits for more. One that requires TLS, or a certificate, ends a connection without it.
    if url.is_tls and isinstance(error, TimeoutError):
        message += " If its port has no TLS, write redis:// in REDIS_URL."
    elif isinstance(error, ConnectionError) and "reading" in str(error):
        message += f" {CLIENT_CERTIFICATE_REMEDY}" if url.is_tls else " If its port requires TLS, write rediss://."
    return StoreUnavailable(message)


def create_client(url: ServerUrl, max_connections: int, timing: StoreTiming, client_name: str | None = None) -> Redis:
    """Creates a client of one server, or of the primary that Sentinels report."""
    options = {"max_connections": max_connections, "client_name": client_name, **_CONNECTION_OPTIONS}
    pool_options: dict[str, Any] = {"timeout": 3, "retry": _make_retry(), **options}
    if url.kind == "sentinel":
        return Redis.from_pool(BlockingConnectionPool(**{**pool_options, **make_primary_options(url, timing)}))
    return Redis.from_pool(BlockingConnectionPool.from_url(url.connection_url, **pool_options))


def make_client_name(replica_id: str) -> str:
    """Returns the name of a replica's connections, by which other replicas find that its process is running. Names
    may have no spaces."""
    return f"{_CLIENT_NAME_PREFIX}{quote(replica_id)}"


def read_replica_ids(client_list: Any) -> frozenset[str]:
    """Reads the replicas from a server's list of its connections. Raises StoreError if the server refused the list."""
    if isinstance(client_list, Exception):
        raise _translate_error(client_list) from client_list
    return frozenset(map(unquote, _CLIENT_NAME.findall(client_list.decode())))


def select_random_server(client: "Redis | RedisCluster", url: ServerUrl) -> ServerUrl:
    """Returns the URL itself, or that of a random server of a Cluster."""
    if not isinstance(client, RedisCluster):
        return url
    node = client.get_random_node()
    return url.select_server(node.host, int(node.port))


class RedisClient:
    """Executes commands and scripts, each on the server of its first key. `min_replicas`: how many replicas must have
    what a replicated script wrote before its reply is returned."""

    def __init__(self, driver: "Redis | RedisCluster", timing: StoreTiming, min_replicas: int = 0) -> None:
        self.driver = driver
        self.min_replicas = min_replicas
        self._timing = timing
        self._pipelines: dict[str, CommandPipeline] = {}
        self._is_closed = False

    @property
    def is_single(self) -> bool:
        return not isinstance(self.driver, RedisCluster)

    async def run_script(self, script: Script, keys: Sequence[str], *arguments: Any) -> Any:
        command = ("EVALSHA", script.sha, len(keys), *keys, *arguments)
        return await self._send_command(keys[0], command, script)

    def run_on_partitions(
        self, script: Script, keys: Iterable[Sequence[str]], *arguments: Any
    ) -> Iterator[Awaitable[list[Any]]]:
        """Runs a script on partitions, whose keys these are: on several at once, unless a Cluster has them on different
        servers. Yields calls that return the replies of their partitions."""
        size = MAX_PARTITIONS_PER_SCRIPT if self.is_single else 1
        keys = list(keys)
        for first in range(0, len(keys), size):
            yield self.run_script(script, list(chain.from_iterable(keys[first : first + size])), *arguments)

    async def execute(self, name: str, key: str, *arguments: Any) -> Any:
        return await self._send_command(key, (name, key, *arguments), None)

    async def read_fields(self, key: str, *fields: str) -> list[Any]:
        """Returns the values of a hash's fields. That one is missing, replicas must confirm: a primary that stood still
        while it was replaced answers what it was asked, without what was written since."""
        command = ("HMGET", key, *fields)
        values: list[Any] = await self._send_command(key, command, None)
        if self.min_replicas and None in values:
            values = await self._send_command(key, command, None, is_replicated=True)
        return values

    async def _send_command(
        self, key: str, command: tuple[Any, ...], script: Script | None, is_replicated: bool = False
    ) -> Any:
        if self._is_closed:
            raise StoreUnavailable("The store is closed.")
        encoded_command = command[0], *(_encode_argument(argument) for argument in command[1:])
        pending = PendingCommand(
            encoded_command,
            script.text if script else None,
            self._timing.command_timeout_seconds,
            is_replicated=is_replicated or (script is not None and script.is_replicated),
        )
        reply = await self._get_pipeline(key).execute(pending)
        if isinstance(reply, StoreError):
            raise reply
        if isinstance(reply, Exception):
            raise _translate_error(reply) from reply
        return reply

    def _get_pipeline(self, key: str) -> CommandPipeline:
        server = self._find_server(key)
        if server not in self._pipelines:
            self._pipelines[server] = CommandPipeline(
                self.driver, self._drop_connections, self._timing, self.min_replicas
            )
        return self._pipelines[server]

    def _find_server(self, key: str) -> str:
        if not isinstance(self.driver, RedisCluster):
            return ""
        nodes = self.driver.nodes_manager.slots_cache.get(self.driver.keyslot(key))
        return nodes[0].name if nodes else ""

    async def _drop_connections(self) -> None:
        """Closes all connections: after a failover, old ones lead to the wrong server."""
        if isinstance(self.driver, RedisCluster):
            await self.driver.aclose()
        else:
            await self.driver.connection_pool.disconnect(inuse_connections=False)

    async def execute_on_primaries(self, *command: Any) -> list[Any]:
        """Executes a command on each primary server. Returns errors of the servers as replies."""
        return await self._execute_on_nodes(command, RedisCluster.get_primaries)

    async def execute_on_all_servers(self, *command: Any) -> list[Any]:
        """Executes a command on each server, also those that are copies of others. Returns errors as replies."""
        return await self._execute_on_nodes(command, RedisCluster.get_nodes)

    async def _execute_on_nodes(
        self, command: Sequence[Any], list_nodes: "Callable[[RedisCluster], list[ClusterNode]]"
    ) -> list[Any]:
        try:
            if isinstance(self.driver, RedisCluster):
                await self.driver.initialize()
                nodes = list_nodes(self.driver)
                execute: Callable[..., Any] = self.driver.execute_command
                return [await _await_reply(execute(*command, target_nodes=node)) for node in nodes]
            return [await _await_reply(self.driver.execute_command(*command))]  # type: ignore[no-untyped-call]
        except Exception as error:
            raise _translate_error(error) from error

    async def scan_keys(self, pattern: str) -> AsyncIterator[str]:
        """Yields all matching keys of all servers. It is slow, and used only after a restart of Redis."""
        try:
            async for key in self.driver.scan_iter(match=pattern, count=1000):
                yield key.decode()
        except Exception as error:
            raise _translate_error(error) from error

    async def close(self) -> None:
        """Refuses new commands, waits for pending ones, and disconnects."""
        self._is_closed = True
        await asyncio.gather(*(pipeline.wait_until_idle() for pipeline in self._pipelines.values()))
        await self.driver.aclose()


def _encode_argument(value: Any) -> Any:
    """Encodes an argument before its command joins a batch. So an invalid argument fails only for its own caller."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | int | float) and not isinstance(value, bool):
        return value
    raise TypeError(f"Invalid argument of type {type(value).__name__} for a Redis command.")


async def _await_reply(call: Any) -> Any:
    try:
        return await call
    except ResponseError as error:
        return error


def _translate_error(error: Exception) -> StoreError:
    if isinstance(error, StoreError):
        return error
    if problem := find_write_refusal(error):
        return StoreFull(str(problem)) if problem is FULL else StoreReadOnly(str(problem))
    return StoreUnavailable(f"Redis: {type(error).__name__}: {str(error)[:200]}")
