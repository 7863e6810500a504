"""A loopback HTTP server that records vendors' callbacks and answers with given statuses."""

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
class ReceivedCallback:
    """One received callback; header names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes
    received_at: float

    def json(self) -> Any:
        return json.loads(self.body)


class CallbackReceiver:
    """Records callbacks. Answers 200 at once by default; see `queue_statuses` and `delay_seconds`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.delay_seconds = 0.0
        self._statuses: deque[int] = deque()
        self._callbacks: list[ReceivedCallback] = []
        self._changed = threading.Condition()

    def queue_statuses(self, *statuses: int) -> None:
        """Sets the statuses with which to answer the next callbacks."""
        self._statuses.extend(statuses)

    def list_callbacks(self) -> list[ReceivedCallback]:
        """Returns the callbacks received so far."""
        with self._changed:
            return list(self._callbacks)

    def wait_for_callbacks(self, count: int = 1, timeout: float = 10) -> list[ReceivedCallback]:
        """Waits for at least `count` callbacks and returns all received ones."""
        with self._changed:
            has_enough = self._changed.wait_for(lambda: len(self._callbacks) >= count, timeout)
            assert has_enough, f"{len(self._callbacks)} callbacks instead of {count} within {timeout} s"
            return list(self._callbacks)

    def add_callback(self, callback: ReceivedCallback) -> int:
        """Records a callback and returns the status to answer with."""
        with self._changed:
            self._callbacks.append(callback)
            self._changed.notify_all()
            return self._statuses.popleft() if self._statuses else 200


@contextmanager
def run_receiver() -> Iterator[CallbackReceiver]:
    """Runs a receiver on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = receiver.add_callback(ReceivedCallback(self.path, headers, body, time.time()))
            time.sleep(receiver.delay_seconds)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Logs nothing: tests read the recorded callbacks."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = CallbackReceiver(f"http://127.0.0.1:{server.server_port}/callbacks")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
