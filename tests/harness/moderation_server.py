"""A server of moderation hooks, which answers as a test says and remembers what it was asked."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from msgspec import Struct


class HookReply(Struct, frozen=True):
    """The response to a question."""

    body: bytes = b'{"allow": true}'
    status: int = 200


ALLOW = HookReply()


def refuse(reason: str | None = None) -> HookReply:
    answer = {"allow": False} if reason is None else {"allow": False, "reason": reason}
    return HookReply(json.dumps(answer).encode())


class AskedQuestion(Struct, frozen=True):
    """A question as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def content(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


class ModerationServer:
    """The questions of one server. `reply_to` returns the reply to a question; None closes the connection. While
    `released` is not set, no question is answered."""

    def __init__(self) -> None:
        self.url = ""
        self.released = threading.Event()
        self.reset()

    def reset(self) -> None:
        self.questions: list[AskedQuestion] = []
        self.reply_to: Callable[[dict[str, Any]], HookReply | None] = lambda _: ALLOW
        self.released.set()

    def list_asked(self, path: str) -> list[dict[str, Any]]:
        return [question.content for question in self.questions if question.path == path]


@contextmanager
def run_moderation_server() -> Iterator[ModerationServer]:
    server = ModerationServer()

    class QuestionHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            question = AskedQuestion(self.path, headers, body)
            server.questions.append(question)
            reply = server.reply_to(question.content)
            server.released.wait(60.0)
            if reply is None:
                return
            self.send_response(reply.status)
            if reply.status // 100 == 3:
                self.send_header("location", f"{server.url}/redirected")
            self.send_header("content-length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *arguments: object) -> None:
            """The tests look at the questions."""

    class QuestionServer(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Ignores gateways that do not wait for the answer."""

    with QuestionServer(("127.0.0.1", 0), QuestionHandler) as http_server:
        server.url = f"http://127.0.0.1:{http_server.server_port}"
        thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            http_server.shutdown()
            thread.join()
