"""The sandbox server: one process, one port for the vendors' APIs and one for their stored files."""

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
from sandbox.state import SandboxState

DEFAULT_PORT = 8090
MAX_PORT_ATTEMPTS = 20
PARENT_CHECK_INTERVAL_SECONDS = 0.5
BACKLOG = 2_048


class PortInUseError(Exception):
    """The requested port is in use."""


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """`port`: None means 8090 or the next free pair, 0 any free port. The port for files follows that for the APIs."""

    host: str = "127.0.0.1"
    port: int | None = None
    is_realistic: bool = False
    stops_with_parent: bool = False


class ResettableProtocol(HttpToolsProtocol):
    """Gives each request a callable that resets its connection, which ASGI does not offer."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {"sandbox.reset": self._reset_connection}  # type: ignore[dict-item]  # a callable, by design

    def _reset_connection(self) -> None:
        transport = self.transport
        if transport.is_closing():
            return
        raw_socket = transport.get_extra_info("socket")
        # Without lingering, the peer sees a reset at once.
        raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


def run_server(options: SandboxOptions, on_ready: Callable[[SandboxState], None]) -> None:
    """Runs until SIGINT or SIGTERM, or with `stops_with_parent` until the parent exits.

    Calls `on_ready` when the server accepts requests.
    """
    api_socket, files_socket = _open_sockets(options)
    sandbox = SandboxState(is_realistic=options.is_realistic)
    sandbox.base_url = _format_url(options.host, api_socket)
    sandbox.file_store.base_url = _format_url(options.host, files_socket)
    config = uvicorn.Config(
        create_app(sandbox),
        http=ResettableProtocol,
        loop="uvloop",
        log_level="warning",
        access_log=False,
        server_header=False,
        # Longer than clients keep idle connections, so that no request meets a connection that is closing.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    server = _SandboxServer(
        config, on_ready=lambda: on_ready(sandbox), parent_pid=os.getppid() if options.stops_with_parent else None
    )
    # Ctrl-C is the normal way to stop it.
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[api_socket, files_socket])


class _SandboxServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], parent_pid: int | None) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._parent_pid = parent_pid

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Waiting clients are disconnected on purpose; the server would log a traceback for each.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets=sockets)

    async def main_loop(self) -> None:
        if self._parent_pid is None:
            await super().main_loop()
            return
        serving = asyncio.create_task(super().main_loop())
        while not serving.done():
            if os.getppid() != self._parent_pid:
                self.should_exit = True
            await asyncio.wait([serving], timeout=PARENT_CHECK_INTERVAL_SECONDS)
        await serving


def _open_sockets(options: SandboxOptions) -> tuple[socket.socket, socket.socket]:
    if options.port == 0:
        return _open_listener(options.host, 0), _open_listener(options.host, 0)
    first_port = DEFAULT_PORT if options.port is None else options.port
    max_attempts = MAX_PORT_ATTEMPTS if options.port is None else 1
    for port in range(first_port, first_port + 2 * max_attempts, 2):
        try:
            return _open_socket_pair(options.host, port)
        except OSError as error:
            reason = error.strerror
            if error.errno != errno.EADDRINUSE:
                break
    ports = f"ports {first_port} and {first_port + 1}"
    raise PortInUseError(f"cannot listen on {options.host}, {ports}: {reason}. Choose another port with --port")


def _open_socket_pair(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    api_socket = _open_listener(host, port)
    try:
        return api_socket, _open_listener(host, port + 1)
    except OSError:
        api_socket.close()
        raise


def _open_listener(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Listens at once: two processes may both bind a port on which neither listens yet.
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _format_url(host: str, listener: socket.socket) -> str:
    url_host = "127.0.0.1" if host in ("", "0.0.0.0") else f"[{host}]" if ":" in host else host  # noqa: S104 - compared, not bound
    return f"http://{url_host}:{listener.getsockname()[1]}"
