"""A client that disconnects: before the order nothing is ordered; afterwards a retry returns the job."""

import contextlib
import json
import signal
import socket
import sqlite3
import struct
import time
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from tests.api.error_responses import IMAGES_PATH, JOBS_PATH
from tests.api.raw_http import POST_IMAGE, POST_JOB, RawResponse, connect
from tests.harness.gateway_runner import API_KEY, RunningGateway
from tests.harness.raw_sockets import read_until_closed
from tests.harness.sent_request import SentRequest
from tests.harness.wait import wait_for_value, wait_until

PROBE_RESPONSE = b"HTTP/1.1 100 Continue\r\n\r\n"
DISCONNECT_COUNT = 10
LARGE_BODY_KILOBYTES = range(70, 270, 20)


def encode_body(prompt: str) -> bytes:
    return json.dumps({"prompt": prompt}).encode()


def encode_request(prompt: str, head: bytes = POST_IMAGE, **headers: str) -> bytes:
    body = encode_body(prompt)
    lines = b"".join(f"{name.replace('_', '-')}: {value}\r\n".encode() for name, value in headers.items())
    return head + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body


def make_prompt() -> str:
    return f"a lighthouse {uuid4()}"


def post_generation(gateway: RunningGateway, prompt: str, retry: int | None = None, **headers: str) -> httpx.Response:
    if retry is not None:
        headers["x-stainless-retry-count"] = str(retry)
    headers["content-type"] = "application/json"
    return gateway.http.post(IMAGES_PATH, content=encode_body(prompt), headers=headers)


def get_job_ids(*answers: httpx.Response) -> list[str]:
    assert [answer.status_code for answer in answers] == [200] * len(answers), [answer.text[:200] for answer in answers]
    return [answer.headers["x-igw-job-id"] for answer in answers]


def count_orders(gateway: RunningGateway) -> int:
    return len(gateway.sandbox.list_charges())


def count_disconnects(gateway: RunningGateway) -> int:
    """Counts the requests whose client has disconnected."""
    return sum(line.get("status") == 499 for line in gateway.read_log_lines())


def count_running_jobs(gateway: RunningGateway) -> int:
    jobs: int = gateway.http.get("/readyz").json()["jobs"]
    return jobs


def wait_for_running_jobs(gateway: RunningGateway, count: int) -> None:
    wait_for_value(lambda: count_running_jobs(gateway), lambda value: value == count, f"{count} jobs run")


def wait_for_disconnects(gateway: RunningGateway, count: int) -> None:
    """Waits for so many. One of an earlier test may be counted meanwhile."""
    wait_for_value(
        lambda: count_disconnects(gateway),
        lambda value: value >= count,
        f"{count} disconnects are counted",
    )


@pytest.fixture
def holding_gateway(gateway: RunningGateway) -> Iterator[RunningGateway]:
    """A gateway whose orders are held."""
    gateway.sandbox.hold_orders()
    yield gateway
    gateway.sandbox.release_orders()
    gateway.wait_until_idle()


def send_and_release(gateway: RunningGateway, prompt: str, count: int = 1, **headers: str) -> list[httpx.Response]:
    """Sends equal requests, releases all held orders, and returns the responses."""
    with contextlib.ExitStack() as open_requests:
        requests = [
            open_requests.enter_context(
                SentRequest(f"{gateway.url}{IMAGES_PATH}", API_KEY, encode_body(prompt), headers)
            )
            for _ in range(count)
        ]
        gateway.sandbox.release_orders()
        return [request.read_response() for request in requests]


def disconnect_requests(gateway: RunningGateway, prompt: str, times: int = 1) -> None:
    """Sends `times` requests, disconnects while their jobs run, and waits until the gateway has noticed."""
    before, disconnects = count_running_jobs(gateway), count_disconnects(gateway)
    with contextlib.ExitStack() as open_ones:
        for _ in range(times):
            open_ones.enter_context(connect(gateway)).sendall(encode_request(prompt))
        wait_for_running_jobs(gateway, before + times)
    wait_for_disconnects(gateway, disconnects + times)


# --- retries


def test_ten_identical_disconnected_requests_are_ten_jobs_for_ten_retries(holding_gateway: RunningGateway) -> None:
    before, prompt = count_orders(holding_gateway), make_prompt()
    disconnect_requests(holding_gateway, prompt, DISCONNECT_COUNT)
    answers = send_and_release(holding_gateway, prompt, DISCONNECT_COUNT, **{"x-stainless-retry-count": "1"})
    assert len(set(get_job_ids(*answers))) == DISCONNECT_COUNT
    assert count_orders(holding_gateway) - before == DISCONNECT_COUNT


def test_identical_request_returns_the_job_of_a_disconnected_client(holding_gateway: RunningGateway) -> None:
    before, prompt = count_orders(holding_gateway), make_prompt()
    disconnect_requests(holding_gateway, prompt)
    [retry] = send_and_release(holding_gateway, prompt)
    assert retry.headers["idempotent-replayed"] == "true"
    assert count_orders(holding_gateway) - before == 1
    later_request = post_generation(holding_gateway, prompt)
    assert len(set(get_job_ids(retry, later_request))) == 2, "the first client was answered: this is a new request"


def test_new_idempotency_key_creates_a_new_job(holding_gateway: RunningGateway) -> None:
    before, prompt = count_orders(holding_gateway), make_prompt()
    disconnect_requests(holding_gateway, prompt)
    [answer] = send_and_release(holding_gateway, prompt, **{"idempotency-key": str(uuid4())})
    assert "idempotent-replayed" not in answer.headers
    holding_gateway.wait_until_idle()
    assert count_orders(holding_gateway) - before == 2


def test_retry_after_an_unknown_outcome_gets_the_same_response(gateway: RunningGateway) -> None:
    gateway.sandbox.call_control_route(
        "POST", "/faults", {"vendor": "runflow", "route": "submit", "kind": "reset_after"}
    )
    before, body = count_orders(gateway), {"prompt": make_prompt(), "provider": {"only": ["runflow-run"]}}
    first, retry = (gateway.http.post(IMAGES_PATH, json=body) for _ in range(2))
    assert first.status_code == retry.status_code >= 400
    assert first.json() == retry.json()
    assert retry.headers["x-igw-job-id"] == first.headers["x-igw-job-id"]
    assert count_orders(gateway) - before <= 1
    gateway.sandbox.call_control_route("DELETE", "/faults")
    assert gateway.http.post(IMAGES_PATH, json=body, headers={"idempotency-key": str(uuid4())}).status_code == 200


# --- half-closed connections


def receive_half_closed(gateway: RunningGateway, request: bytes, is_running: bool = True) -> bytes:
    """Sends the request, closes the sending half of the connection, and returns what the gateway sends.

    `is_running`: the half is closed while the job runs, otherwise at once.
    """
    if is_running:
        gateway.sandbox.hold_orders()
    with connect(gateway) as connection:
        connection.sendall(request)
        if is_running:
            wait_for_running_jobs(gateway, 1)
        connection.shutdown(socket.SHUT_WR)
        gateway.sandbox.release_orders()
        return read_until_closed(connection)


@pytest.mark.parametrize("is_running", [False, True], ids=["at once", "while its job runs"])
def test_half_closed_connection_is_answered_or_nothing_is_ordered(gateway: RunningGateway, is_running: bool) -> None:
    before = count_orders(gateway)
    received = receive_half_closed(gateway, encode_request(make_prompt()), is_running)
    gateway.wait_until_idle()
    if not is_running and not received:
        assert count_orders(gateway) == before
        return
    assert received.startswith(PROBE_RESPONSE)
    answer = RawResponse(received[received.rindex(b"HTTP/1.1 ") :])
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert json.loads(answer.body)["data"]
    assert count_orders(gateway) == before + 1


@pytest.mark.parametrize("is_running", [False, True], ids=["at once", "while its job runs"])
def test_half_closed_connection_with_a_key_is_answered(gateway: RunningGateway, is_running: bool) -> None:
    before = count_orders(gateway)
    received = receive_half_closed(gateway, encode_request(make_prompt(), idempotency_key=str(uuid4())), is_running)
    assert RawResponse(received[received.rindex(b"HTTP/1.1 ") :]).status == 200
    assert count_orders(gateway) == before + 1


def test_request_disconnected_during_its_commit_is_not_ordered(gateway: RunningGateway) -> None:
    """The commit takes long because another process locks the store's file."""
    gateway.wait_until_idle()
    before, disconnects, prompt = count_orders(gateway), count_disconnects(gateway), make_prompt()
    database = sqlite3.connect(gateway.folder / "data" / "gateway.db", isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    try:
        with connect(gateway) as connection:
            head, _, body = encode_request(prompt, Expect="100-continue").partition(b"\r\n\r\n")
            connection.sendall(head + b"\r\n\r\n")
            assert connection.recv(1_000) == PROBE_RESPONSE, "the gateway reads the body"
            connection.sendall(body)
            time.sleep(0.5)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        time.sleep(0.5)
    finally:
        database.execute("ROLLBACK")
        database.close()
    wait_for_disconnects(gateway, disconnects + 1)
    time.sleep(0.5)
    assert (count_disconnects(gateway), count_running_jobs(gateway), count_orders(gateway)) == (
        disconnects + 1,
        0,
        before,
    )


def test_half_closed_http_1_0_connection_gets_no_100_continue(gateway: RunningGateway) -> None:
    head = POST_IMAGE.replace(b"HTTP/1.1\r\nHost: x\r\n", b"HTTP/1.0\r\n")
    assert RawResponse(receive_half_closed(gateway, encode_request(make_prompt(), head))).status == 200


@pytest.mark.parametrize("linger", [None, 0], ids=["closed", "reset"])
def test_closed_connections_are_released_and_their_jobs_continue(
    holding_gateway: RunningGateway, linger: int | None
) -> None:
    disconnects, prompt = count_disconnects(holding_gateway), make_prompt()
    with contextlib.ExitStack() as clients:
        for _ in range(20):
            client = clients.enter_context(connect(holding_gateway))
            if linger is not None:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, linger))
            client.sendall(encode_request(prompt))
        wait_for_running_jobs(holding_gateway, 20)
    wait_for_disconnects(holding_gateway, disconnects + 20)
    assert count_running_jobs(holding_gateway) == 20, "their jobs continue"


def test_disconnect_after_a_large_body_is_noticed(holding_gateway: RunningGateway) -> None:
    """The server stops reading when a large piece of a body arrives, which may be the last one."""
    disconnects = count_disconnects(holding_gateway)
    with contextlib.ExitStack() as clients:
        for kilobytes in LARGE_BODY_KILOBYTES:
            client = clients.enter_context(connect(holding_gateway))
            body = encode_body(make_prompt()) + b" " * (kilobytes << 10)
            client.sendall(POST_IMAGE + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
            assert client.recv(1_000) == PROBE_RESPONSE, "the gateway reads the body"
            client.sendall(body)
        wait_for_running_jobs(holding_gateway, len(LARGE_BODY_KILOBYTES))
    wait_for_disconnects(holding_gateway, disconnects + len(LARGE_BODY_KILOBYTES))


def test_pipelined_request_on_a_half_closed_connection_is_not_started(gateway: RunningGateway) -> None:
    before = count_orders(gateway)
    received = receive_half_closed(gateway, encode_request(make_prompt()) + encode_request(make_prompt()))
    gateway.wait_until_idle()
    assert received.count(b"HTTP/1.1 200 ") == 1
    assert count_orders(gateway) == before + 1


# --- before the order


def test_requests_closed_while_the_process_was_paused_are_not_ordered(gateway: RunningGateway) -> None:
    """A request with a key is ordered: a retry finds it by the key."""
    before, keys = count_orders(gateway), [str(uuid4()) for _ in range(5)]
    gateway.process.send_signal(signal.SIGSTOP)
    try:
        for head in (POST_IMAGE, POST_JOB):
            for _ in range(10):
                with connect(gateway) as connection:
                    connection.sendall(encode_request("disconnected client", head))
        for key in keys:
            with connect(gateway) as connection:
                connection.sendall(encode_request(f"by its key {key}", POST_JOB, Idempotency_Key=key))
    finally:
        gateway.process.send_signal(signal.SIGCONT)
    wait_until(
        lambda: count_running_jobs(gateway) or count_orders(gateway) > before,
        "a request is accepted",
    )
    gateway.wait_until_idle()
    assert count_orders(gateway) == before + len(keys)
    for key in keys:
        headers = {"idempotency-key": key, "content-type": "application/json"}
        retry = gateway.http.post(JOBS_PATH, content=encode_body(f"by its key {key}"), headers=headers)
        assert retry.headers["idempotent-replayed"] == "true"
