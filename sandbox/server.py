"""Runs the sandbox: one process, one port for the vendors' APIs and one for their stored files."""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sandbox.app import create_app
from sandbox.world import World

DEFAULT_PORT = 8090
PORTS_TRIED = 20
PARENT_CHECK_SECONDS = 0.5
BACKLOG = 2_048


class PortTakenError(Exception):
    """The port that was asked for by number cannot be had."""


@dataclass(frozen=True, slots=True)
class Options:
    """`port` None means 8090 or the next free pair; 0 means any. The files' port follows the API's."""

    host: str = "127.0.0.1"
    port: int | None = None
    realistic: bool = False
    with_parent: bool = False


class ResettableProtocol(HttpToolsProtocol):
    """Hands each request the means to cut its own connection, which ASGI has no word for."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {"sandbox.reset": self._reset}  # type: ignore[dict-item]  # a callable, by design

    def _reset(self) -> None:
        transport = self.transport
        if transport.is_closing():
            return
        raw = transport.get_extra_info("socket")
        # No lingering: the peer sees a reset at once, not an orderly end.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


def serve(options: Options, ready: Callable[[World], None]) -> None:
    """Runs until SIGINT or SIGTERM, or until its parent is gone if so asked. `ready` is told when it answers."""
    api, files = _sockets(options)
    world = World(realistic=options.realistic)
    world.base_url = _url(options.host, api)
    world.files.base_url = _url(options.host, files)
    config = uvicorn.Config(
        create_app(world),
        http=ResettableProtocol,
        loop="uvloop",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config, ready=lambda: ready(world), parent=os.getppid() if options.with_parent else None)
    # Ctrl-C is how one stops it, and no failure.
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[api, files])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], parent: int | None) -> None:
        super().__init__(config)
        self._ready = ready
        self._parent = parent

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Clients still waiting are cut off on purpose, which the server would report with a traceback for each.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets=sockets)

    async def main_loop(self) -> None:
        if self._parent is None:
            await super().main_loop()
            return
        loop = asyncio.create_task(super().main_loop())
        while not loop.done():
            if os.getppid() != self._parent:
                self.should_exit = True
            await asyncio.wait([loop], timeout=PARENT_CHECK_SECONDS)
        await loop


def _sockets(options: Options) -> tuple[socket.socket, socket.socket]:
    if options.port == 0:
        return _listen(options.host, 0), _listen(options.host, 0)
    first = DEFAULT_PORT if options.port is None else options.port
    tries = PORTS_TRIED if options.port is None else 1
    for port in range(first, first + 2 * tries, 2):
        try:
            return _pair(options.host, port)
        except OSError as error:
            reason = error.strerror
            if error.errno != errno.EADDRINUSE:
                break
    ports = f"ports {first} and {first + 1}"
    raise PortTakenError(f"cannot listen on {options.host}, {ports}: {reason}; try another with --port")


def _pair(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    api = _listen(host, port)
    try:
        return api, _listen(host, port + 1)
    except OSError:
        api.close()
        raise


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # At once: two processes may both bind a port on which neither listens yet.
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _url(host: str, listener: socket.socket) -> str:
    shown = "127.0.0.1" if host in ("", "0.0.0.0") else f"[{host}]" if ":" in host else host  # noqa: S104 - compared, not bound
    return f"http://{shown}:{listener.getsockname()[1]}"
