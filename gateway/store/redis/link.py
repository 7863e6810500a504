"""The way to Redis, single or Cluster: what callers ask for at the same time travels as one pipeline.

Everything sent here is safe to repeat, so a lost answer is asked for again until patience ends. Whoever waits may be
cancelled: what was asked for is still sent.
"""

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    ClusterDownError,
    ConnectionError,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from gateway.store.base import StoreFull, StoreUnavailable
from gateway.store.redis.scripts import Script

PATIENCE_SECONDS = 5.0
PAUSE_SECONDS = 0.05
MOST_AT_ONCE = 256
PIPELINES = 2
Command = tuple[Any, ...]
_OPTIONS: dict[str, Any] = {
    "socket_connect_timeout": 1.0,
    "socket_timeout": 2.0,
    "socket_keepalive": True,
    "health_check_interval": 15,
}
# The server is there and will be able again, mostly after a failover: the same command later is right.
_PASSING = (ReadOnlyError, MasterDownError, ClusterDownError, TryAgainError, ConnectionError, TimeoutError)
_PASSING_WORDS = ("LOADING", "BUSY", "MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "READONLY", "UNBLOCKED")


def _retry() -> Retry:
    return Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.3), 3)


async def connect(url: str) -> "Redis | RedisCluster":
    """A Cluster is told from a single server by asking it."""
    single = single_client(url, connections=PIPELINES + 3)
    try:
        server = await single.info("server")
    except (RedisError, OSError) as error:
        await single.aclose()
        raise StoreUnavailable(f"Redis does not answer: {error}") from error
    if server.get("redis_mode") != "cluster":
        return single
    await single.aclose()
    return RedisCluster.from_url(url, retry=_retry(), max_connections=PIPELINES + 3, **_OPTIONS)


def single_client(url: str, connections: int) -> Redis:
    pool = BlockingConnectionPool.from_url(url, max_connections=connections, timeout=3, retry=_retry(), **_OPTIONS)
    return Redis.from_pool(pool)


class Link:
    """Gathers commands per turn of the event loop, and answers each caller for itself."""

    def __init__(self, client: "Redis | RedisCluster") -> None:
        self.client = client
        self._waiting: list[tuple[Command, asyncio.Future[Any]]] = []
        self._sending: set[asyncio.Task[None]] = set()
        self._is_planned = False

    async def script(self, script: Script, keys: Sequence[str], *arguments: Any) -> Any:
        command = ("EVALSHA", script.sha, len(keys), *keys, *arguments)
        answer = await self.run(*command)
        if isinstance(answer, NoScriptError):
            # The server was restarted or is another one; sent once as text, it knows the script from then on.
            answer = await self.run("EVAL", script.text, *command[2:])
        return _checked(answer)

    async def command(self, *command: Any) -> Any:
        return _checked(await self.run(*command))

    async def run(self, *command: Any) -> Any:
        """The answer, or the error that the server answered with."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer))
        if not self._is_planned:
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._send_waiting)
        return await asyncio.shield(answer)

    def _send_waiting(self) -> None:
        self._is_planned = False
        while self._waiting and len(self._sending) < PIPELINES:
            batch, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
            sending = asyncio.create_task(self._send(batch))
            self._sending.add(sending)
            sending.add_done_callback(self._sent)

    def _sent(self, sending: asyncio.Task[None]) -> None:
        self._sending.discard(sending)
        self._send_waiting()

    async def _send(self, batch: list[tuple[Command, asyncio.Future[Any]]]) -> None:
        try:
            await self._send_until_answered(batch)
        finally:
            for _, future in batch:
                if not future.done():
                    future.set_result(StoreUnavailable("the command was given up before it was answered"))

    async def _send_until_answered(self, batch: list[tuple[Command, asyncio.Future[Any]]]) -> None:
        ends = monotonic() + PATIENCE_SECONDS
        pause = PAUSE_SECONDS
        while batch:
            answers = await self._answers([command for command, _ in batch])
            again = []
            for (command, future), answer in zip(batch, answers, strict=True):
                if _is_passing(answer) and monotonic() < ends:
                    again.append((command, future))
                elif not future.done():
                    future.set_result(answer)
            batch = again
            if batch:
                await self._reconnect()
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)

    async def _answers(self, commands: list[Command]) -> list[Any]:
        try:
            pipeline = self.client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return list(await pipeline.execute(raise_on_error=False))
        except (RedisError, OSError, RedisClusterException) as error:
            return [error] * len(commands)

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
        except (RedisError, OSError, RedisClusterException) as error:
            raise _translated(error) from error

    async def names(self, pattern: str) -> list[str]:
        """Of all keys that match, wherever they are; slow, so only for the hour after a disaster."""
        try:
            return [name.decode() async for name in self.client.scan_iter(match=pattern, count=1000)]
        except (RedisError, OSError, RedisClusterException) as error:
            raise _translated(error) from error

    async def close(self) -> None:
        while self._sending or self._waiting:
            self._send_waiting()
            await asyncio.wait(self._sending)
        await self.client.aclose()


async def _outcome(asked: Any) -> Any:
    try:
        return await asked
    except ResponseError as error:
        return error


def _is_passing(answer: Any) -> bool:
    return isinstance(answer, _PASSING) or (
        isinstance(answer, ResponseError) and str(answer).startswith(_PASSING_WORDS)
    )


def _checked(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise _translated(answer) from answer
    return answer


def _translated(error: Exception) -> StoreUnavailable:
    if isinstance(error, StoreUnavailable):
        return error
    if isinstance(error, OutOfMemoryError):
        return StoreFull("Redis has no memory left for new jobs: raise maxmemory, or wait for old jobs to expire")
    return StoreUnavailable(f"Redis: {type(error).__name__}: {str(error)[:200]}")
