"""The way to Redis, single or Cluster. Each server of a Cluster has a lane of its own: one that hangs holds up only
what it alone has."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import OutOfMemoryError, ResponseError

from gateway.store.base import StoreError, StoreFull, StoreUnavailable
from gateway.store.redis.lane import PIPELINES, Asked, Lane
from gateway.store.redis.scripts import Script

_OPTIONS: dict[str, Any] = {
    "socket_connect_timeout": 1.0,
    "socket_timeout": 2.0,
    "socket_keepalive": True,
    "health_check_interval": 15,
}


def _retry() -> Retry:
    return Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.3), 1)


async def connect(url: str) -> "Redis | RedisCluster":
    """A Cluster is told from a single server by asking it."""
    single = single_client(url, connections=PIPELINES + 3)
    try:
        server = await single.info("server")
    except Exception as error:
        await single.aclose()
        raise StoreUnavailable(f"Redis does not answer: {error}") from error
    if server.get("redis_mode") != "cluster":
        return single
    await single.aclose()
    return RedisCluster.from_url(url, retry=_retry(), max_connections=PIPELINES + 3, **_OPTIONS)


def single_client(url: str, connections: int) -> Redis:
    pool = BlockingConnectionPool.from_url(url, max_connections=connections, timeout=3, retry=_retry(), **_OPTIONS)
    return Redis.from_pool(pool)


def any_server(client: "Redis | RedisCluster", url: str) -> str:
    """The address of one: of any where there are several."""
    if not isinstance(client, RedisCluster):
        return url
    node = client.get_random_node()
    scheme, rest = url.split("://", 1)
    credentials = rest.rpartition("@")[0]
    return f"{scheme}://{credentials + '@' if credentials else ''}{node.host}:{node.port}"


class Link:
    """Takes commands until it is closed."""

    def __init__(self, client: "Redis | RedisCluster") -> None:
        self.client = client
        self._lanes: dict[str, Lane] = {}
        self._is_closed = False

    @property
    def is_single(self) -> bool:
        return not isinstance(self.client, RedisCluster)

    async def script(self, script: Script, keys: Sequence[str], *arguments: Any) -> Any:
        return await self._answer(keys[0], ("EVALSHA", script.sha, len(keys), *keys, *arguments), script.text)

    async def command(self, name: str, key: str, *arguments: Any) -> Any:
        return await self._answer(key, (name, key, *arguments), None)

    async def _answer(self, key: str, command: tuple[Any, ...], text: str | None) -> Any:
        if self._is_closed:
            raise StoreUnavailable("the store is closed")
        asked = Asked((command[0], *(_encoded(word) for word in command[1:])), text)
        answer = await self._lane_to(key).answer_to(asked)
        if isinstance(answer, Exception):
            raise _translated(answer) from answer
        return answer

    def _lane_to(self, key: str) -> Lane:
        name = self._server_of(key)
        if name not in self._lanes:
            self._lanes[name] = Lane(self.client, self._reconnect)
        return self._lanes[name]

    def _server_of(self, key: str) -> str:
        if not isinstance(self.client, RedisCluster):
            return ""
        nodes = self.client.nodes_manager.slots_cache.get(self.client.keyslot(key))
        return nodes[0].name if nodes else ""

    async def _reconnect(self) -> None:
        """After a failover old connections lead to the wrong server; new ones go where the name leads now."""
        if isinstance(self.client, RedisCluster):
            await self.client.aclose()
        else:
            await self.client.connection_pool.disconnect(inuse_connections=False)

    async def on_each(self, *command: Any) -> list[Any]:
        """From each server that can be written to; several in a Cluster. Errors are answers, too."""
        try:
            if isinstance(self.client, RedisCluster):
                await self.client.initialize()
                nodes = self.client.get_primaries()
                ask: Callable[..., Any] = self.client.execute_command
                return [await _outcome(ask(*command, target_nodes=node)) for node in nodes]
            return [await _outcome(self.client.execute_command(*command))]  # type: ignore[no-untyped-call]
        except Exception as error:
            raise _translated(error) from error

    async def names(self, pattern: str) -> list[str]:
        """Of all keys that match, wherever they are; slow, so only for the hour after a disaster."""
        try:
            return [name.decode() async for name in self.client.scan_iter(match=pattern, count=1000)]
        except Exception as error:
            raise _translated(error) from error

    async def close(self) -> None:
        """What was handed over is finished, nothing more is taken."""
        self._is_closed = True
        await asyncio.gather(*(lane.drained() for lane in self._lanes.values()))
        await self.client.aclose()


def _encoded(word: Any) -> Any:
    """Before it joins others: what cannot be written must fail for its own caller alone."""
    if isinstance(word, str):
        return word.encode()
    if isinstance(word, bytes | int | float) and not isinstance(word, bool):
        return word
    raise TypeError(f"{type(word).__name__} is nothing that Redis keeps")


async def _outcome(asked: Any) -> Any:
    try:
        return await asked
    except ResponseError as error:
        return error


def _translated(error: Exception) -> StoreError:
    if isinstance(error, StoreError):
        return error
    if isinstance(error, OutOfMemoryError):
        return StoreFull("Redis has no memory left for new jobs: raise maxmemory, or wait for old jobs to expire")
    return StoreUnavailable(f"Redis: {type(error).__name__}: {str(error)[:200]}")
