"""A server with one answer for all requests, in place of a gateway or a seller."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer


@contextmanager
def run_answering_server(
    status: int, body: bytes, answers: int | None = None, clock_offset: float = 0.0
) -> Iterator[str]:
    """Yields the URL of the server. `answers`: after so many it refuses connections. `clock_offset`: of its dates."""

    class AnsweringHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.send_header("connection", "close")
            if status == HTTPStatus.MOVED_PERMANENTLY:
                self.send_header("location", "https://images.example.com/v1/jobs")
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string((timestamp or time.time()) + clock_offset)

        def log_message(self, format: str, *arguments: object) -> None:
            """The tests look at the output of the command alone."""

    server = HTTPServer(("127.0.0.1", 0), AnsweringHandler)
    thread = threading.Thread(target=_serve, args=(server, answers))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        if answers is None:
            server.shutdown()
        thread.join()
        server.server_close()


def _serve(server: HTTPServer, answers: int | None) -> None:
    if answers is None:
        return server.serve_forever(poll_interval=0.02)
    for _ in range(answers):
        server.handle_request()
    server.server_close()
