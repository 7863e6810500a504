"""A proxy before a store that passes chosen commands; it cuts the connections of all others, as a network might."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

CHUNK_BYTES = 1 << 16


class Gate:
    """`refused`: words of commands that do not come through, all of them in one piece; None lets everything through.

    `cuts` counts the pieces that did not.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.refused: tuple[bytes, ...] | None = None
        self.last: bytes | None = None
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listening.getsockname()[1]}"

    @contextmanager
    def shut(self, *words: bytes) -> Iterator[None]:
        """Refuses commands with these words as long as the block runs; any command, if there are none."""
        self.refused = words
        try:
            yield
        finally:
            self.refused = None

    @contextmanager
    def shut_after(self, word: bytes) -> Iterator[None]:
        """The next command with this word still comes through, and none after it as long as the block runs."""
        self.last = word
        try:
            yield
        finally:
            self.last = self.refused = None

    @contextmanager
    def shut_for_a_moment(self, seconds: float, *words: bytes) -> Iterator[None]:
        """Until so long after the first of them was refused, though the block runs on."""
        before, ended = self.cuts, threading.Event()

        def open_again() -> None:
            while self.cuts == before and not ended.wait(0.01):
                pass
            ended.wait(seconds)
            self.refused = None

        thread = threading.Thread(target=open_again)
        with self.shut(*words):
            thread.start()
            yield
            ended.set()
            thread.join(timeout=10)

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(here,), daemon=True).start()

    def _serve(self, here: socket.socket) -> None:
        with here, socket.create_connection(("127.0.0.1", self._port)) as there:
            threading.Thread(target=self._carry, args=(there, here), daemon=True).start()
            self._carry(here, there, watched=True)

    def _carry(self, source: socket.socket, target: socket.socket, watched: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                if watched and self.refused is not None and all(word in data for word in self.refused):
                    self.cuts += 1
                    break
                if watched and self.last is not None and self.last in data:
                    self.last, self.refused = None, ()
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextmanager
def gate_to(url: str) -> Iterator[Gate]:
    port = urlsplit(url).port
    assert port is not None
    gate = Gate(port)
    with contextlib.closing(gate):
        yield gate
