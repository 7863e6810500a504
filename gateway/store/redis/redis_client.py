"""The Redis client of the store, for a single server or a Cluster.

Each server of a Cluster has its own pipeline, so that one that hangs delays only its own keys.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from urllib.parse import quote, unquote

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import OutOfMemoryError, ResponseError

from gateway.store.base import StoreError, StoreFull, StoreUnavailable
from gateway.store.redis.access_problems import find_access_problem
from gateway.store.redis.command_pipeline import MAX_PIPELINES, CommandPipeline, PendingCommand
from gateway.store.redis.scripts import Script

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


async def connect(url: str, client_name: str | None = None) -> "Redis | RedisCluster":
    """Connects to a single server or a Cluster: the server at this URL reports which of them it is.

    `client_name`: the name that the server shows for each connection.
    """
    max_connections = MAX_PIPELINES + 3
    client = create_client(url, max_connections, client_name)
    try:
        server = await client.info("server")
    except Exception as error:
        await client.aclose()
        problem = find_access_problem(error)
        raise StoreUnavailable(str(problem) if problem else f"Redis cannot be reached: {error}") from error
    if server.get("redis_mode") != "cluster":
        return client
    await client.aclose()
    options = {"max_connections": max_connections, "client_name": client_name, **_CONNECTION_OPTIONS}
    return RedisCluster.from_url(url, retry=_make_retry(), **options)


def create_client(url: str, max_connections: int, client_name: str | None = None) -> Redis:
    options = {"max_connections": max_connections, "client_name": client_name, **_CONNECTION_OPTIONS}
    return Redis.from_pool(BlockingConnectionPool.from_url(url, timeout=3, retry=_make_retry(), **options))


def make_client_name(replica_id: str) -> str:
    """Returns the name of a replica's connections, by which other replicas find that its process is running. Names
    may have no spaces."""
    return f"{_CLIENT_NAME_PREFIX}{quote(replica_id)}"


def read_replica_ids(client_list: Any) -> frozenset[str]:
    """Reads the replicas from a server's list of its connections. Raises StoreError if the server refused the list."""
    if isinstance(client_list, Exception):
        raise _translate_error(client_list) from client_list
    return frozenset(map(unquote, _CLIENT_NAME.findall(client_list.decode())))


def random_server_url(client: "Redis | RedisCluster", url: str) -> str:
    """Returns the URL of the single server, or of a random server of a Cluster."""
    if not isinstance(client, RedisCluster):
        return url
    node = client.get_random_node()
    scheme, rest = url.split("://", 1)
    credentials = rest.rpartition("@")[0]
    return f"{scheme}://{credentials + '@' if credentials else ''}{node.host}:{node.port}"


class RedisClient:
    """Executes commands and scripts, each on the server of its first key."""

    def __init__(self, driver: "Redis | RedisCluster", timeout_seconds: float) -> None:
        self.driver = driver
        self._timeout_seconds = timeout_seconds
        self._pipelines: dict[str, CommandPipeline] = {}
        self._is_closed = False

    @property
    def is_single(self) -> bool:
        return not isinstance(self.driver, RedisCluster)

    async def run_script(self, script: Script, keys: Sequence[str], *arguments: Any) -> Any:
        return await self._send_command(keys[0], ("EVALSHA", script.sha, len(keys), *keys, *arguments), script.text)

    async def execute(self, name: str, key: str, *arguments: Any) -> Any:
        return await self._send_command(key, (name, key, *arguments), None)

    async def _send_command(self, key: str, command: tuple[Any, ...], script_text: str | None) -> Any:
        if self._is_closed:
            raise StoreUnavailable("The store is closed.")
        encoded_command = command[0], *(_encode_argument(argument) for argument in command[1:])
        pending = PendingCommand(encoded_command, script_text, self._timeout_seconds)
        reply = await self._get_pipeline(key).execute(pending)
        if isinstance(reply, StoreError):
            raise reply
        if isinstance(reply, Exception):
            raise _translate_error(reply) from reply
        return reply

    def _get_pipeline(self, key: str) -> CommandPipeline:
        server = self._find_server(key)
        if server not in self._pipelines:
            self._pipelines[server] = CommandPipeline(self.driver, self._drop_connections)
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
    if isinstance(error, OutOfMemoryError):
        return StoreFull("Redis has no memory left for new jobs. Raise maxmemory, or wait until old jobs expire.")
    return StoreUnavailable(f"Redis: {type(error).__name__}: {str(error)[:200]}")
