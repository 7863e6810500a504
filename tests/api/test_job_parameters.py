"""A job shows its requested, planned and effective parameters; responses say when their URLs expire."""

import sqlite3
import time
from contextlib import closing
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest
from openai.types.images_response import ImagesResponse

from tests.api.error_responses import IMAGES_PATH, JOBS_PATH
from tests.harness.gateway_runner import RunningGateway

WAIT_HEADERS = {"prefer": "wait=30"}
OPTIONAL_PARAMS = {"size", "resolution", "aspect_ratio", "quality", "output_format", "background"}
DAY_SECONDS = 86_400


def create_and_get_job(gateway: RunningGateway, **fields: Any) -> dict[str, Any]:
    answer = gateway.http.post(JOBS_PATH, json={"prompt": "a lighthouse", **fields}, headers=WAIT_HEADERS)
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = gateway.http.get(f"{JOBS_PATH}/{answer.json()['id']}").json()
    assert job == answer.json() | {"images": job["images"], "expires_at": job["expires_at"]}
    return job


def test_job_shows_requested_and_effective_parameters(gateway: RunningGateway) -> None:
    job = create_and_get_job(
        gateway,
        resolution="2K",
        aspect_ratio="16:9",
        quality="LOW",
        output_format="jpg",
        background="opaque",
        metadata={"campaign": "spring"},
        provider={"only": ["runflow-runs"]},
    )
    assert job["operation"] == "generate"
    assert job["metadata"] == {"campaign": "spring"}
    assert job["requested"] == {
        "size": None,
        "resolution": "2K",
        "aspect_ratio": "16:9",
        "quality": "LOW",
        "output_format": "jpg",
        "background": "opaque",
    }
    assert job["effective"] == {
        "size": "2048x1152",
        "resolution": "2k",
        "aspect_ratio": "16:9",
        "quality": "low",
        "output_format": "jpeg",
        "background": "opaque",
    }


def test_mapped_parameters_are_shown_as_the_client_sent_them(gateway: RunningGateway) -> None:
    job = create_and_get_job(
        gateway, quality="hd", size="512x512", output_format=" JPG ", provider={"only": ["runflow-runs"]}
    )
    requested = {name: value for name, value in job["requested"].items() if value is not None}
    assert requested == {"quality": "hd", "size": "512x512", "output_format": " JPG "}
    assert (job["effective"]["quality"], job["effective"]["size"]) == ("high", "1024x1024")
    assert {warning.partition(":")[0] for warning in job["warnings"]} == {"quality_mapped", "size_mapped"}


def test_omitted_and_auto_parameters_are_null(gateway: RunningGateway) -> None:
    for fields in ({}, dict.fromkeys(OPTIONAL_PARAMS), {"size": "auto", "quality": "AUTO", "background": "auto"}):
        job = create_and_get_job(gateway, **fields)
        assert job["requested"] == dict.fromkeys(OPTIONAL_PARAMS)
        assert job["metadata"] == {}


def test_job_shows_its_policy_and_its_plan_with_quotes(gateway: RunningGateway) -> None:
    job = create_and_get_job(gateway, n=2, policy="steady")
    plan, first_seller = job["plan"], job["plan"]["sellers"][0]
    assert (job["policy"], plan["rule"]) == ("steady", None)
    assert (plan["size"], plan["resolution"], plan["quality"], plan["output_format"]) == (
        "1024x1024",
        "1k",
        "high",
        "png",
    )
    assert [entry["seller"] for entry in plan["sellers"]] == ["runapi", "runflow-runs", "runflow-run"]
    assert (first_seller["quote"], first_seller["fidelity"], first_seller["substitutions"]) == (0.12, "exact", [])
    assert first_seller["seconds"] > 0
    assert create_and_get_job(gateway)["plan"]["rule"] == "default"


def test_job_whose_decision_record_has_expired_shows_no_plan(gateway: RunningGateway) -> None:
    job_id = create_and_get_job(gateway)["id"]
    with closing(sqlite3.connect(gateway.folder / "data" / "gateway.db")) as database, database:
        database.execute("DELETE FROM decision_records WHERE job_id = ?", (job_id,))
    job = gateway.http.get(f"{JOBS_PATH}/{job_id}").json()
    assert (job["policy"], job["plan"], job["status"]) == (None, None, "completed")


def test_unfinished_job_shows_its_parameters_and_plan(gateway: RunningGateway) -> None:
    gateway.sandbox.hold_orders()
    body = {"prompt": "a lighthouse", "metadata": {"a": "b"}, "quality": "low"}
    job = gateway.http.post(JOBS_PATH, json=body).json()
    assert (job["effective"], job["expires_at"], job["kept_until"], job["images"]) == (None, None, None, [])
    assert (job["requested"]["quality"], job["metadata"]) == ("low", {"a": "b"})
    assert job["plan"]["sellers"]
    assert job["deadline_at"] - job["created_at"] == 900


def test_quality_that_cannot_be_selected_is_not_reported(gateway: RunningGateway) -> None:
    """The quality is only assumed: neither route reports it, although it was requested."""
    params = {"quality": "high", "provider": {"only": ["runapi"]}}
    job = create_and_get_job(gateway, **params)
    assert (job["requested"]["quality"], job["effective"]["quality"], job["images"][0]["quality"]) == (
        "high",
        None,
        None,
    )
    body = gateway.http.post(IMAGES_PATH, json={"prompt": "a lighthouse"} | params).json()
    assert "quality" not in body


@pytest.mark.parametrize("quality", ["auto", "low", "medium", "high"])
def test_openai_response_has_effective_quality_and_background(gateway: RunningGateway, quality: str) -> None:
    params = {"quality": quality, "provider": {"only": ["runflow-runs"]}, "background": "auto"}
    body = gateway.http.post(IMAGES_PATH, json={"prompt": "a lighthouse"} | params).json()
    answer = ImagesResponse.model_validate(body, strict=True)
    assert answer.quality == ("high" if quality == "auto" else quality)
    assert (answer.background, answer.size, answer.output_format) == ("opaque", "1024x1024", "png")


def test_job_expiry_is_that_of_its_urls_and_before_image_deletion(gateway: RunningGateway) -> None:
    job = create_and_get_job(gateway, n=2)
    ends = {int(parse_qs(urlsplit(image["url"]).query)["exp"][0]) for image in job["images"]}
    assert ends == {job["expires_at"]}
    assert abs(job["expires_at"] - time.time() - 3_600) < 30
    assert abs(job["kept_until"] - job["finished_at"] - 7 * DAY_SECONDS) < 30


def test_failed_job_has_no_expiry(gateway: RunningGateway) -> None:
    gateway.sandbox.inject_fault("refuse_content", times=1)
    job = create_and_get_job(gateway, metadata={"a": "b"})
    assert (job["status"], job["expires_at"], job["effective"]) == ("failed", None, None)
    assert job["kept_until"] > time.time()
    assert job["metadata"] == {"a": "b"}


def test_responses_with_urls_must_not_be_cached(gateway: RunningGateway) -> None:
    fields = {"prompt": "a lighthouse", "response_format": "url"}
    generated = gateway.http.post(IMAGES_PATH, json=fields)
    job = f"{JOBS_PATH}/{generated.headers['x-igw-job-id']}"
    answers: list[httpx.Response] = [
        generated,
        gateway.http.get(job),
        gateway.http.post(JOBS_PATH, json={"prompt": "a"}),
    ]
    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}


def test_prompt_is_in_no_response_and_no_log(gateway: RunningGateway) -> None:
    prompt = f"a lighthouse {uuid4()}"
    answer = gateway.http.post(JOBS_PATH, json={"prompt": prompt}, headers=WAIT_HEADERS)
    assert prompt not in answer.text
    assert prompt not in gateway.http.get(f"{JOBS_PATH}/{answer.json()['id']}").text
    assert prompt not in gateway.stderr


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
def test_output_compression_makes_smaller_images_of_the_same_size(gateway: RunningGateway, output_format: str) -> None:
    params = {"output_format": output_format, "provider": {"only": ["runflow-runs"]}}
    images = [
        create_and_get_job(gateway, **params, **compression)["images"][0]
        for compression in ({}, {"output_compression": 100}, {"output_compression": 20}, {"output_compression": 0})
    ]
    assert {(image["output_format"], image["size"]) for image in images} == {(output_format, "1024x1024")}
    default, full, strong, strongest = (image["bytes"] for image in images)
    assert default == full
    assert strongest < strong < full
