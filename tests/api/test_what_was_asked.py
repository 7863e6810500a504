"""A job says what was asked, what was planned and what came; answers say for how long their links open."""

import time
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest
from openai.types.images_response import ImagesResponse

from tests.api.answers import IMAGES, JOBS
from tests.serving import Serving

WAITING = {"prefer": "wait=30"}
UNSAID = {"size", "resolution", "aspect_ratio", "quality", "output_format", "background"}
DAY = 86_400


def made(gateway: Serving, **fields: Any) -> dict[str, Any]:
    answer = gateway.http.post(JOBS, json={"prompt": "a lighthouse", **fields}, headers=WAITING)
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = gateway.http.get(f"{JOBS}/{answer.json()['id']}").json()
    assert job == answer.json() | {"images": job["images"], "expires_at": job["expires_at"]}
    return job


def test_job_says_what_was_asked_in_the_teams_own_words(gateway: Serving) -> None:
    job = made(
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


def test_mapped_parameters_are_shown_as_the_client_sent_them(gateway: Serving) -> None:
    job = made(gateway, quality="hd", size="512x512", output_format=" JPG ", provider={"only": ["runflow-runs"]})
    requested = {name: value for name, value in job["requested"].items() if value is not None}
    assert requested == {"quality": "hd", "size": "512x512", "output_format": " JPG "}
    assert (job["effective"]["quality"], job["effective"]["size"]) == ("high", "1024x1024")
    assert {warning.partition(":")[0] for warning in job["warnings"]} == {"quality_mapped", "size_mapped"}


def test_what_was_not_said_and_what_was_left_open_are_null(gateway: Serving) -> None:
    for fields in ({}, dict.fromkeys(UNSAID), {"size": "auto", "quality": "AUTO", "background": "auto"}):
        job = made(gateway, **fields)
        assert job["requested"] == dict.fromkeys(UNSAID)
        assert job["metadata"] == {}


def test_job_shows_its_policy_and_a_plan_with_quotes(gateway: Serving) -> None:
    job = made(gateway, n=2, policy="steady")
    plan, first = job["plan"], job["plan"]["sellers"][0]
    assert (job["policy"], plan["rule"]) == ("steady", None)
    assert (plan["size"], plan["resolution"], plan["quality"], plan["output_format"]) == (
        "1024x1024",
        "1k",
        "high",
        "png",
    )
    assert [one["seller"] for one in plan["sellers"]] == ["runapi", "runflow-runs", "runflow-run"]
    assert (first["quote"], first["fidelity"], first["substitutions"]) == (0.12, "exact", [])
    assert first["seconds"] > 0
    assert made(gateway)["plan"]["rule"] == "default"


def test_unfinished_job_shows_its_parameters_and_plan(gateway: Serving) -> None:
    gateway.vendors.latency(1.0)
    body = {"prompt": "a lighthouse", "metadata": {"a": "b"}, "quality": "low"}
    job = gateway.http.post(JOBS, json=body).json()
    assert (job["effective"], job["expires_at"], job["kept_until"], job["images"]) == (None, None, None, [])
    assert (job["requested"]["quality"], job["metadata"]) == ("low", {"a": "b"})
    assert job["plan"]["sellers"]
    assert job["deadline_at"] - job["created_at"] == 900


def test_quality_without_a_choice_is_not_claimed(gateway: Serving) -> None:
    """It is only believed: neither route repeats it, although it was asked for."""
    asked = {"quality": "high", "provider": {"only": ["runapi"]}}
    job = made(gateway, **asked)
    assert (job["requested"]["quality"], job["effective"]["quality"], job["images"][0]["quality"]) == (
        "high",
        None,
        None,
    )
    said = gateway.http.post(IMAGES, json={"prompt": "a lighthouse"} | asked).json()
    assert "quality" not in said


@pytest.mark.parametrize("quality", ["auto", "low", "medium", "high"])
def test_openais_answer_has_effective_quality_and_background(gateway: Serving, quality: str) -> None:
    asked = {"quality": quality, "provider": {"only": ["runflow-runs"]}, "background": "auto"}
    said = gateway.http.post(IMAGES, json={"prompt": "a lighthouse"} | asked).json()
    answer = ImagesResponse.model_validate(said, strict=True)
    assert answer.quality == ("high" if quality == "auto" else quality)
    assert (answer.background, answer.size, answer.output_format) == ("opaque", "1024x1024", "png")


def test_expiry_is_that_of_the_links_and_they_end_before_the_images_do(gateway: Serving) -> None:
    job = made(gateway, n=2)
    ends = {int(parse_qs(urlsplit(one["url"]).query)["exp"][0]) for one in job["images"]}
    assert ends == {job["expires_at"]}
    assert abs(job["expires_at"] - time.time() - 3_600) < 30
    assert abs(job["kept_until"] - job["finished_at"] - 7 * DAY) < 30


def test_failed_job_has_nothing_that_expires(gateway: Serving) -> None:
    gateway.vendors.fault("refuse_content", times=1)
    job = made(gateway, metadata={"a": "b"})
    assert (job["status"], job["expires_at"], job["effective"]) == ("failed", None, None)
    assert job["kept_until"] > time.time()
    assert job["metadata"] == {"a": "b"}


def test_answers_with_links_are_kept_by_no_cache(gateway: Serving) -> None:
    fields = {"prompt": "a lighthouse", "response_format": "url"}
    generated = gateway.http.post(IMAGES, json=fields)
    job = f"{JOBS}/{generated.headers['x-igw-job-id']}"
    answers: list[httpx.Response] = [generated, gateway.http.get(job), gateway.http.post(JOBS, json={"prompt": "a"})]
    assert {one.headers["cache-control"] for one in answers} == {"no-store"}


def test_prompt_is_in_no_answer_and_no_log(gateway: Serving) -> None:
    prompt = f"a lighthouse {uuid4()}"
    answer = gateway.http.post(JOBS, json={"prompt": prompt}, headers=WAITING)
    assert prompt not in answer.text
    assert prompt not in gateway.http.get(f"{JOBS}/{answer.json()['id']}").text
    assert prompt not in gateway.logged
