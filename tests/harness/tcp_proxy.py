"""A TCP proxy in front of a server, which can cut connections."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

CHUNK_BYTES = 1 << 16


class TcpProxy:
    """The proxy. It listens on a free port. `connection_count`: the connections that clients have opened so far."""

    def __init__(self, server_url: str) -> None:
        server = urlsplit(server_url)
        assert server.port is not None
        self._scheme, self._server_port = server.scheme, server.port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def connection_count(self) -> int:
        return len(self._connections)

    def cut_connections(self) -> None:
        """Closes every connection with a client."""
        for connection in self._connections:
            _close_both_ways(connection)

    def close(self) -> None:
        self._listener.close()

    def forwards(self, data: bytes) -> bool:
        """Whether data of a client is forwarded. Otherwise its connection is cut."""
        return True

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._connections.append(client)
                threading.Thread(target=self._handle_connection, args=(client,), daemon=True).start()

    def _handle_connection(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server_port)) as server:
            threading.Thread(target=self._relay, args=(server, client), daemon=True).start()
            self._relay(client, server, is_from_client=True)

    def _relay(self, source: socket.socket, target: socket.socket, is_from_client: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                if is_from_client and not self.forwards(data):
                    break
                target.sendall(data)
        for connection in (source, target):
            _close_both_ways(connection)


def _close_both_ways(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def run_tcp_proxy(server_url: str) -> Iterator[TcpProxy]:
    with contextlib.closing(TcpProxy(server_url)) as proxy:
        yield proxy
