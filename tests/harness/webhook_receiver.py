"""A server that receives webhooks, and remembers them."""

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from msgspec import Struct

WEBHOOK_SECRET = "whsec_c2VjcmV0IG9mIHRoZSB3ZWJob29rcyBvZiB0ZXN0cw=="
OLD_WEBHOOK_SECRET = "whsec_b2xkIHNlY3JldCBvZiB0aGUgd2ViaG9va3Mgb2YgdGVzdHM="


class SentWebhook(Struct, frozen=True):
    """A webhook as it arrived. `status`: that it was answered with."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class WebhookReceiver:
    """The webhooks of one server. `statuses`: the answers by path, the last of which is repeated; 204 by default."""

    def __init__(self) -> None:
        self.url = ""
        self.webhooks: list[SentWebhook] = []
        self.statuses: dict[str, list[int]] = {}
        self.released = threading.Event()
        self.released.set()

    def receive(self, path: str, headers: Mapping[str, str], body: bytes) -> int:
        statuses = self.statuses.get(path, [204])
        status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
        self.webhooks.append(SentWebhook(path, headers, body, status))
        return status

    def list_at(self, path: str) -> list[SentWebhook]:
        return [webhook for webhook in self.webhooks if webhook.path == path]

    def count_accepted(self) -> Counter[str]:
        """Counts how often each webhook was accepted, by the id of its job."""
        return Counter(
            json.loads(webhook.body)["data"]["id"] for webhook in self.webhooks if webhook.status // 100 == 2
        )


@contextmanager
def run_webhook_receiver() -> Iterator[WebhookReceiver]:
    receiver = WebhookReceiver()

    class WebhookHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = receiver.receive(self.path, headers, body)
            receiver.released.wait(60.0)
            self.send_response(status)
            if status // 100 == 3:
                self.send_header("location", f"{receiver.url}/redirected")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """The tests look at the received webhooks."""

    class ReceiverServer(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Ignores gateways that are killed."""

    with ReceiverServer(("127.0.0.1", 0), WebhookHandler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.released.set()
            server.shutdown()
            thread.join()
