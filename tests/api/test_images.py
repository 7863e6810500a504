"""OpenAI's Images API in plain JSON: never 202, base64 unless links are asked for, errors in its envelope."""

import time

import httpx
import pytest

from tests.api.answers import IMAGES, JOBS, refused, told
from tests.clients.pictures import opened
from tests.serving import Serving

PROMPT = {"prompt": "a lighthouse"}


def test_pictures_come_as_base64(gateway: Serving) -> None:
    answer = gateway.http.post(IMAGES, json=PROMPT | {"n": 2, "size": "1536x1024"})
    said = answer.json()
    assert answer.status_code == 200
    assert [opened(one["b64_json"]).size for one in said["data"]] == [tuple(map(int, said["size"].split("x")))] * 2
    assert abs(said["created"] - time.time()) < 60
    assert (said["output_format"], said["usage"]["cost"]) == ("png", 0.12)
    assert answer.headers["x-igw-seller"] == "runapi"
    assert answer.headers["x-igw-cost-usd"] == "0.12"
    assert int(answer.headers["x-igw-overhead-ms"]) < 5_000
    job = gateway.http.get(f"{JOBS}/{answer.headers['x-igw-job-id']}").json()
    assert job["status"] == "completed"


def test_links_come_where_they_are_asked_for(gateway: Serving) -> None:
    said = gateway.http.post(IMAGES, json=PROMPT | {"response_format": "url"}).json()
    assert set(said["data"][0]) == {"url"}
    assert httpx.get(said["data"][0]["url"], trust_env=False).headers["content-type"] == "image/png"


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_the_format_is_the_one_asked_for_whoever_sells(gateway: Serving, kind: str) -> None:
    said = gateway.http.post(IMAGES, json=PROMPT | {"output_format": kind}).json()
    assert said["output_format"] == kind
    assert opened(said["data"][0]["b64_json"]).format == kind.upper()


def test_a_quality_that_could_not_be_chosen_is_warned_of(gateway: Serving) -> None:
    fields = {"quality": "high", "provider": {"only": ["runapi"]}}
    assert "quality_not_selectable" in str(gateway.http.post(IMAGES, json=PROMPT | fields).json()["warnings"])


def test_nulls_and_streams_that_are_not_wanted(gateway: Serving) -> None:
    names = "n size quality background output_format output_compression moderation stream partial_images"
    nulls = dict.fromkeys([*names.split(), "response_format", "style", "safety_identifier", "frame_count", "svg"])
    assert gateway.http.post(IMAGES, json=PROMPT | nulls).status_code == 200
    assert gateway.http.post(IMAGES, json=PROMPT | {"stream": False}).status_code == 200
    error = refused(gateway.http.post(IMAGES, json=PROMPT | {"stream": True}), 400)
    assert (error["param"], error["message"]) == ("stream", "Invalid value for 'stream': must be false.")


def test_a_refusal_for_content_is_openais_own(gateway: Serving) -> None:
    gateway.vendors.fault("refuse_content", times=1)
    error = refused(gateway.http.post(IMAGES, json=PROMPT), 400, "moderation_blocked")
    assert error["type"] == "image_generation_user_error"


def test_nobody_who_can_sell_is_a_final_424_that_names_the_job(gateway: Serving) -> None:
    gateway.vendors.fault("fail")
    answer = gateway.http.post(IMAGES, json=PROMPT | {"provider": {"only": ["runapi"]}})
    gateway.vendors.control("DELETE", "/faults")
    assert answer.status_code == 424, answer.text
    error = told(answer)
    assert (error["type"], error["code"]) == ("server_error", "sellers_failed")
    assert "not charged" in error["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-igw-job-id"].startswith("job_")


def test_a_lost_answer_is_never_bought_again_and_told_as_final(gateway: Serving) -> None:
    before = len(gateway.vendors.charges())
    gateway.vendors.fault("reset_after", vendor="runflow", times=1)
    answer = gateway.http.post(IMAGES, json=PROMPT | {"provider": {"only": ["runflow-run"]}}, timeout=60)
    assert len(gateway.vendors.charges()) - before == 1
    if answer.status_code != 200:
        assert answer.headers["x-should-retry"] == "false"
        assert (answer.status_code, told(answer)["code"]) == (424, "outcome_unknown")
