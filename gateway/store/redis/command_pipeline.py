"""Sends commands to one server. Commands of the same turn of the event loop are sent as one pipeline.

All commands are safe to repeat, so they are sent again after transient errors and lost replies, until their timeout. If
the caller is cancelled, its command is still sent. A caller waits at most for the timeout and a short grace period,
however long the queue is.
"""

import asyncio
import builtins
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

from redis.asyncio import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
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

from gateway.store.base import StoreOutcomeUnknown, StoreUnavailable
from gateway.store.redis.keys import REPLICATION_CHANNEL
from gateway.timeouts_and_intervals import StoreTiming

# WAIT covers what its connection wrote, and everything before that. Since Redis 7.2, a commit that is sent again over a
# new connection, and was applied before, would count as nothing; this message, which replicas receive, counts.
_REPLICATED_MESSAGE = ("PUBLISH", REPLICATION_CHANNEL, "")
MAX_BATCH = 256
MAX_PIPELINES = 2
Command = tuple[Any, ...]
# Errors after which the server accepts the same command later, usually after a failover.
_TRANSIENT_ERRORS = (ReadOnlyError, MasterDownError, ClusterDownError, TryAgainError, ConnectionError, TimeoutError)
_NO_RETRY = Retry(NoBackoff(), 0)
_TRANSIENT_PREFIXES = ("LOADING", "BUSY", "MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "READONLY", "UNBLOCKED")


class PendingCommand:
    """A command and the future of its reply. `script_text`: the script, for a server that has not loaded it.
    `is_replicated`: the reply waits until replicas have what the command wrote.

    `is_sent`: the command may have reached a server. `is_outcome_unknown`: an earlier attempt may have executed it, and
    its reply was lost.
    """

    __slots__ = (
        *("command", "deadline", "is_outcome_unknown", "is_replicated", "is_sent", "last_error", "reply"),
        *("script_text", "timeout_seconds"),
    )

    def __init__(
        self, command: Command, script_text: str | None, timeout_seconds: float, is_replicated: bool = False
    ) -> None:
        self.command = command
        self.script_text = script_text
        self.reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.timeout_seconds = timeout_seconds
        self.is_replicated = is_replicated
        self.deadline = monotonic() + timeout_seconds
        self.is_sent = self.is_outcome_unknown = False
        self.last_error: Exception | None = None

    def try_resolve(self, reply: Any) -> bool:
        """Resolves the command with this reply. Returns False if it must be sent again."""
        if self.is_sent and isinstance(reply, Exception) and not proves_not_executed(reply):
            self.is_outcome_unknown = True
        self.is_sent = False
        if isinstance(reply, NoScriptError) and self.script_text is not None:
            # The server has not loaded the script: it is new or was restarted. EVAL loads it.
            self.command, self.script_text = ("EVAL", self.script_text.encode(), *self.command[2:]), None
            return False
        if is_transient(reply) and monotonic() < self.deadline:
            self.last_error = reply
            return False
        self.resolve(reply)
        return True

    def resolve(self, reply: Any) -> None:
        if self.reply.done():
            return
        if isinstance(reply, Exception) and (self.is_outcome_unknown or self.is_sent):
            reply = _make_unknown_outcome(reply)
        self.reply.set_result(reply)


class CommandPipeline:
    """Sends commands to one server. In a Cluster, also serves commands whose server is not yet known.

    `min_replicas`: how many replicas must have what a replicated command wrote before its reply is returned."""

    def __init__(
        self, driver: Any, reconnect: Callable[[], Awaitable[None]], timing: StoreTiming, min_replicas: int = 0
    ) -> None:
        self._driver = driver
        self._timing = timing
        self._min_replicas = min_replicas
        self._reconnect = reconnect
        self._queue: list[PendingCommand] = []
        self._send_tasks: set[asyncio.Task[None]] = set()
        self._is_flush_scheduled = False

    async def execute(self, pending: PendingCommand) -> Any:
        """Executes a command. Returns its reply, or its error as a value."""
        self._queue.append(pending)
        if not self._is_flush_scheduled:
            self._is_flush_scheduled = True
            asyncio.get_running_loop().call_soon(self._flush_queue)
        try:
            async with asyncio.timeout(pending.timeout_seconds + self._timing.command_grace_seconds):
                return await asyncio.shield(pending.reply)
        except builtins.TimeoutError:
            # If the command is unsent by now, it will not be sent any more.
            timeout_error = StoreUnavailable(f"Redis did not answer within {pending.timeout_seconds:g} s.")
            pending.resolve(pending.last_error or timeout_error)
            return pending.reply.result()

    def _flush_queue(self) -> None:
        self._is_flush_scheduled = False
        while self._queue and len(self._send_tasks) < MAX_PIPELINES:
            batch, self._queue = self._queue[:MAX_BATCH], self._queue[MAX_BATCH:]
            task = asyncio.create_task(self._send_batch(_drop_overdue(batch)))
            self._send_tasks.add(task)
            task.add_done_callback(self._on_batch_done)

    def _on_batch_done(self, task: asyncio.Task[None]) -> None:
        self._send_tasks.discard(task)
        self._flush_queue()

    async def _send_batch(self, batch: list[PendingCommand]) -> None:
        remaining, backoff, is_broken = batch, self._timing.min_command_backoff_seconds, False
        try:
            while remaining := [pending for pending in remaining if not pending.reply.done()]:
                replies = await self._execute_batch(remaining, is_broken)
                to_retry = [(pending, reply) for pending, reply in replies if not pending.try_resolve(reply)]
                remaining = [pending for pending, _ in to_retry]
                if is_broken := any(is_transient(reply) for _, reply in to_retry):
                    await asyncio.sleep(backoff)
                    backoff = min(backoff * 2, self._timing.max_command_backoff_seconds)
        finally:
            for pending in batch:
                pending.resolve(StoreUnavailable("The command was cancelled before Redis answered."))

    async def _execute_batch(
        self, batch: Sequence[PendingCommand], is_broken: bool
    ) -> list[tuple[PendingCommand, Any]]:
        """Sends a batch. Returns a reply for each command, or the error that prevented it.

        Commands that timed out before there was a connection are left out: they must not be sent any more.
        """
        pipeline = self._driver.pipeline(transaction=False)
        try:
            if is_broken:
                await self._reconnect()
            if not isinstance(self._driver, RedisCluster):
                pipeline.connection = await self._driver.connection_pool.get_connection()
                await _reconnect_if_closed(pipeline.connection)
            batch = [pending for pending in batch if not pending.reply.done()]
            for pending in batch:
                pending.is_sent = True
                pipeline.execute_command(*pending.command)
            if must_wait := self._min_replicas > 0 and any(pending.is_replicated for pending in batch):
                pipeline.execute_command(*_REPLICATED_MESSAGE)
                timeout_milliseconds = int(self._timing.replica_timeout_seconds * 1000)
                pipeline.execute_command("WAIT", self._min_replicas, timeout_milliseconds)
            with _disable_retry(getattr(pipeline, "connection", None)):
                replies = await pipeline.execute(raise_on_error=False)
            if must_wait:
                replies = self._check_replicas(batch, replies[: len(batch)], replies[len(batch) :])
            return list(zip(batch, replies, strict=True))
        except (RedisError, OSError, RedisClusterException) as error:
            return [(pending, error) for pending in batch]
        except Exception as error:  # noqa: BLE001  uvloop raises RuntimeError for a connection that was reset
            return [(pending, ConnectionError(f"{type(error).__name__}: {error}")) for pending in batch]
        finally:
            await pipeline.reset()

    def _check_replicas(self, batch: list[PendingCommand], replies: list[Any], replies_to_wait: list[Any]) -> list[Any]:
        """Replaces the replies of replicated commands by an error if too few replicas confirmed them. Then they are
        sent again. `replies_to_wait`: those of the message and of WAIT."""
        failure = next((reply for reply in replies_to_wait if isinstance(reply, Exception)), None)
        if failure is None and replies_to_wait[-1] >= self._min_replicas:
            return replies
        error = TimeoutError(
            f"WAIT failed: {failure}"
            if failure
            else f"{replies_to_wait[-1]} replicas confirmed it, and store.wait_replicas is {self._min_replicas}."
        )
        return [
            error if pending.is_replicated and not isinstance(reply, Exception) else reply
            for pending, reply in zip(batch, replies, strict=True)
        ]

    async def wait_until_idle(self) -> None:
        """Waits until all commands have been answered."""
        while self._send_tasks or self._queue:
            self._flush_queue()
            await asyncio.wait(self._send_tasks)


def _make_unknown_outcome(error: Exception) -> StoreOutcomeUnknown:
    unknown = StoreOutcomeUnknown(f"Redis may have executed the command: {type(error).__name__}: {str(error)[:200]}")
    unknown.__cause__ = error
    return unknown


async def _reconnect_if_closed(connection: Any) -> None:
    """Reconnects a pooled connection that was closed. Otherwise the outcome of commands sent over it would be
    unknown."""
    if await connection.can_read():
        await connection.disconnect()
        await connection.connect()


@contextmanager
def _disable_retry(connection: Any) -> Iterator[None]:
    """Disables the retries of the Redis client, which would hide a lost reply."""
    if connection is None:
        yield
        return
    previous, connection.retry = connection.retry, _NO_RETRY
    try:
        yield
    finally:
        connection.retry = previous


def is_transient(reply: Any) -> bool:
    return isinstance(reply, _TRANSIENT_ERRORS) or (
        isinstance(reply, ResponseError) and str(reply).startswith(_TRANSIENT_PREFIXES)
    )


def proves_not_executed(error: Exception) -> bool:
    """Returns whether the error proves that the server did not execute any part of the command."""
    return isinstance(error, NoScriptError | OutOfMemoryError) or (
        isinstance(error, ResponseError) and is_transient(error)
    )


def _drop_overdue(batch: list[PendingCommand]) -> list[PendingCommand]:
    """Removes commands that timed out before they were sent."""
    now = monotonic()
    for pending in batch:
        if pending.deadline < now:
            pending.resolve(StoreUnavailable(f"The command was not sent within {pending.timeout_seconds:g} s."))
    return [pending for pending in batch if not pending.reply.done()]
