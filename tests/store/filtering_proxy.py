"""A TCP proxy in front of Redis that cuts the connections of chosen commands."""

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.harness.tcp_proxy import TcpProxy


class FilteringProxy(TcpProxy):
    """The proxy. `blocked_words`: a chunk of data with all of these words is cut; None lets everything through.

    `blocked_count`: the number of chunks that were cut.
    """

    def __init__(self, server_url: str) -> None:
        self.blocked_words: tuple[bytes, ...] | None = None
        self.last_allowed_word: bytes | None = None
        self.blocked_count = 0
        super().__init__(server_url)

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

    def forwards(self, data: bytes) -> bool:
        if self.blocked_words is not None and all(word in data for word in self.blocked_words):
            self.blocked_count += 1
            return False
        if self.last_allowed_word is not None and self.last_allowed_word in data:
            self.last_allowed_word, self.blocked_words = None, ()
        return True


@contextmanager
def run_filtering_proxy(url: str) -> Iterator[FilteringProxy]:
    with contextlib.closing(FilteringProxy(url)) as proxy:
        yield proxy
