"""Requests that no client library would send: sizes, framing and headers made to confuse, over plain sockets."""

import socket
import time
from contextlib import closing

import pytest

from tests.api.answers import IMAGES, JOBS, JSON, refused
from tests.serving import Serving

BODY = b'{"prompt": ""}'
HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer igw_sandbox\r\nContent-Type: application/json\r\n"
LENGTH = b"Content-Length: 14\r\n"
MIB = 1 << 20
FRAMING = {
    "two lengths alike": (LENGTH + LENGTH, BODY),
    "two lengths": (LENGTH + b"Content-Length: 5\r\n", BODY),
    "a list of lengths": (b"Content-Length: 14, 14\r\n", BODY),
    "a length and chunks": (
        LENGTH + b"Transfer-Encoding: chunked\r\n",
        b"0\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    "chunks and a length": (b"Transfer-Encoding: chunked\r\n" + LENGTH, b"e\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "an unknown encoding of transfer": (b"Transfer-Encoding: xchunked\r\n", b"e\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a length below nothing": (b"Content-Length: -1\r\n", BODY),
    "a length with a sign": (b"Content-Length: +14\r\n", BODY),
    "a length in words": (b"Content-Length: many\r\n", BODY),
    "a length of 23 digits": (b"Content-Length: 99999999999999999999999\r\n", BODY),
    "a blank before the colon": (b"Content-Length : 14\r\n", BODY),
    "a NUL in a header": (LENGTH + b"X-Note: \x00\r\n", BODY),
}


def ask(gateway: Serving, data: bytes) -> bytes:
    """Until the connection is closed, or nothing has come for a fifth of a second."""
    host, port = gateway.url.removeprefix("http://").split(":")
    with closing(socket.create_connection((host, int(port)), timeout=10)) as connection:
        connection.sendall(data)
        got = connection.recv(65_536)
        connection.settimeout(0.2)
        try:
            while more := connection.recv(65_536):
                got += more
        except TimeoutError:
            pass
        return got


@pytest.mark.parametrize("case", FRAMING)
def test_framing_that_two_readers_could_read_differently_is_refused(gateway: Serving, case: str) -> None:
    headers, body = FRAMING[case]
    got = ask(gateway, HEAD + headers + b"\r\n" + body)
    assert got.startswith(b"HTTP/1.1 400 ")
    assert got.count(b"HTTP/1.1 ") == 1, "what was smuggled in is not answered"


@pytest.mark.parametrize(
    ("path", "words"), [(JOBS, b"larger than 64 MiB."), (IMAGES, b"larger than 1 MiB, and no image can be sent here.")]
)
def test_a_body_that_says_it_is_too_large_is_refused_unread(gateway: Serving, path: str, words: bytes) -> None:
    head = HEAD.replace(b"/v1/jobs", path.encode()) + f"Content-Length: {70 * MIB}\r\n\r\n".encode()
    got = ask(gateway, head)
    assert got.startswith(b"HTTP/1.1 413 ")
    assert words in got


@pytest.mark.parametrize("length", [b"14 ", b"14\t", b" \t14 \t ", b"14" + b" " * 1_000])
@pytest.mark.parametrize("path", [JOBS, IMAGES])
def test_a_length_may_have_blanks_around_it(gateway: Serving, path: str, length: bytes) -> None:
    """RFC 9110, 5.5."""
    got = ask(gateway, HEAD.replace(b"/v1/jobs", path.encode()) + b"Content-Length:" + length + b"\r\n\r\n" + BODY)
    assert got.startswith(b"HTTP/1.1 400 ")
    assert b"prompt" in got, "the body was read"


def test_70_mib_in_chunks_are_refused_and_not_kept(gateway: Serving) -> None:
    before = gateway.resident_bytes()
    chunk = b"\x20" * MIB
    host, port = gateway.url.removeprefix("http://").split(":")
    with closing(socket.create_connection((host, int(port)), timeout=20)) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(70):
                connection.sendall(b"%x\r\n" % len(chunk) + chunk + b"\r\n")
        except OSError:
            pass
        got = connection.recv(65_536)
    assert got.startswith(b"HTTP/1.1 413 ")
    deadline = time.monotonic() + 10
    while gateway.resident_bytes() - before > 50 * MIB:
        assert time.monotonic() < deadline, gateway.resident_bytes() - before
        time.sleep(0.1)
    assert [line for line in gateway.troubles() if line["event"] != "library"] == []


def test_70_mib_from_a_client_library(gateway: Serving) -> None:
    refused(
        gateway.http.post(JOBS, content=b'{"prompt": "' + b"a" * 70 * MIB + b'"}', headers=JSON), 413, "body_too_large"
    )


def test_a_large_prompt_of_60_mib_is_refused_by_its_length_in_characters(gateway: Serving) -> None:
    answer = gateway.http.post(JOBS, content=b'{"prompt": "' + b"a" * 60 * MIB + b'"}', headers=JSON)
    assert refused(answer, 400)["param"] == "prompt"


def test_a_caller_who_leaves_in_the_middle_of_a_body_is_no_fault_of_ours(gateway: Serving) -> None:
    before = gateway.http.get("/metrics").text
    host, port = gateway.url.removeprefix("http://").split(":")
    with closing(socket.create_connection((host, int(port)), timeout=10)) as connection:
        connection.sendall(HEAD + b"Content-Length: 500\r\n\r\n" + BODY)
        time.sleep(0.1)
    deadline = time.monotonic() + 10
    while 'status="499"' not in (after := gateway.http.get("/metrics").text):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert after.count('status="500"') == before.count('status="500"') == 0
    assert [line for line in gateway.troubles() if line["event"] == "trouble"] == []


def test_a_compressed_body_is_refused(gateway: Serving) -> None:
    answer = gateway.http.post(JOBS, content=BODY, headers=JSON | {"content-encoding": "gzip"})
    assert "Content-Encoding" in refused(answer, 415, "unsupported_encoding")["message"]


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Authorization: Bearer \xff\xfe\r\n", b"401"),
        (b"Authorization: Bearer nobody\r\nAuthorization: Bearer igw_sandbox\r\n", b"401"),
        (b"Authorization: Bearer igw_sandbox\r\nHost: a/admin?x=#\r\n", b"400"),
        (b"Authorization: Bearer igw_sandbox\r\nX-Forwarded-Host: evil\r\n", b"400"),
        ("Authorization: Bearer igw_sandbox\r\nX-Stainless-Retry-Count: ٣\r\n".encode(), b"400"),
        (b"Authorization: Bearer igw_sandbox\r\nX-Stainless-Retry-Count: " + b"9" * 5_000 + b"\r\n", b"400"),
        (b"Authorization: Bearer igw_sandbox\r\nPrefer: wait=" + b"9" * 5_000 + b"\r\n", b"400"),
    ],
)
def test_headers_that_hold_anything(gateway: Serving, header: bytes, status: bytes) -> None:
    got = ask(
        gateway,
        b"POST /v1/jobs HTTP/1.1\r\n" + header + b"Content-Type: application/json\r\n" + LENGTH + b"\r\n" + BODY,
    )
    assert got.startswith(b"HTTP/1.1 " + status)
    assert b"x-request-id: req_" in got
    assert b"evil" not in got


def test_what_the_server_itself_refuses_is_a_line_of_the_log_like_all_others(gateway: Serving) -> None:
    """However often: what anybody can send is written once a minute. (The first may have been another test's.)"""
    before, garbage = refusals(gateway), 50
    for _ in range(garbage):
        ask(gateway, b"\x16\x03\x01\x00\xa5 canary-in-garbage\r\n\r\n")
    deadline = time.monotonic() + 10
    while not refusals(gateway):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert refusals(gateway) - before <= 2
    assert "canary-in-garbage" not in gateway.logged


def refusals(gateway: Serving) -> int:
    return sum(line.get("library") == "uvicorn.error" for line in gateway.log_lines())
