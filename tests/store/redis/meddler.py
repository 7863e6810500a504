"""Stands between a store and its Redis, and does to what passes what a bad network or a bad server would."""

import asyncio
import contextlib
import re
from collections.abc import Callable
from types import TracebackType
from typing import Self

_COMMAND = re.compile(rb"\*\d+\r\n\$\d+\r\n([A-Za-z]+)\r\n")
SCRIPTS = (b"EVALSHA", b"EVAL")
Rule = Callable[[bytes], bytes | None]


class Meddler:
    """`lose_answers`: scripts whose answers are still to be lost, after they were carried out. `lose_commands`: those
    that are to be lost before. `instead` may answer a command itself. While not `flowing`, nothing passes or breaks."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connections: set[asyncio.Task[None]] = set()
        self.lose_answers = 0
        self.lose_commands = 0
        self.instead: Rule | None = None
        self.subscribed: list[_Carrying] = []
        self.flowing = asyncio.Event()
        self.flowing.set()

    def swallow_subscriptions(self) -> None:
        """Those that there are now hear and say nothing any more, and nothing breaks; new ones are well."""
        for carrying in self.subscribed:
            carrying.is_swallowed = True

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._carry(reader, writer)
        writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
        carrying = _Carrying(self, writer, there_writer)
        try:
            ways = [
                asyncio.ensure_future(carrying.there(reader)),
                asyncio.ensure_future(carrying.back(there_reader)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
        finally:
            there_writer.close()


class _Carrying:
    """One connection. It ends as soon as one of its ways does."""

    def __init__(self, meddler: Meddler, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._meddler = meddler
        self._client = client
        self._server = server
        self._awaits_script = False
        self.is_swallowed = False

    async def there(self, reader: asyncio.StreamReader) -> None:
        while asked := await reader.read(1 << 20):
            await self._meddler.flowing.wait()
            if self.is_swallowed:
                continue
            if b"SUBSCRIBE" in asked:
                self._meddler.subscribed.append(self)
            commands = _COMMAND.findall(asked)
            is_script = any(command.upper() in SCRIPTS for command in commands)
            if is_script and self._meddler.lose_commands:
                self._meddler.lose_commands -= 1
                return
            answers = [self._meddler.instead(command) for command in commands] if self._meddler.instead else []
            if answers and all(answer is not None for answer in answers):
                self._client.write(b"".join(answer for answer in answers if answer))
                continue
            self._awaits_script |= is_script
            self._server.write(asked)

    async def back(self, reader: asyncio.StreamReader) -> None:
        while answer := await reader.read(1 << 20):
            if self._awaits_script and self._meddler.lose_answers:
                self._meddler.lose_answers -= 1
                return
            self._awaits_script = False
            if not self.is_swallowed:
                self._client.write(answer)


def refusing(word: str, times: int) -> Rule:
    """Scripts are answered with this error, so often."""
    left = [times]

    def answer(command: bytes) -> bytes | None:
        if command.upper() not in SCRIPTS or left[0] <= 0:
            return None
        left[0] -= 1
        return f"-{word}\r\n".encode()

    return answer
