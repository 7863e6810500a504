"""Sends HTTP requests byte by byte over plain sockets."""

import json
import socket
from typing import Any

from tests.harness.gateway_runner import RunningGateway

AUTHORIZATION_HEADER = b"Authorization: Bearer igw_sandbox\r\n"
POST_JOB = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n" + AUTHORIZATION_HEADER + b"Content-Type: application/json\r\n"
POST_IMAGE = POST_JOB.replace(b"/v1/jobs", b"/v1/images/generations")
TIMEOUT_SECONDS = 60.0


class RawResponse:
    """A parsed response."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.raw = raw
        self.status = int(lines[0].split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = json.loads(self.body)["error"]
        return error


def connect(gateway: RunningGateway) -> socket.socket:
    """Opens a connection, which the caller closes, or uses as a context manager."""
    host, port = gateway.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=TIMEOUT_SECONDS)


def read_response(connection: socket.socket) -> RawResponse:
    """Reads one complete response from a connection that stays open."""
    received, total_size = b"", 1 << 30
    while len(received) < total_size:
        chunk = connection.recv(65_536)
        assert chunk, received
        received += chunk
        if b"\r\n\r\n" in received:
            answer = RawResponse(received)
            total_size = len(received) - len(answer.body) + int(answer.headers.get("content-length", "0"))
    return RawResponse(received)
