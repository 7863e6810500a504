"""A loopback HTTP server for vendors' callbacks: notes what it is sent, answers as told."""

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """One callback as it came in; header names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    def json(self) -> Any:
        return json.loads(self.body)


class Receiver:
    """Answers 200 at once, unless `then` or `delay` say otherwise."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.delay = 0.0
        self._answers: deque[int] = deque()
        self._received: list[Received] = []
        self._news = threading.Condition()

    def then(self, *statuses: int) -> None:
        """What the next callbacks are answered, one status each."""
        self._answers.extend(statuses)

    def received(self) -> list[Received]:
        """All there is so far."""
        with self._news:
            return list(self._received)

    def wait(self, count: int = 1, seconds: float = 10) -> list[Received]:
        """Everything received, once it is at least `count`."""
        with self._news:
            there = self._news.wait_for(lambda: len(self._received) >= count, seconds)
            assert there, f"{len(self._received)} callbacks instead of {count} within {seconds} s"
            return list(self._received)

    def note(self, received: Received) -> int:
        """The status to answer."""
        with self._news:
            self._received.append(received)
            self._news.notify_all()
            return self._answers.popleft() if self._answers else 200


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port, for the length of one `with`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = receiver.note(Received(self.path, headers, body, time.time()))
            time.sleep(receiver.delay)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet: tests look at `received`."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_port}/callbacks")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
