"""A wait for a job ends when its client disconnects, and a cancelled request stays cancelled."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.api.api_context import HttpRequest
from gateway.api.api_errors import ApiError
from gateway.api.http_protocol import ClientConnection
from gateway.api.job_wait import stop_on_disconnect


class OpenConnection(ClientConnection):
    """A connection that `close` ends."""

    def __init__(self) -> None:
        self._is_reading_resumed = False
        flow = SimpleNamespace(resume_reading=self._resume_reading)
        self._ended: Any = SimpleNamespace(is_disconnected=False, disconnect_callbacks=[], flow=flow)
        super().__init__(self._ended, cast(Any, None))

    def _resume_reading(self) -> None:
        self._is_reading_resumed = True

    @property
    def is_watched(self) -> bool:
        return bool(self._ended.disconnect_callbacks)

    def close(self) -> None:
        assert self._is_reading_resumed or not self.is_watched, "the end of a paused connection is not noticed"
        self._ended.is_disconnected = True
        for callback in self._ended.disconnect_callbacks:
            callback()


async def wait_for_job(connection: ClientConnection | None, seconds: float) -> str:
    request = cast(HttpRequest, SimpleNamespace(scope={"state": {"client_connection": connection}}))
    with stop_on_disconnect(request):
        await asyncio.sleep(seconds)
        return "ended"


async def start_waiting(connection: OpenConnection) -> "asyncio.Task[str]":
    task = asyncio.create_task(wait_for_job(connection, 60))
    await asyncio.sleep(0)
    assert connection.is_watched
    return task


def test_disconnect_ends_the_wait() -> None:
    async def run() -> None:
        connection = OpenConnection()
        task = await start_waiting(connection)
        connection.close()
        with pytest.raises(ApiError) as error:
            await task
        assert error.value.status == 499
        assert not connection.is_watched

    asyncio.run(run())


def test_client_that_is_gone_does_not_wait() -> None:
    async def run() -> None:
        connection = OpenConnection()
        connection.close()
        with pytest.raises(ApiError, match="disconnected"):
            await wait_for_job(connection, 60)

    asyncio.run(run())


@pytest.mark.parametrize("also_disconnects", [False, True])
def test_cancelled_request_stays_cancelled(also_disconnects: bool) -> None:
    """The shutdown cancels a request, or the end of its API key, perhaps at the moment at which its client leaves."""

    async def run() -> None:
        connection = OpenConnection()
        task = await start_waiting(connection)
        task.cancel()
        if also_disconnects:
            connection.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def test_disconnect_after_the_wait_cancels_nothing() -> None:
    async def run() -> None:
        connection = OpenConnection()
        assert await wait_for_job(connection, 0) == "ended"
        connection.close()
        await asyncio.sleep(0)

    asyncio.run(run())


def test_request_without_a_connection_waits() -> None:
    """As in tests, which call the application without a server."""
    assert asyncio.run(wait_for_job(None, 0)) == "ended"
