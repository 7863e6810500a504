"""Callers who send slowly, or never, or more than there is room for: each is told, and nobody else waits for them."""

import contextlib
import json
import signal
import socket
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.answers import IMAGES, JOBS, JSON, told
from tests.api.impatient import PROMPT_THAT_BREAKS
from tests.api.sockets import POST_IMAGE, POST_JOB, Answer, connected, one_answer, to_the_end, within
from tests.api.test_jobs import made
from tests.serving import Serving, serving

MIB = 1 << 20
CONSTANTS = {
    "gateway.api.receiving.STALL_SECONDS": 1.0,
    "gateway.api.receiving.BODY_SECONDS": 3.0,
    "gateway.api.receiving.ROOM_SECONDS": 0.5,
    "gateway.api.surface.BODIES_BYTES": 8 * MIB,
    "gateway.api.connections.HEAD_SECONDS": 2.0,
    "gateway.api.connections.TAKE_SECONDS": 1.0,
}


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder: Path = tmp_path_factory.mktemp("impatient")
    environ = {"EDGE_CONSTANTS": json.dumps(CONSTANTS)}
    with serving(folder, program="tests.api.impatient", environ=environ) as running:
        running.vendors.latency(0.0)
        yield running


def drip(connection: socket.socket, seconds: float) -> bool:
    """A byte every now and then; whether it was cut off."""
    deadline = time.monotonic() + seconds
    connection.settimeout(0.2)
    while time.monotonic() < deadline:
        try:
            connection.sendall(b" ")
            if connection.recv(1, socket.MSG_PEEK):
                break
        except TimeoutError:
            continue
        except OSError:
            return True
    connection.settimeout(20)
    return False


@pytest.mark.parametrize("head", [POST_JOB, POST_IMAGE])
@pytest.mark.parametrize("framing", [b"Content-Length: 100\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
@pytest.mark.parametrize("begun", [b"", b"1\r\n{\r\n"])
def test_a_body_that_never_arrives_is_408(impatient: Serving, head: bytes, framing: bytes, begun: bytes) -> None:
    with connected(impatient) as connection:
        connection.sendall(head + framing + begun)
        answer = Answer(to_the_end(connection))
    assert answer.status == 408
    assert answer.headers["connection"] == "close"
    assert answer.error["code"] == "body_timeout"
    assert answer.headers["x-request-id"].startswith("req_")
    assert "x-should-retry" not in answer.headers, "nothing was bought"


def test_a_body_that_drips_has_its_time(impatient: Serving) -> None:
    with connected(impatient) as connection:
        began = time.monotonic()
        connection.sendall(POST_JOB + b"Content-Length: 1000000\r\n\r\n")
        drip(connection, 15)
        answer = Answer(to_the_end(connection))
    assert (answer.status, answer.error["code"]) == (408, "body_timeout")
    assert time.monotonic() - began > 2.5


def test_whoever_waits_for_us_is_not_timed(impatient: Serving) -> None:
    """Longer than a body may take."""
    impatient.vendors.latency(4.0)
    try:
        answer = impatient.http.post(JOBS, json={"prompt": "a lighthouse"}, headers={"prefer": "wait=20"})
    finally:
        impatient.vendors.latency(0.0)
    assert answer.json()["status"] == "completed"


@pytest.mark.parametrize(
    "begun",
    [b"GET /livez HTTP/1.1\r\n", b"GET /livez HTTP/1.1\r\nX-Note: a", b"G", b"GET /livez HTTP/1.1\r\nHost: x\r\n"],
)
def test_a_head_that_never_ends_is_408(impatient: Serving, begun: bytes) -> None:
    with connected(impatient) as connection:
        connection.sendall(begun)
        answer = Answer(to_the_end(connection))
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert answer.error["code"] == "head_timeout"
    assert answer.headers["x-request-id"].startswith("req_")


def test_a_head_that_drips_is_408(impatient: Serving) -> None:
    with connected(impatient) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nX-Note: ")
        drip(connection, 15)
        assert Answer(to_the_end(connection)).status == 408


def test_a_second_head_has_the_same_time_as_a_first(impatient: Serving) -> None:
    with connected(impatient) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert one_answer(connection).status == 200
        connection.sendall(b"GET /livez HTTP/1.1\r\nX-Note: ")
        assert Answer(to_the_end(connection)).status == 408


def test_whoever_says_nothing_at_all_is_hung_up_on(impatient: Serving) -> None:
    with connected(impatient) as connection:
        assert to_the_end(connection) == b""


def test_what_is_left_of_a_refused_body_is_not_awaited_for_ever(impatient: Serving) -> None:
    with connected(impatient) as connection:
        connection.sendall(POST_JOB.replace(b"igw_sandbox", b"nobody") + b"Content-Length: 1000000\r\n\r\n")
        assert one_answer(connection).status == 401
        drip(connection, 15)
        connection.settimeout(10)
        with contextlib.suppress(ConnectionError):
            assert connection.recv(100) == b""


def test_bodies_share_a_room_and_whoever_finds_none_is_told_when_to_ask_again(impatient: Serving) -> None:
    """Three of 3 MiB that do not end, in a room of 8."""
    with connected(impatient) as one, connected(impatient) as two, connected(impatient) as three:
        before = impatient.resident_bytes()
        for connection in (one, two):
            connection.sendall(POST_JOB + b"Content-Length: 6000000\r\n\r\n" + b" " * 3 * MIB)
        three.sendall(POST_JOB + b"Content-Length: 6000000\r\n\r\n" + b" " * 3 * MIB)
        answers = [one_answer(connection) for connection in (one, two, three)]
        assert impatient.resident_bytes() - before < 100 * MIB
    refused = [answer for answer in answers if answer.status == 503]
    assert refused, [answer.raw for answer in answers]
    for answer in refused:
        assert answer.error["code"] == "too_many_bodies"
        assert 1 <= int(answer.headers["retry-after"]) <= 120
    assert {answer.status for answer in answers} <= {408, 503}
    # Whatever they held is free again.
    large = b'{"prompt": "' + b"a" * 5 * MIB + b'"}'
    assert impatient.http.post(JOBS, content=large, headers=JSON).status_code == 400


def test_links_take_no_room_from_bodies(impatient: Serving) -> None:
    """What they lead to has a room of its own: a small body that names pictures waits for no large ones."""
    edit = json.dumps({"prompt": "a", "operation": "edit", "image": ["https://a.invalid/a.png"] * 16}).encode()
    with connected(impatient) as large, connected(impatient) as small:
        large.sendall(POST_JOB + b"Content-Length: 6000000\r\n\r\n" + b" " * 3 * MIB)
        time.sleep(0.3)
        small.sendall(POST_JOB + b"Content-Length: %d\r\n\r\n" % len(edit) + edit)
        assert one_answer(small).error["code"] == "invalid_image_url"


def test_a_job_that_is_waited_for_holds_no_room(impatient: Serving) -> None:
    impatient.vendors.latency(3.0)
    image = b64encode(impatient.vendors.sample(512, 512) + b"\0" * (9 * MIB // 2)).decode()
    edit = {"prompt": "a lighthouse", "operation": "edit", "image": {"b64_json": image}, "size": "1024x1024"}
    padded = json.dumps(edit).encode()
    try:
        with connected(impatient) as waiting:
            waiting.sendall(POST_JOB + b"Prefer: wait=20\r\nContent-Length: %d\r\n\r\n" % len(padded) + padded)
            for _ in within(10):
                if impatient.http.get("/readyz").json()["jobs"]:
                    break
            assert impatient.http.post(JOBS, content=padded, headers=JSON).status_code == 202
            assert one_answer(waiting).status == 200
    finally:
        impatient.vendors.latency(0.0)
        impatient.come_to_rest()


def test_an_answer_that_nobody_takes_is_not_kept(impatient: Serving) -> None:
    picture = made(impatient)["images"][0]
    times = 60 * MIB // picture["bytes"]
    path = picture["url"].removeprefix(impatient.url).encode()
    with connected(impatient) as connection:
        connection.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path * times)
        time.sleep(6)
        got = b""
        with contextlib.suppress(ConnectionError):
            while more := connection.recv(MIB):
                got += more
    assert len(got) < 40 * MIB, "what was on its way already"


def test_a_body_that_comes_when_the_process_goes_is_told_so(tmp_path: Path) -> None:
    environ = {"EDGE_CONSTANTS": json.dumps({"gateway.commands.serve.LAST_ANSWERS_SECONDS": 1})}
    with serving(tmp_path, program="tests.api.impatient", environ=environ) as going, connected(going) as connection:
        connection.sendall(POST_JOB + b"Content-Length: 100\r\n\r\n{")
        going.process.send_signal(signal.SIGTERM)
        answer = Answer(to_the_end(connection))
        assert going.process.wait(timeout=30) == 0
    assert (answer.status, answer.error["code"]) == (503, "draining")
    assert answer.headers["x-request-id"].startswith("req_")
    assert 1 <= int(answer.headers["retry-after"]) <= 120


def test_a_fault_of_ours_says_nothing_of_itself(impatient: Serving) -> None:
    for path in (JOBS, IMAGES):
        headers = {"x-request-id": f"broken-{len(path)}"}
        answer = impatient.http.post(path, json={"prompt": PROMPT_THAT_BREAKS}, headers=headers)
        assert answer.status_code == 424, "its progress is unknown, so no client may repeat it automatically"
        assert told(answer)["code"] == "internal_error"
        assert answer.headers["x-should-retry"] == "false"
        assert "canary" not in answer.text
        assert answer.headers["x-request-id"] == headers["x-request-id"]
        for _ in within(10):
            if [line for line in impatient.troubles() if line.get("request") == headers["x-request-id"]]:
                break
    assert "canary" not in impatient.logged
