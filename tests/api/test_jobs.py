"""Jobs: accepted at once or waited for, polled later, visible only to their own team."""

import httpx
import pytest
from PIL import Image

from tests.api.error_responses import JOBS_PATH, expect_final_error
from tests.api.job_requests import BODY, create_finished_job
from tests.harness.gateway_runner import RunningGateway

JOB_FIELDS = {
    *("id", "object", "operation", "status", "model", "created_at", "finished_at", "deadline_at", "expires_at"),
    *(
        "kept_until",
        "images_kept_until",
        "prompt_kept_until",
        "has_images",
        "has_prompt",
        "n",
        "requested",
        "effective",
        "images",
        "usage",
        "warnings",
        "error",
        "policy",
        "plan",
    ),
    *("attempts", "metadata", "cancel_requested", "max_remaining_cost", "key", "labels", "batch", "webhook"),
}


def test_job_is_accepted_with_202_and_can_be_waited_for(gateway: RunningGateway) -> None:
    gateway.sandbox.hold_orders()
    accepted = gateway.http.post(JOBS_PATH, json=BODY)
    job = accepted.json()
    assert (accepted.status_code, job["object"]) == (202, "job")
    assert job["status"] in ("queued", "in_progress")
    assert (job["images"], job["error"], job["finished_at"]) == ([], None, None)
    assert accepted.headers["location"] == f"{JOBS_PATH}/{job['id']}"
    assert accepted.headers["x-igw-job-id"] == job["id"]
    assert 1 <= int(accepted.headers["retry-after"]) <= 120
    running_job = gateway.http.get(accepted.headers["location"]).json()
    assert running_job["id"] == job["id"]
    assert running_job["status"] in ("queued", "in_progress")
    gateway.sandbox.release_orders()
    final_response = gateway.http.get(accepted.headers["location"], params={"wait": 30})
    assert (final_response.status_code, final_response.json()["status"]) == (200, "completed")
    assert "retry-after" not in final_response.headers


def test_prefer_wait_returns_the_finished_job(gateway: RunningGateway) -> None:
    answer = gateway.http.post(JOBS_PATH, json=BODY | {"n": 2, "size": "1536x1024"}, headers={"prefer": "wait=30"})
    job = answer.json()
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=30"
    assert set(job) == JOB_FIELDS
    assert (job["status"], job["n"], job["usage"]["cost"]) == ("completed", 2, 0.12)
    assert [image_entry["index"] for image_entry in job["images"]] == [0, 1]
    assert answer.headers["x-igw-seller"] == "runapi"
    assert answer.headers["x-igw-cost-usd"] == "0.12"
    assert answer.headers["x-igw-attempts"] == str(len(job["attempts"]))
    assert len(gateway.sandbox.list_charges()) >= 2


def test_too_short_prefer_wait_returns_202(gateway: RunningGateway) -> None:
    gateway.sandbox.hold_orders()
    answer = gateway.http.post(JOBS_PATH, json=BODY, headers={"prefer": "wait=1"})
    assert answer.status_code == 202
    assert answer.json()["status"] == "in_progress"
    job_response = gateway.http.get(answer.headers["location"], params={"wait": 0})
    assert job_response.status_code == 200


@pytest.mark.parametrize(
    "prefer", ["respond-async", "wait", "wait=abc", "wait=-1", "waits=5", "handling=lenient", "=,;"]
)
def test_other_preferences_are_ignored(gateway: RunningGateway, prefer: str) -> None:
    gateway.sandbox.hold_orders()
    answer = gateway.http.post(JOBS_PATH, json=BODY, headers={"prefer": prefer})
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers


def test_preferences_in_several_headers_are_one_list(gateway: RunningGateway) -> None:
    gateway.sandbox.set_latency(0.3)
    lines = [("prefer", "respond-async"), ("prefer", "wait=30"), ("prefer", "wait=0")]
    answer = gateway.http.post(JOBS_PATH, json=BODY, headers=lines)
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=30")


def test_every_optional_field_may_be_null(gateway: RunningGateway) -> None:
    names = (
        "model n size quality output_format background moderation user safety_identifier resolution aspect_ratio "
        "policy max_price max_cost max_seconds provider metadata operation image images mask webhook stream"
    )
    assert create_finished_job(gateway, **dict.fromkeys(names.split()))["status"] == "completed"
    assert create_finished_job(gateway, provider={"only": None, "ignore": None})["status"] == "completed"


@pytest.mark.parametrize(("given", "is_warned"), [("url", False), (None, False), ("b64_json", True)])
def test_job_images_are_urls_for_every_response_format(
    gateway: RunningGateway, given: str | None, is_warned: bool
) -> None:
    """Clients of OpenAI's API often send it by default."""
    job = create_finished_job(gateway, response_format=given)
    assert [list(image) for image in job["images"]] == [list(image) for image in create_finished_job(gateway)["images"]]
    assert job["images"][0]["url"].startswith(f"{gateway.url}/files/")
    warning = "response_format_ignored: 'b64_json' has no effect: a job's images are URLs"
    assert (warning in job["warnings"]) == is_warned


def test_job_accepts_all_parameters_together(gateway: RunningGateway) -> None:
    job = create_finished_job(
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


def test_image_matches_its_job_entry(gateway: RunningGateway) -> None:
    image_entry = create_finished_job(gateway, size="1536x1024", output_format="jpeg")["images"][0]
    answer = httpx.get(image_entry["url"], trust_env=False)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert len(answer.content) == image_entry["bytes"] == int(answer.headers["content-length"])
    (gateway.folder / "image").write_bytes(answer.content)
    with Image.open(gateway.folder / "image") as image:
        image.load()
        assert (image.format, "{}x{}".format(*image.size)) == ("JPEG", image_entry["size"])


def test_edit_uses_the_input_image_of_the_client(gateway: RunningGateway) -> None:
    import base64

    encoded = base64.b64encode(gateway.sandbox.fetch_sample_image(1024, 1024)).decode()
    for image in (
        {"b64_json": encoded},
        f"data:image/png;base64,{encoded}",
        [{"b64_json": encoded}, {"b64_json": encoded}],
    ):
        job = create_finished_job(gateway, operation="edit", image=image)
        assert job["status"] == "completed", job


def test_content_refusal_fails_the_job_after_one_attempt(gateway: RunningGateway) -> None:
    gateway.sandbox.inject_fault("refuse_content", times=1)
    job = create_finished_job(gateway)
    assert (job["status"], job["images"], job["error"]["code"]) == ("failed", [], "moderation_blocked")
    assert len(job["attempts"]) == 1
    assert job["usage"]["cost"] == 0


def test_failover_is_listed_in_the_attempts(gateway: RunningGateway) -> None:
    gateway.sandbox.inject_fault("refuse", vendor="runapi", status=422, times=1)
    answer = gateway.http.post(JOBS_PATH, json=BODY, headers={"prefer": "wait=30"})
    job = answer.json()
    assert job["status"] == "completed", job
    assert len(job["attempts"]) == 2
    assert job["attempts"][0]["fault"]
    assert answer.headers["x-igw-seller"] == job["attempts"][1]["seller"] != "runapi"


def test_unknown_job_and_invalid_job_id_have_the_same_error(gateway: RunningGateway) -> None:
    job = create_finished_job(gateway)["id"]
    other_job_id = job[:-1] + ("a" if job[-1] != "a" else "b")
    answers = [gateway.http.get(f"{JOBS_PATH}/{name}") for name in (other_job_id, "nothing")]
    messages = {expect_final_error(answer, 404, "job_not_found")["message"] for answer in answers}
    assert len(messages) == 1
