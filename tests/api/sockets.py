"""Requests byte by byte, over plain sockets."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.serving import Serving

KEY = b"Authorization: Bearer igw_sandbox\r\n"
POST_JOB = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n" + KEY + b"Content-Type: application/json\r\n"
POST_IMAGE = POST_JOB.replace(b"/v1/jobs", b"/v1/images/generations")
LONGEST = 20.0


class Answer:
    """What came, read apart."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.raw = raw
        self.status = int(lines[0].split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)["error"]
        return found


@contextmanager
def connected(gateway: Serving) -> Iterator[socket.socket]:
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=LONGEST) as connection:
        yield connection


def to_the_end(connection: socket.socket) -> bytes:
    """Until the other side ends it."""
    got = b""
    while more := connection.recv(65_536):
        got += more
    return got


def one_answer(connection: socket.socket) -> Answer:
    """A whole one, of a connection that stays open."""
    got, size = b"", 1 << 30
    while len(got) < size:
        more = connection.recv(65_536)
        assert more, got
        got += more
        if b"\r\n\r\n" in got:
            answer = Answer(got)
            size = len(got) - len(answer.body) + int(answer.headers.get("content-length", "0"))
    return Answer(got)


def within(seconds: float) -> Iterator[None]:
    """For what will be so, a moment later."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} seconds")
