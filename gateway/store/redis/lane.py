"""Commands on their way to one server: what callers ask for in the same turn of the event loop travels as one pipeline.

Everything sent here is safe to repeat, so a lost answer is asked for again until patience ends. Whoever waits may be
cancelled: what was asked for is still sent. Nobody waits longer than patience, however long the line is.
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

from gateway.store.base import StoreUnavailable, StoreUnsure

PATIENCE_SECONDS = 5.0
# So that an answer which says why comes before the one that only says that none came.
LAST_WORD_SECONDS = 0.5
PAUSE_SECONDS = 0.05
MOST_AT_ONCE = 256
PIPELINES = 2
Command = tuple[Any, ...]
# The server is there and will be able again, mostly after a failover: the same command later is right.
_PASSING = (ReadOnlyError, MasterDownError, ClusterDownError, TryAgainError, ConnectionError, TimeoutError)
_ONCE = Retry(NoBackoff(), 0)
_PASSING_WORDS = ("LOADING", "BUSY", "MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "READONLY", "UNBLOCKED")


class Asked:
    """One command, and who waits for its answer. `text`: the script's, for a server that does not know it.

    `is_sent`: it is on its way to a server; `is_in_doubt`: one may have run it without our hearing of it.
    """

    __slots__ = ("answer", "command", "ends", "is_in_doubt", "is_sent", "text")

    def __init__(self, command: Command, text: str | None) -> None:
        self.command = command
        self.text = text
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.ends = monotonic() + PATIENCE_SECONDS
        self.is_sent = self.is_in_doubt = False

    def is_answered_by(self, answer: Any) -> bool:
        """Otherwise it must be sent again."""
        if self.is_sent and isinstance(answer, Exception) and not is_refusal(answer):
            self.is_in_doubt = True
        self.is_sent = False
        if isinstance(answer, NoScriptError) and self.text is not None:
            # The server was restarted or is another one; sent once as text, it knows the script from then on.
            self.command, self.text = ("EVAL", self.text.encode(), *self.command[2:]), None
            return False
        if is_passing(answer) and monotonic() < self.ends:
            return False
        self.end_with(answer)
        return True

    def end_with(self, answer: Any) -> None:
        if self.answer.done():
            return
        if isinstance(answer, Exception) and (self.is_in_doubt or self.is_sent):
            answer = StoreUnsure(f"Redis may have carried it out: {type(answer).__name__}: {str(answer)[:200]}")
        self.answer.set_result(answer)


class Lane:
    """To one server, or to all of a Cluster while nobody knows which."""

    def __init__(self, client: Any, reconnect: Callable[[], Awaitable[None]]) -> None:
        self._client = client
        self._reconnect = reconnect
        self._waiting: list[Asked] = []
        self._sending: set[asyncio.Task[None]] = set()
        self._is_planned = False

    async def answer_to(self, asked: Asked) -> Any:
        """The answer, or the error that the server answered with."""
        self._waiting.append(asked)
        if not self._is_planned:
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._send_waiting)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS + LAST_WORD_SECONDS):
                return await asyncio.shield(asked.answer)
        except builtins.TimeoutError:
            # If it has not been sent by now, it never will be.
            asked.end_with(StoreUnavailable(f"Redis did not answer within {PATIENCE_SECONDS:g} s"))
            return asked.answer.result()

    def _send_waiting(self) -> None:
        self._is_planned = False
        while self._waiting and len(self._sending) < PIPELINES:
            batch, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
            sending = asyncio.create_task(self._send(_still_wanted(batch)))
            self._sending.add(sending)
            sending.add_done_callback(self._sent)

    def _sent(self, sending: asyncio.Task[None]) -> None:
        self._sending.discard(sending)
        self._send_waiting()

    async def _send(self, batch: list[Asked]) -> None:
        left, pause, is_broken = batch, PAUSE_SECONDS, False
        try:
            while left := [asked for asked in left if not asked.answer.done()]:
                pairs = await self._answers(left, is_broken)
                again = [(asked, answer) for asked, answer in pairs if not asked.is_answered_by(answer)]
                left = [asked for asked, _ in again]
                if is_broken := any(is_passing(answer) for _, answer in again):
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 1.0)
        finally:
            for asked in batch:
                asked.end_with(StoreUnavailable("the command was given up before it was answered"))

    async def _answers(self, batch: Sequence[Asked], is_broken: bool) -> list[tuple[Asked, Any]]:
        """One for each command, whatever happens: where none came, the error that kept it from coming.

        Those that were given up before there was a connection are left out: they must not be sent any more.
        """
        pipeline = self._client.pipeline(transaction=False)
        try:
            if is_broken:
                await self._reconnect()
            if not isinstance(self._client, RedisCluster):
                pipeline.connection = await self._client.connection_pool.get_connection()
                await _revive(pipeline.connection)
            batch = [asked for asked in batch if not asked.answer.done()]
            for asked in batch:
                asked.is_sent = True
                pipeline.execute_command(*asked.command)
            with _sending_once(getattr(pipeline, "connection", None)):
                return list(zip(batch, await pipeline.execute(raise_on_error=False), strict=True))
        except (RedisError, OSError, RedisClusterException) as error:
            return [(asked, error) for asked in batch]
        except Exception as error:  # noqa: BLE001  uvloop, for one, has a RuntimeError for a connection that was reset
            return [(asked, ConnectionError(f"{type(error).__name__}: {error}")) for asked in batch]
        finally:
            await pipeline.reset()

    async def drained(self) -> None:
        """When everything that was handed over has been answered."""
        while self._sending or self._waiting:
            self._send_waiting()
            await asyncio.wait(self._sending)


async def _revive(connection: Any) -> None:
    """Reconnects a pooled connection that has ended: the outcome of commands sent over it would be unknown."""
    if await connection.can_read():
        await connection.disconnect()
        await connection.connect()


@contextmanager
def _sending_once(connection: Any) -> Iterator[None]:
    """A lost answer must be known to be lost: the client's own second try would hide it."""
    if connection is None:
        yield
        return
    before, connection.retry = connection.retry, _ONCE
    try:
        yield
    finally:
        connection.retry = before


def is_passing(answer: Any) -> bool:
    return isinstance(answer, _PASSING) or (
        isinstance(answer, ResponseError) and str(answer).startswith(_PASSING_WORDS)
    )


def is_refusal(answer: Exception) -> bool:
    """Whether it proves that the server did not run the command: neither in whole nor in part."""
    return isinstance(answer, NoScriptError | OutOfMemoryError) or (
        isinstance(answer, ResponseError) and is_passing(answer)
    )


def _still_wanted(batch: list[Asked]) -> list[Asked]:
    """Those whose time is over before they were sent are not sent any more: nobody waits for them."""
    now = monotonic()
    for asked in batch:
        if asked.ends < now:
            asked.end_with(StoreUnavailable("the command was given up before it was sent"))
    return [asked for asked in batch if not asked.answer.done()]
