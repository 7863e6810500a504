"""OpenAI's Images API: never 202, base64 unless URLs are requested, errors in OpenAI's format."""

import time

import httpx
import pytest

from tests.api.error_responses import IMAGES_PATH, JOBS_PATH, expect_final_error, parse_error
from tests.harness.gateway_runner import RunningGateway
from tests.harness.sample_images import decode_image

BODY = {"prompt": "a lighthouse"}


def test_images_are_returned_as_base64(gateway: RunningGateway) -> None:
    answer = gateway.http.post(IMAGES_PATH, json=BODY | {"n": 2, "size": "1536x1024"})
    body = answer.json()
    assert answer.status_code == 200
    assert [decode_image(image["b64_json"]).size for image in body["data"]] == [
        tuple(map(int, body["size"].split("x")))
    ] * 2
    assert abs(body["created"] - time.time()) < 60
    assert (body["output_format"], body["usage"]["cost"]) == ("png", 0.12)
    assert answer.headers["x-igw-seller"] == "runapi"
    assert answer.headers["x-igw-cost-usd"] == "0.12"
    assert int(answer.headers["x-igw-overhead-ms"]) < 5_000
    job = gateway.http.get(f"{JOBS_PATH}/{answer.headers['x-igw-job-id']}").json()
    assert job["status"] == "completed"


def test_images_are_returned_as_urls_on_request(gateway: RunningGateway) -> None:
    body = gateway.http.post(IMAGES_PATH, json=BODY | {"response_format": "url"}).json()
    assert set(body["data"][0]) == {"url"}
    assert httpx.get(body["data"][0]["url"], trust_env=False).headers["content-type"] == "image/png"


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_images_have_the_requested_output_format(gateway: RunningGateway, kind: str) -> None:
    body = gateway.http.post(IMAGES_PATH, json=BODY | {"output_format": kind}).json()
    assert body["output_format"] == kind
    assert decode_image(body["data"][0]["b64_json"]).format == kind.upper()


def test_quality_that_cannot_be_selected_causes_a_warning(gateway: RunningGateway) -> None:
    fields = {"quality": "high", "provider": {"only": ["runapi"]}}
    assert "quality_not_selectable" in str(gateway.http.post(IMAGES_PATH, json=BODY | fields).json()["warnings"])


def test_null_fields_and_stream_false_are_accepted(gateway: RunningGateway) -> None:
    names = "n size quality background output_format output_compression moderation stream partial_images"
    nulls = dict.fromkeys([*names.split(), "response_format", "style", "safety_identifier", "frame_count", "svg"])
    assert gateway.http.post(IMAGES_PATH, json=BODY | nulls).status_code == 200
    assert gateway.http.post(IMAGES_PATH, json=BODY | {"stream": False}).status_code == 200


def test_content_refusal_has_the_error_of_openai(gateway: RunningGateway) -> None:
    gateway.sandbox.inject_fault("refuse_content", times=1)
    error = expect_final_error(gateway.http.post(IMAGES_PATH, json=BODY), 400, "moderation_blocked")
    assert error["type"] == "image_generation_user_error"


def test_failure_of_all_sellers_is_a_final_424_with_the_job_id(gateway: RunningGateway) -> None:
    gateway.sandbox.inject_fault("fail")
    answer = gateway.http.post(IMAGES_PATH, json=BODY | {"provider": {"only": ["runapi"]}})
    gateway.sandbox.call_control_route("DELETE", "/faults")
    assert answer.status_code == 424, answer.text
    error = parse_error(answer)
    assert (error["type"], error["code"]) == ("server_error", "sellers_failed")
    assert "not charged" in error["message"]
    assert answer.headers["x-should-retry"] == "false"
    job_id = answer.headers["x-igw-job-id"]
    assert f"GET /v1/jobs/{job_id} shows what each seller said." in error["message"], "SDKs show no headers"
    assert gateway.http.get(f"{JOBS_PATH}/{job_id}").json()["attempts"]


def test_lost_response_is_not_reordered_and_is_final(gateway: RunningGateway) -> None:
    before = len(gateway.sandbox.list_charges())
    gateway.sandbox.inject_fault("reset_after", vendor="runflow", times=1)
    answer = gateway.http.post(IMAGES_PATH, json=BODY | {"provider": {"only": ["runflow-run"]}}, timeout=60)
    assert len(gateway.sandbox.list_charges()) - before == 1
    if answer.status_code != 200:
        assert answer.headers["x-should-retry"] == "false"
        assert (answer.status_code, parse_error(answer)["code"]) == (424, "outcome_unknown")
