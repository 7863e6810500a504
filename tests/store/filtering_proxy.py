"""A TCP proxy in front of Redis that cuts the connections of chosen commands."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

CHUNK_BYTES = 1 << 16


class FilteringProxy:
    """The proxy. `blocked_words`: a chunk of data with all of these words is cut; None lets everything through.

    `blocked_count`: the number of chunks that were cut.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.blocked_words: tuple[bytes, ...] | None = None
        self.last_allowed_word: bytes | None = None
        self.blocked_count = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    @contextmanager
    def block_commands(self, *words: bytes) -> Iterator[None]:
        """Cuts commands with these words, or all commands, within the `with` block."""
        self.blocked_words = words
        try:
            yield
        finally:
            self.blocked_words = None

    @contextmanager
    def block_after_command(self, word: bytes) -> Iterator[None]:
        """Lets the next command with this word through, and cuts all later ones within the `with` block."""
        self.last_allowed_word = word
        try:
            yield
        finally:
            self.last_allowed_word = self.blocked_words = None

    @contextmanager
    def block_briefly(self, seconds: float, *words: bytes) -> Iterator[None]:
        """Cuts commands for so many seconds after the first one was cut, at most within the `with` block."""
        count_before, ended = self.blocked_count, threading.Event()

        def unblock() -> None:
            while self.blocked_count == count_before and not ended.wait(0.01):
                pass
            ended.wait(seconds)
            self.blocked_words = None

        thread = threading.Thread(target=unblock)
        with self.block_commands(*words):
            thread.start()
            yield
            ended.set()
            thread.join(timeout=10)

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._handle_connection, args=(client,), daemon=True).start()

    def _handle_connection(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server_port)) as server:
            threading.Thread(target=self._relay, args=(server, client), daemon=True).start()
            self._relay(client, server, is_filtered=True)

    def _relay(self, source: socket.socket, target: socket.socket, is_filtered: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                if is_filtered and self.blocked_words is not None and all(word in data for word in self.blocked_words):
                    self.blocked_count += 1
                    break
                if is_filtered and self.last_allowed_word is not None and self.last_allowed_word in data:
                    self.last_allowed_word, self.blocked_words = None, ()
                target.sendall(data)
        for connection in (source, target):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def run_filtering_proxy(url: str) -> Iterator[FilteringProxy]:
    port = urlsplit(url).port
    assert port is not None
    proxy = FilteringProxy(port)
    with contextlib.closing(proxy):
        yield proxy
