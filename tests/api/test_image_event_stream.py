"""Streams of images as server-sent events: heartbeats, errors before and after the status line, large images."""

import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from gateway.timeouts_and_intervals import ApiTiming, Timing
from tests.api.error_responses import IMAGES_PATH, expect_final_error, parse_error
from tests.api.stored_jobs import FinishedJob
from tests.harness.child_spec import ChildSpec
from tests.harness.gateway_runner import RunningGateway, run_sandboxed_gateway
from tests.harness.raw_sockets import read_until_closed_or_reset
from tests.harness.sample_images import decode_image
from tests.harness.wait import wait_for_value

MIB = 1 << 20
HEARTBEAT_SECONDS = 0.5
BODY = {"prompt": "a lighthouse", "stream": True}
ONE_SELLER = {"provider": {"only": ["runapi"]}}


@pytest.fixture(scope="module")
def lively_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway whose streams have frequent heartbeats, and which waits for a job for few seconds."""
    folder: Path = tmp_path_factory.mktemp("event_streams")
    timing = Timing(api=ApiTiming(heartbeat_interval_seconds=HEARTBEAT_SECONDS, job_wait_timeout_seconds=6.0))
    with run_sandboxed_gateway(folder, child=ChildSpec(timing)) as running:
        running.sandbox.set_latency(0.0)
        yield running


@pytest.fixture
def gateway(lively_gateway: RunningGateway) -> Iterator[RunningGateway]:
    yield lively_gateway
    lively_gateway.sandbox.call_control_route("DELETE", "/faults")
    lively_gateway.sandbox.release_orders()
    lively_gateway.wait_until_idle()


def parse_events(text: str) -> list[dict[str, Any]]:
    """Parses the frames, which end with an empty line each, and skips comments."""
    frames = [frame for frame in text.split("\n\n") if frame and frame != ": ping"]
    events = []
    for frame in frames:
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    assert not frames or text.endswith("\n\n")
    return events


def read_after_hold(gateway: RunningGateway, response: httpx.Response) -> str:
    """Reads the first heartbeat, lets the held orders go on, and reads the rest of the stream."""
    assert response.status_code == 200, response.read()
    chunks = response.iter_text()
    first = next(chunks)
    assert first.startswith(": ping\n\n")
    gateway.sandbox.release_orders()
    return first + "".join(chunks)


def test_stream_has_one_completed_event_for_each_image(gateway: RunningGateway) -> None:
    body = BODY | {"n": 3, "quality": "low", "output_format": "webp", "size": "1536x1024", "user": "someone"}
    answer = gateway.http.post(IMAGES_PATH, json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "no-cache" in answer.headers["cache-control"]
    assert answer.headers["x-accel-buffering"] == "no"
    events = parse_events(answer.text)
    assert [event["type"] for event in events] == ["image_generation.completed"] * 3
    assert len({event["b64_json"] for event in events}) == 3
    assert {decode_image(event["b64_json"]).format for event in events} == {"WEBP"}
    keys = ("size", "quality", "background", "output_format", "safety_identifier")
    assert {tuple(event[key] for key in keys) for event in events} == {
        ("1536x1024", "low", "opaque", "webp", "someone")
    }
    job = gateway.http.get(f"/v1/jobs/{answer.headers['x-igw-job-id']}").json()
    assert {event["created_at"] for event in events} == {job["created_at"]}
    assert sum(round(event["usage"]["cost"] * 1e6) for event in events) == round(job["usage"]["cost"] * 1e6) > 0


def test_unknown_values_of_an_event_are_words_of_openai(gateway: RunningGateway) -> None:
    """The seller offers no choice of the quality, and reports no tokens."""
    [event] = parse_events(gateway.http.post(IMAGES_PATH, json=BODY | ONE_SELLER).text)
    assert event["quality"] == "auto"
    assert event["usage"]["total_tokens"] == 0
    assert set(event["usage"]["input_tokens_details"]) == {"text_tokens", "image_tokens"}


def test_stream_contains_urls_on_request(gateway: RunningGateway) -> None:
    [event] = parse_events(gateway.http.post(IMAGES_PATH, json=BODY | {"response_format": "url"}).text)
    assert "b64_json" not in event
    assert httpx.get(event["url"], trust_env=False).content.startswith(b"\x89PNG")


def test_warnings_are_in_the_events_and_the_headers(gateway: RunningGateway) -> None:
    answer = gateway.http.post(IMAGES_PATH, json=BODY | {"partial_images": 2})
    [event] = parse_events(answer.text)
    assert [warning for warning in event["warnings"] if "partial_images" in warning]
    assert "partial_images" in answer.headers["x-igw-warnings"]


def test_running_job_sends_heartbeats_until_its_images(gateway: RunningGateway) -> None:
    gateway.sandbox.hold_orders()
    with gateway.http.stream("POST", IMAGES_PATH, json=BODY | {"n": 2}) as response:
        assert response.headers["x-igw-job-id"].startswith("job_")
        chunks = response.iter_text()
        text, started_at = "", time.monotonic()
        while text.count(": ping\n\n") < 3:
            text += next(chunks)
        assert time.monotonic() - started_at > HEARTBEAT_SECONDS
        gateway.sandbox.release_orders()
        text += "".join(chunks)
    assert [event["type"] for event in parse_events(text)] == ["image_generation.completed"] * 2


def test_job_that_fails_at_once_is_a_normal_error(gateway: RunningGateway) -> None:
    gateway.sandbox.inject_fault("refuse_content", times=1)
    error = expect_final_error(gateway.http.post(IMAGES_PATH, json=BODY), 400, "moderation_blocked")
    assert error["type"] == "image_generation_user_error"


def test_sellers_that_are_unavailable_are_a_normal_error_that_is_retried(gateway: RunningGateway) -> None:
    gateway.sandbox.inject_fault("status", status=503)
    answer = gateway.http.post(IMAGES_PATH, json=BODY | ONE_SELLER)
    assert (answer.status_code, parse_error(answer)["code"]) == (503, "sellers_unavailable")
    assert answer.headers["x-should-retry"] == "true"
    assert 1 <= int(answer.headers["retry-after"]) <= 120


@pytest.mark.parametrize("wrong", [{"n": 11}, {"size": "17x17"}, {"model": "no"}, {"max_price": "0.001"}])
def test_mistake_in_a_streamed_request_is_a_normal_error(gateway: RunningGateway, wrong: dict[str, Any]) -> None:
    answer = gateway.http.post(IMAGES_PATH, json=BODY | wrong)
    assert answer.status_code in (400, 404)
    assert parse_error(answer)["code"]


def test_job_that_fails_later_is_an_error_event(gateway: RunningGateway) -> None:
    gateway.sandbox.hold_orders()
    gateway.sandbox.inject_fault("fail")
    with gateway.http.stream("POST", IMAGES_PATH, json=BODY | ONE_SELLER) as response:
        [event] = parse_events(read_after_hold(gateway, response))
    assert (event["type"], event["error"]["code"]) == ("error", "sellers_failed")
    assert set(event["error"]) == {"message", "type", "param", "code"}
    assert event["error"]["message"].endswith("You were not charged.")


@pytest.mark.thorough
def test_job_that_takes_too_long_is_an_error_event_that_names_the_job(gateway: RunningGateway) -> None:
    """Its prompt is its own: an equal request would get the job, which no client has received."""
    gateway.sandbox.hold_orders()
    answer = gateway.http.post(IMAGES_PATH, json=BODY | {"prompt": f"a lighthouse {uuid4()}"})
    [event] = parse_events(answer.text)
    assert event["error"]["code"] == "still_running"
    assert "The job continues" in event["error"]["message"]
    gateway.sandbox.release_orders()
    job = gateway.http.get(f"/v1/jobs/{answer.headers['x-igw-job-id']}?wait=30").json()
    assert job["status"] == "completed"


def test_repeated_request_streams_the_same_images(gateway: RunningGateway) -> None:
    headers = {"idempotency-key": str(uuid4())}
    first, second = (gateway.http.post(IMAGES_PATH, json=BODY, headers=headers) for _ in range(2))
    assert second.headers["idempotent-replayed"] == "true"
    assert parse_events(first.text) == parse_events(second.text)


def test_client_that_disconnects_changes_nothing(gateway: RunningGateway) -> None:
    before = len(gateway.sandbox.list_charges())
    gateway.sandbox.hold_orders()
    body = BODY | {"prompt": f"a lighthouse {uuid4()}"}
    with gateway.http.stream("POST", IMAGES_PATH, json=body, headers={"x-stainless-retry-count": "0"}) as response:
        job_id = response.headers["x-igw-job-id"]
        assert next(response.iter_text()).startswith(": ping")
    gateway.sandbox.release_orders()
    answer = gateway.http.post(IMAGES_PATH, json=body, headers={"x-stainless-retry-count": "1"})
    assert (answer.headers["x-igw-job-id"], answer.headers["idempotent-replayed"]) == (job_id, "true")
    assert len(parse_events(answer.text)) == 1
    assert len(gateway.sandbox.list_charges()) == before + 1


class LargeStream(FinishedJob):
    """A finished job with large images, whose request asks for a stream."""

    def __init__(self, gateway: RunningGateway, n: int) -> None:
        super().__init__(gateway, n, stream=True, **{"idempotency-key": str(uuid4())})


@pytest.mark.parametrize("remainder", [0, 1, 2])
def test_large_images_are_streamed_completely(gateway: RunningGateway, remainder: int) -> None:
    job = LargeStream(gateway, 2)
    contents = job.replace_images(3 * 500_000 + remainder, 1 + remainder)
    events = parse_events(job.repeat_request().text)
    assert [base64.b64decode(event["b64_json"], validate=True) for event in events] == contents
    assert {event["size"] for event in events} == {"3840x2160"}


def test_slow_readers_of_streams_hold_little_memory(gateway: RunningGateway) -> None:
    job = LargeStream(gateway, 2)
    contents = job.replace_images(8 * MIB, 8 * MIB)
    before = gateway.get_resident_bytes()
    connections = [job.send_request() for _ in range(8)]
    assert all(connection.recv(16).startswith(b"HTTP/1.1 200") for connection in connections)
    events = parse_events(job.repeat_request().text)
    assert [base64.b64decode(event["b64_json"]) for event in events] == contents
    assert gateway.get_resident_bytes() - before < 60 * MIB
    for connection in connections:
        connection.close()


def test_image_that_expired_is_a_normal_error(gateway: RunningGateway) -> None:
    job = LargeStream(gateway, 2)
    job.files[1].unlink()
    expect_final_error(job.repeat_request(), 410, "image_deleted")


def test_storage_failure_within_an_image_aborts_the_stream(gateway: RunningGateway) -> None:
    job = LargeStream(gateway, 1)
    job.replace_images(8 * MIB)
    with job.send_request() as connection:
        start = connection.recv(4096)
        assert start.startswith(b"HTTP/1.1 200")
        os.truncate(job.files[0], 2 * MIB)
        received = start + read_until_closed_or_reset(connection)
    assert not received.endswith(b"0\r\n\r\n"), "the client takes the stream for complete"
    wait_for_value(gateway.read_problem_lines, lambda lines: "ended after" in str(lines), "the failure is logged")
