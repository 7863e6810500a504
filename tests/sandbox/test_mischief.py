"""Faults on the wire, seen from a client that knows nothing: what arrives, and whether money was taken."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.vendors import Vendors

ORDER = {"model": "gpt-image-2", "prompt": "a lighthouse", "quality": "low"}
SUBMIT = "/openai/v1/images/generations"
KEY = {"authorization": "Bearer sk-sandbox"}
BOTH_ANSWERS = pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])


def buy(sandbox: Vendors, **options: Any) -> httpx.Response:
    """On a connection of its own, so that no test meets another one's broken connection."""
    body = {**ORDER, "stream": options.pop("stream", False)}
    with httpx.Client(base_url=sandbox.url, trust_env=False, headers=KEY, timeout=options.pop("timeout", 10)) as http:
        return http.post(SUBMIT, json=body, **options)


def charged(sandbox: Vendors, expected: int = 0) -> int:
    """How many charges there are; where some are expected, when they have had time to come."""
    deadline = time.monotonic() + 5
    while (found := len(sandbox.charges("openai"))) < expected and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


@contextmanager
def raw(sandbox: Vendors, stream: bool = False) -> Iterator[socket.socket]:
    """A socket on which a purchase has been asked for."""
    address = urlsplit(sandbox.url)
    body = json.dumps({**ORDER, "stream": stream}).encode()
    head = (
        f"POST {SUBMIT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-sandbox\r\nContent-Type: application/json\r\n"
    )
    with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
        connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        yield connection


def received(connection: socket.socket) -> bytes:
    """Everything until the end, or ConnectionResetError if the end is not an orderly one."""
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return data


def received_until_reset(connection: socket.socket) -> bytes:
    """What came before the connection was cut."""
    data = b""
    while True:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            return data
        assert piece, "an orderly end"
        data += piece


# Connections


@BOTH_ANSWERS
def test_reset_before_takes_no_money(sandbox, stream):
    sandbox.fault("reset_before", vendor="openai")
    with raw(sandbox, stream) as connection, pytest.raises(ConnectionResetError):
        received(connection)
    assert charged(sandbox) == 0


@BOTH_ANSWERS
def test_reset_after_takes_the_money_and_gives_no_answer(sandbox, stream):
    sandbox.fault("reset_after", vendor="openai")
    with raw(sandbox, stream) as connection, pytest.raises(ConnectionResetError):
        received(connection)
    assert charged(sandbox) == 1


def test_reset_after_waits_for_the_work_to_be_done(sandbox):
    sandbox.latency(0.3, vendor="openai")
    sandbox.fault("reset_after", vendor="openai")
    began = time.monotonic()
    with pytest.raises(httpx.TransportError):
        buy(sandbox)
    assert time.monotonic() - began > 0.28


@BOTH_ANSWERS
@pytest.mark.parametrize(("accepted", "charges"), [(False, 0), (True, 1)])
def test_hang_gives_nothing_and_takes_money_only_if_accepted(sandbox, accepted, charges, stream):
    sandbox.fault("hang", vendor="openai", accepted=accepted)
    with pytest.raises(httpx.ReadTimeout):
        buy(sandbox, timeout=0.4, stream=stream)
    assert charged(sandbox, charges) == charges


def test_hang_ends_with_a_reset_when_it_has_had_its_time(sandbox):
    sandbox.fault("hang", vendor="openai", seconds=0.2)
    began = time.monotonic()
    with raw(sandbox) as connection, pytest.raises(ConnectionResetError):
        received(connection)
    assert 0.2 <= time.monotonic() - began < 5


def test_slow_answers_late_but_rightly(sandbox):
    sandbox.fault("slow", vendor="openai", seconds=0.3)
    answer = buy(sandbox)
    assert answer.elapsed.total_seconds() >= 0.3
    assert len(answer.json()["data"]) == 1


def test_slow_keeps_the_answer_back_and_not_the_order(sandbox):
    sandbox.fault("slow", vendor="openai", seconds=1)
    with pytest.raises(httpx.ReadTimeout):
        buy(sandbox, timeout=0.3)
    assert charged(sandbox, 1) == 1


@BOTH_ANSWERS
def test_a_dripping_answer_comes_in_many_pieces_and_whole(sandbox, stream):
    sandbox.fault("slow", vendor="openai", seconds=0.3, drip=True)
    began, pieces = time.monotonic(), []
    with httpx.Client(base_url=sandbox.url, trust_env=False, headers=KEY) as http:
        with http.stream("POST", SUBMIT, json={**ORDER, "stream": stream}) as answer:
            pieces = list(answer.iter_raw())
    assert 0.29 < time.monotonic() - began < 9
    assert len(pieces) > 20
    whole = b"".join(pieces)
    assert (b"image_generation.completed" in whole) if stream else json.loads(whole)["data"]


def test_a_truncated_answer_promises_all_and_gives_half(sandbox):
    sandbox.fault("truncate", vendor="openai")
    with raw(sandbox) as connection:
        head, _, body = received_until_reset(connection).partition(b"\r\n\r\n")
    promised = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    assert head.startswith(b"HTTP/1.1 200 ")
    assert len(body) == promised // 2 > 1000
    assert charged(sandbox) == 1


def test_a_truncated_stream_breaks_off_half_way(sandbox):
    sandbox.fault("truncate", vendor="openai")
    with raw(sandbox, stream=True) as connection:
        data = received_until_reset(connection)
    assert b'"b64_json":"' in data
    assert b'"usage"' not in data
    assert charged(sandbox) == 1


# Answers


def test_refuse_is_the_vendors_own_refusal(sandbox):
    sandbox.fault("refuse", vendor="openai", status=400, code="billing_hard_limit_reached", message="No.")
    answer = buy(sandbox)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "billing_hard_limit_reached"
    assert answer.json()["error"]["message"] == "No."
    assert charged(sandbox) == 0


def test_refuse_never_takes_the_order_even_if_told_to(sandbox):
    sandbox.fault("refuse", vendor="openai", accepted=True)
    assert buy(sandbox).status_code == 422
    assert charged(sandbox) == 0


@BOTH_ANSWERS
@pytest.mark.parametrize(("accepted", "charges"), [(False, 0), (True, 1)])
def test_status_with_headers_and_body(sandbox, accepted, charges, stream):
    sandbox.fault(
        "status", vendor="openai", status=503, headers={"Retry-After": "7"}, body='{"odd": 1}', accepted=accepted
    )
    answer = buy(sandbox, stream=stream)
    assert (answer.status_code, answer.headers["retry-after"], answer.json()) == (503, "7", {"odd": 1})
    assert charged(sandbox) == charges


@pytest.mark.parametrize("status", [200, 204, 304, 599])
def test_any_final_status_leaves_the_connection_usable(sandbox, status):
    sandbox.fault("status", vendor="openai", status=status, times=1)
    with httpx.Client(base_url=sandbox.url, trust_env=False, headers=KEY) as http:
        assert http.post(SUBMIT, json=ORDER).status_code == status
        assert http.post(SUBMIT, json=ORDER).json()["data"]


def test_html_is_a_proxys_page(sandbox):
    sandbox.fault("html", vendor="openai", times=1)
    sandbox.fault("html", vendor="openai", status=504, body="<p>gone</p>", accepted=True)
    first, second = buy(sandbox), buy(sandbox)
    assert (first.status_code, first.headers["content-type"]) == (502, "text/html")
    assert "<html>" in first.text
    assert (second.status_code, second.text) == (504, "<p>gone</p>")
    assert charged(sandbox) == 1


# Trouble leaves nothing behind


def test_nothing_is_left_running_for_clients_that_are_gone(sandbox):
    """Otherwise weeks of hangs and stuck orders would fill the memory."""
    before = sandbox.control("GET", "/health")["tasks"]
    for kind in ("hang", "stuck"):
        sandbox.fault(kind, vendor="openai", times=4)
        for stream in (False, True, False, False):
            with pytest.raises(httpx.ReadTimeout):
                buy(sandbox, timeout=0.15, stream=stream)
    deadline = time.monotonic() + 3
    while sandbox.control("GET", "/health")["tasks"] > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sandbox.control("GET", "/health")["tasks"] <= before
