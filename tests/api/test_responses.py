"""Responses over plain HTTP: other paths, large images, disconnects, limits, and what is stored."""

import base64
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from gateway.api.responses_api.response_ids import make_response_id
from tests.api.error_responses import IMAGES_PATH, expect_final_error, parse_error
from tests.api.limited_clients import expect_rate_limit, open_limited_client
from tests.api.raw_http import POST_IMAGE, connect
from tests.api.stored_jobs import FinishedJob
from tests.harness.gateway_runner import RunningGateway
from tests.harness.sample_images import decode_image

PATH = "/v1/responses"
TOOL = {"type": "image_generation", "quality": "low"}
MIB = 1 << 20


def make_body(**fields: Any) -> dict[str, Any]:
    return {"model": "gpt-5", "input": f"a lighthouse {uuid4()}", "tools": [TOOL], **fields}


def read_events(text: str) -> Iterator[dict[str, Any]]:
    for frame in text.split("\n\n"):
        if frame.startswith("event: "):
            name, _, data = frame.partition("\n")
            event = json.loads(data.removeprefix("data: "))
            assert event["type"] == name.removeprefix("event: ")
            yield event


@pytest.mark.parametrize("prefix", ["/v1/responses", "/openai/v1/responses", "/responses"])
def test_every_path_serves_the_same_responses(gateway: RunningGateway, prefix: str) -> None:
    created = gateway.http.post(prefix, json=make_body())
    assert created.status_code == 200
    assert created.headers["cache-control"] == "no-store"
    response_id = created.json()["id"]
    assert created.headers["x-igw-job-id"] == response_id.replace("resp_", "job_")
    fetched = gateway.http.get(f"{prefix}/{response_id}").json()
    assert fetched == created.json()
    assert gateway.http.get(f"{prefix}/{response_id}/input_items").json()["has_more"] is False
    expect_final_error(gateway.http.post(f"{prefix}/{response_id}/cancel"), 409, "job_ended")
    error = expect_final_error(gateway.http.post(prefix, json=make_body(tools=[])), 400, "missing_required_parameter")
    assert error["message"].endswith("You were not charged.")
    assert gateway.http.delete(f"{prefix}/{response_id}").json()["deleted"] is True
    assert parse_error(gateway.http.get(f"{prefix}/{response_id}"))["code"] == "response_not_found"


def test_warnings_are_in_the_body_the_header_and_the_job(gateway: RunningGateway) -> None:
    answer = gateway.http.post(PATH, json=make_body(instructions="Be brief.", temperature=0.2, store=False))
    warnings = answer.json()["warnings"]
    codes = [warning.partition(":")[0] for warning in warnings]
    assert codes == ["model_ignored", "instructions_ignored", "temperature_ignored", "store_ignored"]
    assert answer.headers["x-igw-warnings"].startswith("model_ignored: 'gpt-5' has no effect: no text model runs")
    job = gateway.http.get(f"/v1/jobs/{answer.headers['x-igw-job-id']}").json()
    assert job["warnings"] == warnings


def test_person_who_asks_is_repeated_and_not_stored(gateway: RunningGateway) -> None:
    created = gateway.http.post(PATH, json=make_body(safety_identifier="person-1")).json()
    assert created["safety_identifier"] == "person-1"
    assert gateway.http.get(f"{PATH}/{created['id']}").json()["safety_identifier"] is None


def test_large_images_are_complete_in_bodies_and_in_streams(gateway: RunningGateway) -> None:
    job = FinishedJob(gateway, 2, **{"idempotency-key": str(uuid4())})
    contents = job.replace_images(2 * MIB + 1, MIB)
    path = f"{PATH}/{make_response_id(job.id)}"
    answer = gateway.http.get(path)
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert [base64.b64decode(call["result"]) for call in answer.json()["output"]] == contents
    for starting_after, own_events in ((-1, [0, 1]), (9, [1]), (11, [])):
        query = {"stream": "true"} | ({"starting_after": str(starting_after)} if starting_after >= 0 else {})
        events = list(read_events(gateway.http.get(path, params=query).text))
        assert [event["sequence_number"] for event in events] == list(range(starting_after + 1, 13))
        sent = [event["item"]["result"] for event in events if event["type"] == "response.output_item.done"]
        assert [base64.b64decode(text) for text in sent] == [contents[index] for index in own_events]
        final = events[-1]["response"]["output"]
        assert [base64.b64decode(call["result"]) for call in final] == contents


def test_texts_of_the_client_never_stand_for_an_image(gateway: RunningGateway) -> None:
    """A large image is written into the place of an empty value, which metadata can have, too."""
    metadata = {"result": "", "b64_json": "", ': ""': ' ""'}
    tool = {**TOOL, "size": "3840x2160"}
    answer = gateway.http.post(PATH, json=make_body(metadata=metadata, tools=[tool]))
    assert answer.json()["metadata"] == metadata
    assert decode_image(answer.json()["output"][0]["result"]).size == (3840, 2160)


def test_client_that_disconnects_within_a_stream_loses_nothing(gateway: RunningGateway) -> None:
    gateway.sandbox.hold_orders()
    before = len(gateway.sandbox.list_charges())
    body = json.dumps(make_body(stream=True, background=True)).encode()
    head = POST_IMAGE.replace(IMAGES_PATH.encode(), PATH.encode()) + b"x-stainless-retry-count: 0\r\n"
    with connect(gateway) as connection:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        received = b""
        while b"response.in_progress" not in received:
            received += connection.recv(4096)
        assert received.startswith(b"HTTP/1.1 200")
    gateway.sandbox.release_orders()
    gateway.wait_until_idle()
    headers = {"content-type": "application/json", "x-stainless-retry-count": "1"}
    answer = gateway.http.post(PATH, content=body, headers=headers)
    assert answer.headers["idempotent-replayed"] == "true"
    events = list(read_events(answer.text))
    assert events[-1]["type"] == "response.completed"
    assert events[0]["response"]["id"].encode() in received
    assert len(gateway.sandbox.list_charges()) - before == 1


def test_identical_requests_at_once_are_separate_images(gateway: RunningGateway) -> None:
    before, body = len(gateway.sandbox.list_charges()), make_body(background=True)
    first, second = (gateway.http.post(PATH, json=body).json()["id"] for _ in range(2))
    gateway.wait_until_idle()
    assert first != second
    assert len(gateway.sandbox.list_charges()) - before == 2


def test_images_count_against_the_limits_of_a_key(gateway: RunningGateway) -> None:
    with open_limited_client(gateway, images_per_minute=3) as client:
        tool = {**TOOL, "n": 2}
        answer = client.post(PATH, json=make_body(tools=[tool]))
        assert answer.headers["x-ratelimit-remaining-images"] == "1"
        expect_rate_limit(client.post(PATH, json=make_body(tools=[tool])))
        assert client.get(f"{PATH}/{answer.json()['id']}").status_code == 200


def test_poll_headers_say_when_to_ask_again(gateway: RunningGateway) -> None:
    gateway.sandbox.hold_orders()
    answer = gateway.http.post(PATH, json=make_body(background=True))
    assert answer.json()["status"] in ("queued", "in_progress")
    assert int(answer.headers["openai-poll-after-ms"]) >= 1_000
    gateway.sandbox.release_orders()


def test_image_that_is_gone_is_an_error_of_the_edit(gateway: RunningGateway) -> None:
    job = FinishedJob(gateway, 1, **{"idempotency-key": str(uuid4())})
    job.files[0].unlink()
    answer = gateway.http.post(PATH, json=make_body(previous_response_id=make_response_id(job.id)))
    error = expect_final_error(answer, 410, "image_deleted")
    assert error["message"].endswith("You were not charged.")


INVALID_QUERIES = {
    "stream=true&starting_after=x": "invalid_value",
    "starting_afer=1": "unknown_parameter",
}


@pytest.mark.parametrize("query", INVALID_QUERIES)
def test_invalid_queries_are_named(gateway: RunningGateway, query: str) -> None:
    created = gateway.http.post(PATH, json=make_body()).json()
    expect_final_error(gateway.http.get(f"{PATH}/{created['id']}?{query}"), 400, INVALID_QUERIES[query])


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=a", "application/x-www-form-urlencoded"])
def test_only_json_bodies_are_accepted(gateway: RunningGateway, kind: str) -> None:
    answer = gateway.http.post(PATH, content=b"{}", headers={"content-type": kind})
    expect_final_error(answer, 415, "unsupported_media_type")
