"""Requests that no client library sends: confusing sizes, framing and headers, over plain sockets."""

import time

import pytest

from tests.api.error_responses import IMAGES_PATH, JOBS_PATH, JSON_HEADERS, expect_final_error
from tests.api.raw_http import connect
from tests.harness.gateway_runner import RunningGateway
from tests.harness.raw_sockets import read_until_closed
from tests.harness.wait import wait_for_value, wait_until

BODY = b'{"prompt": ""}'
HEADER_LINES = (
    b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer igw_sandbox\r\nContent-Type: application/json\r\n"
)
LENGTH_HEADER = b"Content-Length: 14\r\n"
MIB = 1 << 20
INVALID_FRAMINGS = {
    "two lengths alike": (LENGTH_HEADER + LENGTH_HEADER, BODY),
    "two lengths": (LENGTH_HEADER + b"Content-Length: 5\r\n", BODY),
    "a list of lengths": (b"Content-Length: 14, 14\r\n", BODY),
    "a length and chunks": (
        LENGTH_HEADER + b"Transfer-Encoding: chunked\r\n",
        b"0\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    "chunks and a length": (b"Transfer-Encoding: chunked\r\n" + LENGTH_HEADER, b"e\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "an unknown encoding of transfer": (b"Transfer-Encoding: xchunked\r\n", b"e\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a length below nothing": (b"Content-Length: -1\r\n", BODY),
    "a length with a sign": (b"Content-Length: +14\r\n", BODY),
    "a length in words": (b"Content-Length: many\r\n", BODY),
    "a length of 23 digits": (b"Content-Length: 99999999999999999999999\r\n", BODY),
    "a blank before the colon": (b"Content-Length : 14\r\n", BODY),
    "a NUL in a header": (LENGTH_HEADER + b"X-Note: \x00\r\n", BODY),
}


def send_raw(gateway: RunningGateway, data: bytes) -> bytes:
    """Sends the bytes, and reads until the connection is closed or silent for a fifth of a second."""
    with connect(gateway) as connection:
        connection.sendall(data)
        received = connection.recv(65_536)
        connection.settimeout(0.2)
        try:
            while chunk := connection.recv(65_536):
                received += chunk
        except TimeoutError:
            pass
        return received


@pytest.mark.parametrize("case", INVALID_FRAMINGS)
def test_ambiguous_framing_is_rejected(gateway: RunningGateway, case: str) -> None:
    headers, body = INVALID_FRAMINGS[case]
    received = send_raw(gateway, HEADER_LINES + headers + b"\r\n" + body)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1 ") == 1, "the smuggled request is not answered"


@pytest.mark.parametrize("earlier_requests", [1, 2])
def test_malformed_request_is_answered_after_the_earlier_ones(gateway: RunningGateway, earlier_requests: int) -> None:
    """While the earlier ones are still in work."""
    received = send_raw(
        gateway, (HEADER_LINES + LENGTH_HEADER + b"\r\n" + BODY) * earlier_requests + b"nothing valid\r\n\r\n"
    )
    answers = received.split(b"HTTP/1.1 400 ")[1:]
    assert [b"malformed_request" in answer for answer in answers] == [False] * earlier_requests + [True]


@pytest.mark.parametrize(
    ("path", "words"),
    [(JOBS_PATH, b"larger than 64 MiB."), (IMAGES_PATH, b"larger than 1 MiB, and this route accepts no images.")],
)
def test_body_with_too_large_content_length_is_rejected_unread(
    gateway: RunningGateway, path: str, words: bytes
) -> None:
    head = HEADER_LINES.replace(b"/v1/jobs", path.encode()) + f"Content-Length: {70 * MIB}\r\n\r\n".encode()
    received = send_raw(gateway, head)
    assert received.startswith(b"HTTP/1.1 413 ")
    assert words in received


@pytest.mark.parametrize("version", [b"HTTP/1.0\r\n", b"HTTP/1.1\r\nConnection: close\r\n"])
def test_client_that_still_sends_gets_the_whole_response_before_the_end_of_its_connection(
    gateway: RunningGateway, version: bytes
) -> None:
    """Closing a connection with unread input would reset it, and the client could lose the response."""
    head = HEADER_LINES.replace(b"HTTP/1.1\r\n", version) + b"Content-Length: %d\r\n\r\n" % (70 * MIB)
    with connect(gateway) as connection:
        connection.sendall(head)
        for _ in range(70):
            connection.sendall(b" " * MIB)
        received = read_until_closed(connection)
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"larger than 64 MiB." in received


@pytest.mark.parametrize("length", [b"14 ", b"14\t", b" \t14 \t ", b"14" + b" " * 1_000])
@pytest.mark.parametrize("path", [JOBS_PATH, IMAGES_PATH])
def test_content_length_may_have_whitespace_around_it(gateway: RunningGateway, path: str, length: bytes) -> None:
    """RFC 9110, 5.5."""
    received = send_raw(
        gateway, HEADER_LINES.replace(b"/v1/jobs", path.encode()) + b"Content-Length:" + length + b"\r\n\r\n" + BODY
    )
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"prompt" in received, "the body was read"


def test_chunked_body_of_70_mib_is_rejected_and_not_kept_in_memory(gateway: RunningGateway) -> None:
    before = gateway.get_resident_bytes()
    chunk = b"\x20" * MIB
    with connect(gateway) as connection:
        connection.sendall(HEADER_LINES + b"Transfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(70):
                connection.sendall(b"%x\r\n" % len(chunk) + chunk + b"\r\n")
        except OSError:
            # Rejected before all of it was sent: the response can still be read.
            pass
        received = connection.recv(65_536)
    assert received.startswith(b"HTTP/1.1 413 ")
    wait_for_value(
        lambda: gateway.get_resident_bytes() - before,
        lambda growth: growth <= 50 * MIB,
        "the memory of the body is released",
    )
    gateway.expect_no_problem()


def test_body_of_70_mib_from_a_client_library_is_413(gateway: RunningGateway) -> None:
    expect_final_error(
        gateway.http.post(JOBS_PATH, content=b'{"prompt": "' + b"a" * 70 * MIB + b'"}', headers=JSON_HEADERS),
        413,
        "body_too_large",
    )


def test_prompt_of_60_mib_is_rejected_by_its_character_limit(gateway: RunningGateway) -> None:
    answer = gateway.http.post(JOBS_PATH, content=b'{"prompt": "' + b"a" * 60 * MIB + b'"}', headers=JSON_HEADERS)
    assert expect_final_error(answer, 400)["param"] == "prompt"


def count_requests(gateway: RunningGateway, status: str) -> float:
    return gateway.read_metric("igw_http_requests_total", status=status)


def test_disconnect_during_a_body_causes_no_internal_error(gateway: RunningGateway) -> None:
    before = [count_requests(gateway, status) for status in ("499", "500")]
    with connect(gateway) as connection:
        connection.sendall(HEADER_LINES + b"Content-Length: 500\r\n\r\n" + BODY)
        time.sleep(0.1)
    wait_until(lambda: count_requests(gateway, "499") > before[0], "the disconnect is counted")
    assert count_requests(gateway, "500") == before[1]
    gateway.expect_no_problem()


def test_compressed_body_is_rejected(gateway: RunningGateway) -> None:
    answer = gateway.http.post(JOBS_PATH, content=BODY, headers=JSON_HEADERS | {"content-encoding": "gzip"})
    assert "Content-Encoding" in expect_final_error(answer, 415, "unsupported_encoding")["message"]


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Authorization: Bearer \xff\xfe\r\n", b"401"),
        (b"Authorization: Bearer igw_sandbox\r\nX-Forwarded-Host: evil\r\n", b"400"),
        ("Authorization: Bearer igw_sandbox\r\nX-Stainless-Retry-Count: ٣\r\n".encode(), b"400"),
        (b"Authorization: Bearer igw_sandbox\r\nX-Stainless-Retry-Count: " + b"9" * 5_000 + b"\r\n", b"400"),
        (b"Authorization: Bearer igw_sandbox\r\nPrefer: wait=" + b"9" * 5_000 + b"\r\n", b"400"),
    ],
)
def test_unusual_header_values_are_handled(gateway: RunningGateway, header: bytes, status: bytes) -> None:
    received = send_raw(
        gateway,
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n"
        + header
        + b"Content-Type: application/json\r\n"
        + LENGTH_HEADER
        + b"\r\n"
        + BODY,
    )
    assert received.startswith(b"HTTP/1.1 " + status)
    assert b"x-request-id: req_" in received
    assert b"evil" not in received


def test_malformed_requests_are_logged_once_a_minute_without_their_content(gateway: RunningGateway) -> None:
    """Unauthenticated clients can send them, so they are logged once a minute. (The first may be another test's.)"""
    before, garbage = count_server_log_lines(gateway), 50
    for _ in range(garbage):
        send_raw(gateway, b"\x16\x03\x01\x00\xa5 canary-in-garbage\r\n\r\n")
    wait_until(lambda: count_server_log_lines(gateway), "a malformed request is logged")
    assert count_server_log_lines(gateway) - before <= 2
    assert "canary-in-garbage" not in gateway.stderr


def count_server_log_lines(gateway: RunningGateway) -> int:
    return sum(line.get("library") == "uvicorn.error" for line in gateway.read_log_lines())
