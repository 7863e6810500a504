"""A TCP proxy in front of Redis that loses commands and replies, hangs, and returns errors."""

import asyncio
import contextlib
import re
from collections.abc import Callable
from types import TracebackType
from typing import Self

_COMMAND = re.compile(rb"\*\d+\r\n\$\d+\r\n([A-Za-z]+)\r\n")
SCRIPT_COMMANDS = (b"EVALSHA", b"EVAL")
ReplyRule = Callable[[bytes], bytes | None]


class FaultyProxy:
    """The proxy.

    `replies_to_lose`, `commands_to_lose`: how many scripts lose their reply, or are lost before they are executed.
    `reply_rule` may answer a command itself. While not `is_flowing`, nothing is relayed, and no connection is closed.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._connections: set[asyncio.Task[None]] = set()
        self.replies_to_lose = 0
        self.commands_to_lose = 0
        self.reply_rule: ReplyRule | None = None
        self.subscriptions: list[_ConnectionRelay] = []
        self.is_flowing = asyncio.Event()
        self.is_flowing.set()

    def silence_subscriptions(self) -> None:
        """Stops relaying on the present subscriptions without closing them. New ones work."""
        for relay in self.subscriptions:
            relay.is_silenced = True

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._on_connection, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._relay_connection(reader, writer)
        writer.close()

    async def _relay_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        relay = _ConnectionRelay(self, writer, server_writer)
        try:
            directions = [
                asyncio.ensure_future(relay.relay_commands(reader)),
                asyncio.ensure_future(relay.relay_replies(server_reader)),
            ]
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            for direction in directions:
                direction.cancel()
            await asyncio.wait(directions)
        finally:
            server_writer.close()


class _ConnectionRelay:
    """One relayed connection. It ends as soon as one direction ends."""

    def __init__(self, proxy: FaultyProxy, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._awaits_script = False
        self.is_silenced = False

    async def relay_commands(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(1 << 20):
            await self._proxy.is_flowing.wait()
            if self.is_silenced:
                continue
            if b"SUBSCRIBE" in data:
                self._proxy.subscriptions.append(self)
            commands = _COMMAND.findall(data)
            is_script = any(command.upper() in SCRIPT_COMMANDS for command in commands)
            if is_script and self._proxy.commands_to_lose:
                self._proxy.commands_to_lose -= 1
                return
            replies = [self._proxy.reply_rule(command) for command in commands] if self._proxy.reply_rule else []
            if replies and all(reply is not None for reply in replies):
                self._client.write(b"".join(reply for reply in replies if reply))
                continue
            self._awaits_script |= is_script
            self._server.write(data)

    async def relay_replies(self, reader: asyncio.StreamReader) -> None:
        while reply := await reader.read(1 << 20):
            if self._awaits_script and self._proxy.replies_to_lose:
                self._proxy.replies_to_lose -= 1
                return
            self._awaits_script = False
            if not self.is_silenced:
                self._client.write(reply)


def make_error_rule(error: str, times: int) -> ReplyRule:
    """Returns a rule that answers scripts with this error, so many times."""
    remaining = [times]

    def reply_with_error(command: bytes) -> bytes | None:
        if command.upper() not in SCRIPT_COMMANDS or remaining[0] <= 0:
            return None
        remaining[0] -= 1
        return f"-{error}\r\n".encode()

    return reply_with_error
