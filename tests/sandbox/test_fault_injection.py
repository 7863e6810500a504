"""Faults of the connection as a client sees them: what arrives, and whether the order is charged."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.harness.raw_sockets import read_until_closed
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_for_value
from tests.sandbox.openai_client import AUTH_HEADERS, ORDER_BODY, SUBMIT_PATH

JSON_AND_STREAM = pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])


def submit_order(sandbox: RunningSandbox, **options: Any) -> httpx.Response:
    """Submits an order on its own connection, so that no test gets another one's broken connection."""
    body = {**ORDER_BODY, "stream": options.pop("stream", False)}
    with httpx.Client(
        base_url=sandbox.url, trust_env=False, headers=AUTH_HEADERS, timeout=options.pop("timeout", 10)
    ) as http:
        return http.post(SUBMIT_PATH, json=body, **options)


def count_charges(sandbox: RunningSandbox, expected: int = 0) -> int:
    """Counts the charges, waiting until there are as many as expected."""
    return wait_for_value(
        lambda: len(sandbox.list_charges("openai")),
        lambda count: count >= expected,
        f"the seller has charged {expected} orders",
    )


@contextmanager
def open_order_socket(sandbox: RunningSandbox, stream: bool = False) -> Iterator[socket.socket]:
    """Opens a socket and submits an order on it."""
    address = urlsplit(sandbox.url)
    body = json.dumps({**ORDER_BODY, "stream": stream}).encode()
    head = (
        f"POST {SUBMIT_PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-sandbox\r\n"
        "Content-Type: application/json\r\n"
    )
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        yield connection


def read_until_reset(connection: socket.socket) -> bytes:
    """Reads all data until the connection is reset."""
    data = b""
    while True:
        try:
            chunk = connection.recv(65536)
        except ConnectionResetError:
            return data
        assert chunk, "the connection was closed, not reset"
        data += chunk


# Connections


@JSON_AND_STREAM
@pytest.mark.parametrize(("fault", "charges"), [("reset_before", 0), ("reset_after", 1)])
def test_reset_sends_no_response_and_charges_only_after_the_order(sandbox, fault, charges, stream):
    sandbox.inject_fault(fault, vendor="openai")
    with open_order_socket(sandbox, stream) as connection, pytest.raises(ConnectionResetError):
        read_until_closed(connection)
    assert count_charges(sandbox) == charges


def test_reset_after_waits_until_the_order_is_finished(sandbox):
    sandbox.set_latency(0.3, vendor="openai")
    sandbox.inject_fault("reset_after", vendor="openai")
    started_at = time.monotonic()
    with pytest.raises(httpx.TransportError):
        submit_order(sandbox)
    assert time.monotonic() - started_at > 0.28


@JSON_AND_STREAM
@pytest.mark.parametrize(("accepted", "charges"), [(False, 0), (True, 1)])
def test_hang_sends_nothing_and_charges_only_if_accepted(sandbox, accepted, charges, stream):
    sandbox.inject_fault("hang", vendor="openai", accepted=accepted)
    with pytest.raises(httpx.ReadTimeout):
        submit_order(sandbox, timeout=0.4, stream=stream)
    assert count_charges(sandbox, charges) == charges


def test_hang_ends_with_a_reset_after_its_seconds(sandbox):
    sandbox.inject_fault("hang", vendor="openai", seconds=0.2)
    started_at = time.monotonic()
    with open_order_socket(sandbox) as connection, pytest.raises(ConnectionResetError):
        read_until_closed(connection)
    assert 0.2 <= time.monotonic() - started_at < 60


def test_slow_responds_late_and_correctly(sandbox):
    sandbox.inject_fault("slow", vendor="openai", seconds=0.3)
    answer = submit_order(sandbox)
    assert answer.elapsed.total_seconds() >= 0.3
    assert len(answer.json()["data"]) == 1


def test_slow_delays_the_response_and_not_the_order(sandbox):
    sandbox.inject_fault("slow", vendor="openai", seconds=1)
    with pytest.raises(httpx.ReadTimeout):
        submit_order(sandbox, timeout=0.3)
    assert count_charges(sandbox, 1) == 1


@JSON_AND_STREAM
def test_slow_response_in_chunks_arrives_complete(sandbox, stream):
    sandbox.inject_fault("slow", vendor="openai", seconds=0.3, in_chunks=True)
    started_at, chunks = time.monotonic(), []
    with httpx.Client(base_url=sandbox.url, trust_env=False, headers=AUTH_HEADERS) as http:
        with http.stream("POST", SUBMIT_PATH, json={**ORDER_BODY, "stream": stream}) as answer:
            chunks = list(answer.iter_raw())
    assert 0.29 < time.monotonic() - started_at < 60
    assert len(chunks) > 20
    body = b"".join(chunks)
    assert (b"image_generation.completed" in body) if stream else json.loads(body)["data"]


def test_truncated_response_declares_all_and_sends_half(sandbox):
    sandbox.inject_fault("truncate", vendor="openai")
    with open_order_socket(sandbox) as connection:
        head, _, body = read_until_reset(connection).partition(b"\r\n\r\n")
    declared_length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    assert head.startswith(b"HTTP/1.1 200 ")
    assert len(body) == declared_length // 2 > 1000
    assert count_charges(sandbox) == 1


def test_truncated_stream_ends_half_way(sandbox):
    sandbox.inject_fault("truncate", vendor="openai")
    with open_order_socket(sandbox, stream=True) as connection:
        data = read_until_reset(connection)
    assert b'"b64_json":"' in data
    assert b'"usage"' not in data
    assert count_charges(sandbox) == 1


# Responses


def test_refuse_returns_the_vendors_own_error(sandbox):
    sandbox.inject_fault("refuse", vendor="openai", status=400, code="billing_hard_limit_reached", message="No.")
    answer = submit_order(sandbox)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "billing_hard_limit_reached"
    assert answer.json()["error"]["message"] == "No."
    assert count_charges(sandbox) == 0


def test_refuse_never_accepts_the_order(sandbox):
    sandbox.inject_fault("refuse", vendor="openai", accepted=True)
    assert submit_order(sandbox).status_code == 422
    assert count_charges(sandbox) == 0


@JSON_AND_STREAM
@pytest.mark.parametrize(("accepted", "charges"), [(False, 0), (True, 1)])
def test_status_fault_sends_its_headers_and_body(sandbox, accepted, charges, stream):
    sandbox.inject_fault(
        "status", vendor="openai", status=503, headers={"Retry-After": "7"}, body='{"odd": 1}', accepted=accepted
    )
    answer = submit_order(sandbox, stream=stream)
    assert (answer.status_code, answer.headers["retry-after"], answer.json()) == (503, "7", {"odd": 1})
    assert count_charges(sandbox) == charges


@pytest.mark.parametrize("status", [200, 204, 304, 599])
def test_status_fault_leaves_the_connection_usable(sandbox, status):
    sandbox.inject_fault("status", vendor="openai", status=status, times=1)
    with httpx.Client(base_url=sandbox.url, trust_env=False, headers=AUTH_HEADERS) as http:
        assert http.post(SUBMIT_PATH, json=ORDER_BODY).status_code == status
        assert http.post(SUBMIT_PATH, json=ORDER_BODY).json()["data"]


def test_html_fault_returns_a_proxy_error_page(sandbox):
    sandbox.inject_fault("html", vendor="openai", times=1)
    sandbox.inject_fault("html", vendor="openai", status=504, body="<p>gone</p>", accepted=True)
    first, second = submit_order(sandbox), submit_order(sandbox)
    assert (first.status_code, first.headers["content-type"]) == (502, "text/html")
    assert "<html>" in first.text
    assert (second.status_code, second.text) == (504, "<p>gone</p>")
    assert count_charges(sandbox) == 1


# Faults leave no tasks behind


def test_disconnected_clients_leave_no_tasks_running(sandbox):
    """Tasks of hanging requests and stuck orders would fill the memory over weeks."""
    before = sandbox.call_control_route("GET", "/health")["tasks"]
    for kind in ("hang", "stuck"):
        sandbox.inject_fault(kind, vendor="openai", times=4)
        for stream in (False, True, False, False):
            with pytest.raises(httpx.ReadTimeout):
                submit_order(sandbox, timeout=0.15, stream=stream)
    wait_for_value(
        lambda: sandbox.call_control_route("GET", "/health")["tasks"],
        lambda count: count <= before,
        "the tasks have ended",
    )
