"""A client that ends its connection: before the order nothing is bought, after it the job is found by asking again."""

import contextlib
import json
import signal
import socket
import sqlite3
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest

from tests.api.answers import IMAGES, JOBS
from tests.api.sockets import POST_IMAGE, POST_JOB, Answer, connected, to_the_end, within
from tests.serving import Serving

PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"
LET_GO_SECONDS = 3.0
BROKEN = 10


def body_of(prompt: str) -> bytes:
    return json.dumps({"prompt": prompt}).encode()


def request_of(prompt: str, head: bytes = POST_IMAGE, **headers: str) -> bytes:
    body = body_of(prompt)
    lines = b"".join(f"{name.replace('_', '-')}: {value}\r\n".encode() for name, value in headers.items())
    return head + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body


def new_prompt() -> str:
    return f"a lighthouse {uuid4()}"


def generate(gateway: Serving, prompt: str, retry: int | None = None, **headers: str) -> httpx.Response:
    if retry is not None:
        headers["x-stainless-retry-count"] = str(retry)
    headers["content-type"] = "application/json"
    return gateway.http.post(IMAGES, content=body_of(prompt), headers=headers)


def jobs_of(*answers: httpx.Response) -> list[str]:
    assert [answer.status_code for answer in answers] == [200] * len(answers), [answer.text[:200] for answer in answers]
    return [answer.headers["x-igw-job-id"] for answer in answers]


def orders(gateway: Serving) -> int:
    return len(gateway.vendors.charges())


def left(gateway: Serving) -> int:
    """Requests whose client has gone."""
    return sum(line.get("status") == 499 for line in gateway.log_lines())


def running(gateway: Serving) -> int:
    jobs: int = gateway.http.get("/readyz").json()["jobs"]
    return jobs


@pytest.fixture
def slow(gateway: Serving) -> Iterator[Serving]:
    gateway.vendors.latency(4.0)
    yield gateway
    gateway.vendors.latency(0.0)
    gateway.come_to_rest(15)


@contextlib.contextmanager
def broken_off(gateway: Serving, prompt: str, times: int = 1) -> Iterator[None]:
    """So many requests whose connections break while their jobs run, as the gateway has noticed."""
    before, gone = running(gateway), left(gateway)
    with contextlib.ExitStack() as open_ones:
        for _ in range(times):
            open_ones.enter_context(connected(gateway)).sendall(request_of(prompt))
        for _ in within(10):
            if running(gateway) == before + times:
                break
    for _ in within(LET_GO_SECONDS):
        if left(gateway) == gone + times:
            break
    yield


# --- asking again


def test_ten_equal_requests_whose_connections_break_are_ten_jobs_for_ten_retries(slow: Serving) -> None:
    before, prompt = orders(slow), new_prompt()
    with broken_off(slow, prompt, BROKEN), ThreadPoolExecutor(BROKEN) as threads:
        answers = list(threads.map(lambda _: generate(slow, prompt, retry=1), range(BROKEN)))
    assert len(set(jobs_of(*answers))) == BROKEN
    assert orders(slow) - before == BROKEN


def test_same_request_again_gets_the_job_whose_caller_has_hung_up(slow: Serving) -> None:
    before, prompt = orders(slow), new_prompt()
    with broken_off(slow, prompt):
        again = generate(slow, prompt)
    assert again.headers["idempotent-replayed"] == "true"
    assert orders(slow) - before == 1
    other = generate(slow, prompt)
    assert len(set(jobs_of(again, other))) == 2, "its caller was answered: this is another wish"


def test_new_idempotency_key_is_a_new_order(slow: Serving) -> None:
    before, prompt = orders(slow), new_prompt()
    with broken_off(slow, prompt):
        assert "idempotent-replayed" not in generate(slow, prompt, **{"idempotency-key": str(uuid4())}).headers
    assert orders(slow) - before == 2


def test_repeated_request_gets_the_same_answer_after_a_perhaps_bought_end(gateway: Serving) -> None:
    gateway.vendors.control("POST", "/faults", {"vendor": "runflow", "route": "submit", "kind": "reset_after"})
    before, body = orders(gateway), {"prompt": new_prompt(), "provider": {"only": ["runflow-run"]}}
    first, again = (gateway.http.post(IMAGES, json=body) for _ in range(2))
    assert first.status_code == again.status_code >= 400
    assert first.json() == again.json()
    assert again.headers["x-igw-job-id"] == first.headers["x-igw-job-id"]
    assert orders(gateway) - before <= 1
    gateway.vendors.control("DELETE", "/faults")
    assert gateway.http.post(IMAGES, json=body, headers={"idempotency-key": str(uuid4())}).status_code == 200


# --- half of a connection


@pytest.mark.parametrize("pause", [0.0, 0.3, 1.0])
def test_client_that_ends_its_half_is_answered_or_nothing_is_ordered(gateway: Serving, pause: float) -> None:
    gateway.vendors.latency(2.0)
    before = orders(gateway)
    with connected(gateway) as connection:
        connection.sendall(request_of(new_prompt()))
        time.sleep(pause)
        connection.shutdown(socket.SHUT_WR)
        got = to_the_end(connection)
    gateway.come_to_rest()
    if not pause and not got:
        assert orders(gateway) == before
        return
    assert got.startswith(PROBE)
    answer = Answer(got[got.rindex(b"HTTP/1.1 ") :])
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert json.loads(answer.body)["data"]
    assert orders(gateway) == before + 1


@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_client_with_a_key_that_ends_its_half_is_answered(gateway: Serving, pause: float) -> None:
    gateway.vendors.latency(1.5)
    before = orders(gateway)
    with connected(gateway) as connection:
        connection.sendall(request_of(new_prompt(), idempotency_key=str(uuid4())))
        time.sleep(pause)
        connection.shutdown(socket.SHUT_WR)
        got = to_the_end(connection)
    assert Answer(got[got.rindex(b"HTTP/1.1 ") :]).status == 200
    assert orders(gateway) == before + 1


def test_request_whose_connection_ends_during_its_commit_is_not_ordered(gateway: Serving) -> None:
    """The store takes long, here since another process keeps its file."""
    gateway.come_to_rest()
    before, gone, prompt = orders(gateway), left(gateway), new_prompt()
    database = sqlite3.connect(gateway.folder / "data" / "gateway.db", isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    try:
        with connected(gateway) as connection:
            connection.sendall(request_of(prompt))
            time.sleep(0.5)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        time.sleep(0.5)
    finally:
        database.execute("ROLLBACK")
        database.close()
    for _ in within(LET_GO_SECONDS):
        if left(gateway) == gone + 1:
            break
    time.sleep(0.5)
    assert (left(gateway), running(gateway), orders(gateway)) == (gone + 1, 0, before)


def test_old_client_that_ends_its_half_is_answered_without_words_it_does_not_know(gateway: Serving) -> None:
    gateway.vendors.latency(1.0)
    with connected(gateway) as connection:
        connection.sendall(request_of(new_prompt(), POST_IMAGE.replace(b"HTTP/1.1\r\nHost: x\r\n", b"HTTP/1.0\r\n")))
        time.sleep(0.3)
        connection.shutdown(socket.SHUT_WR)
        assert Answer(to_the_end(connection)).status == 200


@pytest.mark.parametrize("linger", [None, 0], ids=["closed", "reset"])
def test_clients_that_have_gone_altogether_are_let_go(slow: Serving, linger: int | None) -> None:
    gone, prompt = left(slow), new_prompt()
    with contextlib.ExitStack() as clients:
        for _ in range(20):
            client = clients.enter_context(connected(slow))
            if linger is not None:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, linger))
            client.sendall(request_of(prompt))
        for _ in within(10):
            if running(slow) == 20:
                break
    for _ in within(LET_GO_SECONDS):
        if left(slow) == gone + 20:
            break
    assert running(slow) == 20, "their jobs go on"


def test_next_request_of_a_connection_whose_half_was_ended_is_not_begun(gateway: Serving) -> None:
    gateway.vendors.latency(1.0)
    before = orders(gateway)
    with connected(gateway) as connection:
        connection.sendall(request_of(new_prompt()) + request_of(new_prompt()))
        time.sleep(0.3)
        connection.shutdown(socket.SHUT_WR)
        got = to_the_end(connection)
    gateway.come_to_rest()
    assert got.count(b"HTTP/1.1 200 ") == 1
    assert orders(gateway) == before + 1


# --- before the order


def test_what_comes_with_its_end_to_a_process_that_stood_still_is_not_ordered(gateway: Serving) -> None:
    """Unless it has a key, by which it is found."""
    before, keys = orders(gateway), [str(uuid4()) for _ in range(5)]
    gateway.process.send_signal(signal.SIGSTOP)
    try:
        for head in (POST_IMAGE, POST_JOB):
            for _ in range(10):
                with connected(gateway) as connection:
                    connection.sendall(request_of("nobody waits", head))
        for key in keys:
            with connected(gateway) as connection:
                connection.sendall(request_of(f"by its key {key}", POST_JOB, Idempotency_Key=key))
    finally:
        gateway.process.send_signal(signal.SIGCONT)
    for _ in within(10):
        if running(gateway) or orders(gateway) > before:
            break
    gateway.come_to_rest()
    assert orders(gateway) == before + len(keys)
    for key in keys:
        headers = {"idempotency-key": key, "content-type": "application/json"}
        again = gateway.http.post(JOBS, content=body_of(f"by its key {key}"), headers=headers)
        assert again.headers["idempotent-replayed"] == "true"
