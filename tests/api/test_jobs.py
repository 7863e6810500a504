"""Jobs: accepted at once or waited for, asked about later, the same for their own team and nothing for others."""

import time
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.api.answers import JOBS, refused
from tests.serving import Serving

PROMPT = {"prompt": "a lighthouse"}
SHOWN = {
    *("id", "object", "operation", "status", "model", "created_at", "finished_at", "deadline_at", "expires_at"),
    *("kept_until", "n", "requested", "effective", "images", "usage", "warnings", "error", "policy", "plan"),
    *("attempts", "metadata"),
}


def made(gateway: Serving, **fields: Any) -> dict[str, Any]:
    answer = gateway.http.post(JOBS, json=PROMPT | fields, headers={"prefer": "wait=30"})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_job_is_accepted_before_it_is_done_and_can_be_waited_for(gateway: Serving) -> None:
    gateway.vendors.latency(1.0)
    began = time.monotonic()
    accepted = gateway.http.post(JOBS, json=PROMPT)
    assert time.monotonic() - began < 0.9
    job = accepted.json()
    assert (accepted.status_code, job["object"]) == (202, "job")
    assert job["status"] in ("queued", "in_progress")
    assert (job["images"], job["error"], job["finished_at"]) == ([], None, None)
    assert accepted.headers["location"] == f"{JOBS}/{job['id']}"
    assert accepted.headers["x-igw-job-id"] == job["id"]
    assert 1 <= int(accepted.headers["retry-after"]) <= 120
    asked = gateway.http.get(accepted.headers["location"]).json()
    assert asked["id"] == job["id"]
    assert asked["status"] in ("queued", "in_progress")
    done = gateway.http.get(accepted.headers["location"], params={"wait": 30})
    assert (done.status_code, done.json()["status"]) == (200, "completed")
    assert "retry-after" not in done.headers


def test_prefer_wait_answers_with_the_result(gateway: Serving) -> None:
    answer = gateway.http.post(JOBS, json=PROMPT | {"n": 2, "size": "1536x1024"}, headers={"prefer": "wait=30"})
    job = answer.json()
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=30"
    assert set(job) == SHOWN
    assert (job["status"], job["n"], job["usage"]["cost"]) == ("completed", 2, 0.12)
    assert [picture["index"] for picture in job["images"]] == [0, 1]
    assert answer.headers["x-igw-seller"] == "runapi"
    assert answer.headers["x-igw-cost-usd"] == "0.12"
    assert answer.headers["x-igw-attempts"] == str(len(job["attempts"]))
    assert len(gateway.vendors.charges()) >= 2


def test_a_wait_that_is_too_short_is_no_error(gateway: Serving) -> None:
    gateway.vendors.latency(2.0)
    answer = gateway.http.post(JOBS, json=PROMPT, headers={"prefer": "wait=1"})
    assert answer.status_code == 202
    assert answer.json()["status"] == "in_progress"
    again = gateway.http.get(answer.headers["location"], params={"wait": 0})
    assert again.status_code == 200


@pytest.mark.parametrize(
    "prefer", ["respond-async", "wait", "wait=abc", "wait=-1", "waits=5", "handling=lenient", "=,;"]
)
def test_other_preferences_are_not_ours_and_do_not_hurt(gateway: Serving, prefer: str) -> None:
    gateway.vendors.latency(0.3)
    answer = gateway.http.post(JOBS, json=PROMPT, headers={"prefer": prefer})
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers


def test_preferences_in_several_lines_are_one_list(gateway: Serving) -> None:
    gateway.vendors.latency(0.3)
    lines = [("prefer", "respond-async"), ("prefer", "wait=30"), ("prefer", "wait=0")]
    answer = gateway.http.post(JOBS, json=PROMPT, headers=lines)
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=30")


def test_every_optional_field_may_be_null(gateway: Serving) -> None:
    names = (
        "model n size quality output_format background moderation user safety_identifier resolution aspect_ratio "
        "policy max_price max_cost max_seconds provider metadata operation image images mask webhook stream"
    )
    assert made(gateway, **dict.fromkeys(names.split()))["status"] == "completed"
    assert made(gateway, provider={"only": None, "ignore": None})["status"] == "completed"


@pytest.mark.parametrize(("given", "is_warned"), [("url", False), (None, False), ("b64_json", True)])
def test_the_images_of_a_job_are_links_whatever_form_is_asked_for(
    gateway: Serving, given: str | None, is_warned: bool
) -> None:
    """As clients of OpenAI's API ask, most of them without thinking of it."""
    job = made(gateway, response_format=given)
    assert [list(image) for image in job["images"]] == [list(image) for image in made(gateway)["images"]]
    assert job["images"][0]["url"].startswith(f"{gateway.url}/files/")
    warning = "response_format_ignored: 'b64_json' has no effect: the images of a job are links"
    assert (warning in job["warnings"]) == is_warned


def test_all_that_may_be_asked_for_at_once(gateway: Serving) -> None:
    job = made(
        gateway,
        model="gpt-image-2",
        n=1,
        resolution="2K",
        aspect_ratio="16:9",
        quality="high",
        output_format="webp",
        policy="steady",
        max_price=0.14,
        max_cost="0.50",
        max_seconds=600,
        provider={"only": ["runapi", "runflow-runs"], "ignore": ["runflow-run"]},
        metadata={"campaign": "spring"},
        user="u-1",
    )
    assert job["images"][0]["output_format"] == "webp"
    assert job["attempts"][0]["seller"] == "runapi"
    width, height = map(int, job["images"][0]["size"].split("x"))
    assert abs(width / height - 16 / 9) < 0.05


def test_pictures_are_as_the_job_says(gateway: Serving) -> None:
    picture = made(gateway, size="1536x1024", output_format="jpeg")["images"][0]
    answer = httpx.get(picture["url"], trust_env=False)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert len(answer.content) == picture["bytes"] == int(answer.headers["content-length"])
    (gateway.folder / "picture").write_bytes(answer.content)
    with Image.open(gateway.folder / "picture") as image:
        image.load()
        assert (image.format, "{}x{}".format(*image.size)) == ("JPEG", picture["size"])


def test_an_edit_starts_from_a_picture_that_the_caller_sends(gateway: Serving) -> None:
    import base64

    given = base64.b64encode(gateway.vendors.sample(1024, 1024)).decode()
    for image in ({"b64_json": given}, f"data:image/png;base64,{given}", [{"b64_json": given}, {"b64_json": given}]):
        job = made(gateway, operation="edit", image=image)
        assert job["status"] == "completed", job


def test_a_refusal_for_content_is_told_as_one_and_never_tried_again(gateway: Serving) -> None:
    gateway.vendors.fault("refuse_content", times=1)
    job = made(gateway)
    assert (job["status"], job["images"], job["error"]["code"]) == ("failed", [], "moderation_blocked")
    assert len(job["attempts"]) == 1
    assert job["usage"]["cost"] == 0


def test_a_failure_is_made_good_elsewhere_and_the_attempts_tell(gateway: Serving) -> None:
    gateway.vendors.fault("refuse", vendor="runapi", status=422, times=1)
    answer = gateway.http.post(JOBS, json=PROMPT, headers={"prefer": "wait=30"})
    job = answer.json()
    assert job["status"] == "completed", job
    assert len(job["attempts"]) == 2
    assert job["attempts"][0]["fault"]
    assert answer.headers["x-igw-seller"] == job["attempts"][1]["seller"] != "runapi"


def test_a_job_that_is_not_there_and_one_that_never_could_be_look_alike(gateway: Serving) -> None:
    job = made(gateway)["id"]
    other = job[:-1] + ("a" if job[-1] != "a" else "b")
    answers = [gateway.http.get(f"{JOBS}/{name}") for name in (other, "nothing")]
    assert [refused(one, 404, "job_not_found")["message"] for one in answers] == ["There is no such job."] * 2
