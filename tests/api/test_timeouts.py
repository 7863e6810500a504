"""Clients that send slowly, never, or more than the memory budget: each gets an error, and no other client waits."""

import contextlib
import json
import signal
import socket
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gateway.api.base64_image_output import STREAM_MEMORY_BYTES
from gateway.timeouts_and_intervals import ApiTiming, Timing
from tests.api.error_responses import IMAGES_PATH, JOBS_PATH, JSON_HEADERS, parse_error
from tests.api.internal_error_injection import FAILING_PROMPT
from tests.api.job_requests import create_finished_job
from tests.api.raw_http import POST_IMAGE, POST_JOB, RawResponse, connect, read_response
from tests.api.stored_jobs import FinishedJob, decode_contents
from tests.harness.child_spec import ChildSpec, Hook
from tests.harness.form_bodies import FORM_CONTENT_TYPE, FORM_HEADERS, make_form, make_part
from tests.harness.gateway_runner import RunningGateway, run_sandboxed_gateway
from tests.harness.raw_sockets import read_until_closed, read_until_closed_or_reset
from tests.harness.timings import change_timing
from tests.harness.wait import wait_for_value, wait_until

MIB = 1 << 20
TIMING = Timing(
    api=ApiTiming(
        body_stall_timeout_seconds=1.0,
        body_timeout_seconds=3.0,
        memory_timeout_seconds=0.5,
        max_total_body_bytes=8 * MIB,
        max_total_upload_bytes=8 * MIB,
        header_timeout_seconds=2.0,
        write_timeout_seconds=1.0,
    )
)


@pytest.fixture(scope="module")
def hasty_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("impatient")
    child = ChildSpec(TIMING, (Hook("tests.api.internal_error_injection:install_internal_error"),))
    with run_sandboxed_gateway(folder, child=child) as running:
        running.sandbox.set_latency(0.0)
        yield running


def send_slowly(connection: socket.socket, seconds: float) -> bool:
    """Sends one byte at a time. Returns whether the connection was closed."""
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


@pytest.mark.one_in(3)
@pytest.mark.parametrize("head", [POST_JOB, POST_IMAGE])
@pytest.mark.parametrize("framing", [b"Content-Length: 100\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
@pytest.mark.parametrize("begun", [b"", b"1\r\n{\r\n"])
def test_body_that_never_arrives_is_408(
    hasty_gateway: RunningGateway, head: bytes, framing: bytes, begun: bytes
) -> None:
    with connect(hasty_gateway) as connection:
        connection.sendall(head + framing + begun)
        answer = RawResponse(read_until_closed(connection))
    assert answer.status == 408
    assert answer.headers["connection"] == "close"
    assert answer.error["code"] == "body_timeout"
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["x-should-retry"] == "true", "nothing was ordered"
    assert answer.headers["retry-after"] == "1"


def test_slowly_sent_body_is_408_after_the_body_timeout(hasty_gateway: RunningGateway) -> None:
    with connect(hasty_gateway) as connection:
        began = time.monotonic()
        connection.sendall(POST_JOB + b"Content-Length: 1000000\r\n\r\n")
        send_slowly(connection, 15)
        answer = RawResponse(read_until_closed(connection))
    assert (answer.status, answer.error["code"]) == (408, "body_timeout")
    assert time.monotonic() - began > 2.5


def test_client_waiting_for_its_job_has_no_body_timeout(hasty_gateway: RunningGateway) -> None:
    """The job takes longer than a body may."""
    hasty_gateway.sandbox.set_latency(4.0)
    try:
        answer = hasty_gateway.http.post(JOBS_PATH, json={"prompt": "a lighthouse"}, headers={"prefer": "wait=20"})
    finally:
        hasty_gateway.sandbox.set_latency(0.0)
    assert answer.json()["status"] == "completed"


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    "begun",
    [b"GET /livez HTTP/1.1\r\n", b"GET /livez HTTP/1.1\r\nX-Note: a", b"G", b"GET /livez HTTP/1.1\r\nHost: x\r\n"],
)
def test_header_that_never_ends_is_408(hasty_gateway: RunningGateway, begun: bytes) -> None:
    with connect(hasty_gateway) as connection:
        connection.sendall(begun)
        answer = RawResponse(read_until_closed(connection))
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert answer.error["code"] == "head_timeout"
    assert answer.headers["x-request-id"].startswith("req_")


def test_slowly_sent_header_is_408(hasty_gateway: RunningGateway) -> None:
    with connect(hasty_gateway) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nX-Note: ")
        send_slowly(connection, 15)
        assert RawResponse(read_until_closed_or_reset(connection)).status == 408


def test_second_request_has_the_same_header_timeout(hasty_gateway: RunningGateway) -> None:
    with connect(hasty_gateway) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_response(connection).status == 200
        connection.sendall(b"GET /livez HTTP/1.1\r\nX-Note: ")
        assert RawResponse(read_until_closed(connection)).status == 408


def test_silent_connection_is_closed(hasty_gateway: RunningGateway) -> None:
    with connect(hasty_gateway) as connection:
        assert read_until_closed(connection) == b""


def test_rest_of_a_rejected_body_is_not_awaited_forever(hasty_gateway: RunningGateway) -> None:
    with connect(hasty_gateway) as connection:
        connection.sendall(POST_JOB.replace(b"igw_sandbox", b"nobody") + b"Content-Length: 1000000\r\n\r\n")
        assert read_response(connection).status == 401
        send_slowly(connection, 15)
        connection.settimeout(10)
        with contextlib.suppress(ConnectionError):
            assert connection.recv(100) == b""


def expect_too_many_bodies(answers: Sequence[RawResponse]) -> None:
    """Some bodies are refused because of the others; those never arrive completely."""
    rejected = [answer for answer in answers if answer.status == 503]
    assert rejected, [answer.raw for answer in answers]
    for answer in rejected:
        assert answer.error["code"] == "too_many_bodies"
        assert 1 <= int(answer.headers["retry-after"]) <= 120
    assert {answer.status for answer in answers} <= {408, 503}


def test_bodies_beyond_the_memory_budget_are_503_with_retry_after(hasty_gateway: RunningGateway) -> None:
    """Three unfinished bodies of 3 MiB with a budget of 8 MiB."""
    with connect(hasty_gateway) as first, connect(hasty_gateway) as second, connect(hasty_gateway) as third:
        before = hasty_gateway.get_resident_bytes()
        for connection in (first, second):
            connection.sendall(POST_JOB + b"Content-Length: 6000000\r\n\r\n" + b" " * 3 * MIB)
        third.sendall(POST_JOB + b"Content-Length: 6000000\r\n\r\n" + b" " * 3 * MIB)
        answers = [read_response(connection) for connection in (first, second, third)]
        assert hasty_gateway.get_resident_bytes() - before < 100 * MIB
    expect_too_many_bodies(answers)
    # Their memory is free again.
    large = b'{"prompt": "' + b"a" * 5 * MIB + b'"}'
    assert hasty_gateway.http.post(JOBS_PATH, content=large, headers=JSON_HEADERS).status_code == 400


def test_uploads_beyond_the_disk_budget_are_503_with_retry_after(hasty_gateway: RunningGateway) -> None:
    """Three unfinished uploads of 5 MiB with a budget of 8 MiB."""
    form = make_form(make_part("image", bytes(6 * MIB), filename="a.png"), make_part("prompt", "a"))
    head = POST_JOB.replace(b"application/json", FORM_CONTENT_TYPE.encode()) + b"Content-Length: %d\r\n\r\n" % len(form)
    with connect(hasty_gateway) as first, connect(hasty_gateway) as second, connect(hasty_gateway) as third:
        connections = (first, second, third)
        for connection in connections:
            connection.sendall(head + form[: 5 * MIB])
        answers = [read_response(connection) for connection in connections]
    expect_too_many_bodies(answers)
    # Their room on the disk is free again.
    answer = hasty_gateway.http.post(JOBS_PATH, content=form, headers=FORM_HEADERS)
    assert parse_error(answer)["code"] == "unsupported_image_media_type"


def test_input_image_urls_use_no_body_memory(hasty_gateway: RunningGateway) -> None:
    """Linked images have their own budget: a small body with image URLs does not wait for large bodies."""
    edit = json.dumps({"prompt": "a", "operation": "edit", "image": ["https://a.invalid/a.png"] * 16}).encode()
    with connect(hasty_gateway) as large, connect(hasty_gateway) as small:
        large.sendall(POST_JOB + b"Content-Length: 6000000\r\n\r\n" + b" " * 3 * MIB)
        time.sleep(0.3)
        small.sendall(POST_JOB + b"Content-Length: %d\r\n\r\n" % len(edit) + edit)
        assert read_response(small).error["code"] == "invalid_image_url"


def test_waiting_client_holds_no_body_memory(hasty_gateway: RunningGateway) -> None:
    hasty_gateway.sandbox.hold_orders()
    image = b64encode(hasty_gateway.sandbox.fetch_sample_image(512, 512) + b"\0" * (9 * MIB // 2)).decode()
    edit = {"prompt": "a lighthouse", "operation": "edit", "image": {"b64_json": image}, "size": "1024x1024"}
    padded = json.dumps(edit).encode()
    try:
        with connect(hasty_gateway) as waiting:
            waiting.sendall(POST_JOB + b"Prefer: wait=20\r\nContent-Length: %d\r\n\r\n" % len(padded) + padded)
            wait_until(lambda: hasty_gateway.http.get("/readyz").json()["jobs"], "the job runs")
            assert hasty_gateway.http.post(JOBS_PATH, content=padded, headers=JSON_HEADERS).status_code == 202
            hasty_gateway.sandbox.release_orders()
            assert read_response(waiting).status == 200
    finally:
        hasty_gateway.sandbox.release_orders()
        hasty_gateway.wait_until_idle()


def test_response_that_is_not_read_is_dropped(hasty_gateway: RunningGateway) -> None:
    image_entry = create_finished_job(hasty_gateway)["images"][0]
    request_count = 60 * MIB // image_entry["bytes"]
    path = image_entry["url"].removeprefix(hasty_gateway.url).encode()
    with connect(hasty_gateway) as connection:
        connection.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path * request_count)
        time.sleep(6)
        received = b""
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(MIB):
                received += chunk
    assert len(received) < 40 * MIB, "more than the socket buffers held"


@pytest.mark.thorough
def test_unfinished_body_at_shutdown_is_503_draining(tmp_path: Path) -> None:
    child = ChildSpec(Timing(api=ApiTiming(shutdown_timeout_seconds=1)))
    with (
        run_sandboxed_gateway(tmp_path, child=child) as gateway,
        connect(gateway) as connection,
    ):
        connection.sendall(POST_JOB + b"Content-Length: 100\r\n\r\n{")
        gateway.process.send_signal(signal.SIGTERM)
        answer = RawResponse(read_until_closed(connection))
        assert gateway.process.wait(timeout=30) == 0
    assert (answer.status, answer.error["code"]) == (503, "draining")
    assert answer.headers["x-request-id"].startswith("req_")
    assert 1 <= int(answer.headers["retry-after"]) <= 120


def wait_for_logged_problem(gateway: RunningGateway, request_id: str) -> None:
    wait_for_value(
        gateway.read_problem_lines,
        lambda lines: request_id in {line.get("request") for line in lines},
        "the problem is logged",
    )


def test_internal_error_reveals_no_details(hasty_gateway: RunningGateway) -> None:
    for path in (JOBS_PATH, IMAGES_PATH):
        headers = {"x-request-id": f"broken-{len(path)}"}
        answer = hasty_gateway.http.post(path, json={"prompt": FAILING_PROMPT}, headers=headers)
        assert answer.status_code == 424, "its progress is unknown, so no client may retry it automatically"
        assert parse_error(answer)["code"] == "internal_error"
        assert answer.headers["x-should-retry"] == "false"
        assert "canary" not in answer.text
        assert answer.headers["x-request-id"] == headers["x-request-id"]
        wait_for_logged_problem(hasty_gateway, headers["x-request-id"])
    assert "canary" not in hasty_gateway.stderr


@pytest.fixture
def patient_gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    """A gateway that waits for clients which do not read their response for longer than a test takes."""
    child = ChildSpec(change_timing(TIMING, api={"write_timeout_seconds": 600.0}))
    with run_sandboxed_gateway(tmp_path, child=child) as running:
        running.sandbox.set_latency(0.0)
        yield running


def test_large_responses_beyond_the_memory_budget_are_503(patient_gateway: RunningGateway) -> None:
    """Three quarters of the budget are for responses. Clients that read nothing hold all of it."""
    job = FinishedJob(patient_gateway, 2, **{"idempotency-key": "beyond-the-budget"})
    contents = job.replace_images(8 * MIB, 8 * MIB)
    max_responses = 6 * MIB // STREAM_MEMORY_BYTES
    with contextlib.ExitStack() as connections:
        for _ in range(max_responses):
            connection = connections.enter_context(job.send_request())
            assert connection.recv(16).startswith(b"HTTP/1.1 200")
        answer = job.repeat_request()
    assert (answer.status_code, parse_error(answer)["code"]) == (503, "images_unavailable")
    assert (answer.headers["x-igw-job-id"], answer.headers["retry-after"]) == (job.id, "2")
    assert decode_contents(job.repeat_request().json()) == contents
