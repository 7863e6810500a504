"""Headers that contradict each other, requests without a clear host, and transfer encodings: 400 that names them."""

import json
from uuid import uuid4

import pytest

from tests.api.error_responses import IMAGES_PATH
from tests.api.raw_http import RawResponse, connect
from tests.harness.gateway_runner import RunningGateway
from tests.harness.raw_sockets import read_until_closed

AUTHORIZATION, JSON = "Authorization: Bearer igw_sandbox", "Content-Type: application/json"
CHUNKED_BODY = b"2\r\n{}\r\n0\r\n\r\n"


def send_request(gateway: RunningGateway, *lines: str, first_line: str = "", chunks: bytes = b"") -> RawResponse:
    """Sends a request that would create a job, with these header lines."""
    body = json.dumps({"prompt": f"a lighthouse {uuid4()}", "quality": "low"}).encode()
    length = [] if chunks else [f"Content-Length: {len(body)}"]
    close = [] if any(line.startswith("Connection") for line in lines) else ["Connection: close"]
    head = "\r\n".join((first_line or "POST /v1/jobs HTTP/1.1", *lines, *length, *close, "", ""))
    with connect(gateway) as connection:
        connection.sendall(head.encode("latin-1") + (chunks or body))
        return RawResponse(read_until_closed(connection))


@pytest.fixture
def charges_before(gateway: RunningGateway) -> int:
    return len(gateway.sandbox.list_charges())


def expect_nothing_ordered(gateway: RunningGateway, charges_before: int) -> None:
    gateway.wait_until_idle()
    assert len(gateway.sandbox.list_charges()) == charges_before


@pytest.mark.parametrize(
    ("header", "lines"),
    [
        ("Idempotency-Key", ("Idempotency-Key: a1", "Idempotency-Key: b1")),
        ("Idempotency-Key", ("Idempotency-Key: a1", "idempotency-key: A1")),
        ("Idempotency-Key", ("Idempotency-Key:", "Idempotency-Key: b1")),
        ("Authorization", (AUTHORIZATION, "Authorization: Bearer another")),
        ("X-Api-Key", ("x-api-key: igw_sandbox", "x-api-key: another")),
        ("Api-Key", ("api-key: igw_sandbox", "API-Key: another")),
        ("Content-Type", (JSON, "Content-Type: text/plain")),
        ("Content-Type", (JSON, "Content-Type: multipart/form-data; boundary=x")),
        ("Content-Encoding", ("Content-Encoding: identity", "Content-Encoding: gzip")),
        ("X-Stainless-Retry-Count", ("X-Stainless-Retry-Count: 0", "X-Stainless-Retry-Count: 1")),
    ],
)
def test_two_values_of_a_single_header_are_rejected(
    gateway: RunningGateway, charges_before: int, header: str, lines: tuple[str, ...]
) -> None:
    others = [line for line in (AUTHORIZATION, JSON) if line.partition(":")[0].lower() != header.lower()]
    answer = send_request(gateway, "Host: x", *others, *lines)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "duplicate_header", header)
    assert header in answer.error["message"]
    assert "igw_sandbox" not in answer.raw.decode("latin-1")
    expect_nothing_ordered(gateway, charges_before)


def test_repeated_line_with_the_same_value_is_accepted(gateway: RunningGateway) -> None:
    key = f"Idempotency-Key: {uuid4()}"
    answer = send_request(gateway, "Host: x", AUTHORIZATION, AUTHORIZATION, JSON, JSON, key, key)
    assert answer.status == 202


def test_keys_in_different_headers_are_accepted(gateway: RunningGateway) -> None:
    """Clients of other gateways send their own key besides."""
    assert send_request(gateway, "Host: x", AUTHORIZATION, "x-api-key: another", JSON).status == 202


@pytest.mark.parametrize(
    "hosts",
    [(), ("Host: a", "Host: b"), ("Host: a", "Host: a"), ("Host: a, b",), ("Host: a b",), ("Host: a/admin",)],
)
def test_request_without_one_host_is_rejected(
    gateway: RunningGateway, charges_before: int, hosts: tuple[str, ...]
) -> None:
    answer = send_request(gateway, *hosts, AUTHORIZATION, JSON)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "invalid_host", "Host")
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-should-retry"] == "false"
    expect_nothing_ordered(gateway, charges_before)


@pytest.mark.parametrize(
    "host",
    ["localhost:8080", "127.0.0.1:1", "[::1]:8080", "[fe80::1%25eth0]", "a_b.example.com.", "", "xn--bcher-kva.ch"],
)
def test_usual_hosts_are_accepted(gateway: RunningGateway, host: str) -> None:
    assert send_request(gateway, f"Host: {host}", AUTHORIZATION, JSON).status == 202


def test_http_1_0_needs_no_host(gateway: RunningGateway) -> None:
    line = "POST /v1/jobs HTTP/1.0"
    assert send_request(gateway, AUTHORIZATION, JSON, first_line=line).status == 202
    assert send_request(gateway, "Host: a", "Host: b", AUTHORIZATION, JSON, first_line=line).status == 400


def test_upgrade_request_needs_one_host_too(gateway: RunningGateway) -> None:
    upgrade = ("Upgrade: websocket", "Connection: Upgrade")
    assert send_request(gateway, *upgrade, AUTHORIZATION, JSON).error["code"] == "invalid_host"


@pytest.mark.parametrize(
    "lines",
    [
        ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding: gzip", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked, chunked",),
        ("Transfer-Encoding: deflate\x7f, chunked",),
    ],
)
@pytest.mark.parametrize("path", ["/v1/jobs", IMAGES_PATH])
def test_transfer_encodings_are_rejected_by_name(
    gateway: RunningGateway, charges_before: int, path: str, lines: tuple[str, ...]
) -> None:
    line = f"POST {path} HTTP/1.1"
    answer = send_request(gateway, "Host: x", AUTHORIZATION, JSON, *lines, first_line=line, chunks=CHUNKED_BODY)
    assert answer.status == 400
    assert answer.error["code"] in ("unsupported_transfer_encoding", "malformed_request")
    if answer.error["code"] == "unsupported_transfer_encoding":
        assert "Transfer-Encoding" in answer.error["message"]
        assert answer.error["message"].isprintable()
    expect_nothing_ordered(gateway, charges_before)


def test_gzip_chunked_names_the_encoding(gateway: RunningGateway) -> None:
    lines = ("Host: x", AUTHORIZATION, JSON, "Transfer-Encoding: gzip, chunked")
    error = send_request(gateway, *lines, chunks=CHUNKED_BODY).error
    assert (error["code"], error["param"]) == ("unsupported_transfer_encoding", "Transfer-Encoding")
    assert "'gzip, chunked'" in error["message"]


@pytest.mark.parametrize("encoding", ["chunked", "Chunked", " chunked "])
def test_chunked_body_is_read(gateway: RunningGateway, encoding: str) -> None:
    lines = ("Host: x", AUTHORIZATION, JSON, f"Transfer-Encoding:{encoding}")
    error = send_request(gateway, *lines, chunks=CHUNKED_BODY).error
    assert (error["code"], error["param"]) == ("missing_required_parameter", "prompt")
