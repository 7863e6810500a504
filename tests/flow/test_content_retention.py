"""Retention of prompts and images, by team: what the job shows, and that nothing is left of them.

A day has 200 seconds here: the team's images are kept for two seconds, other images for a minute.
"""

from base64 import b64encode

from tests.flow.flow_config import API_KEY, OTHER_TEAM_KEY, RUNAPI, GatewaySetup
from tests.flow.gateway_on_store import make_fixture_on_each_store
from tests.flow.order_flow import FlowGateway, OrderFlow
from tests.harness.child_spec import Hook
from tests.harness.timings import FAST_TIMINGS, change_timing
from tests.harness.wait import wait_until

SECRET = "a heron made of glass"
HEADERS = {"authorization": f"Bearer {API_KEY}"}
SETUP = GatewaySetup(
    timing=change_timing(FAST_TIMINGS, maintenance={"cleanup_interval_seconds": 0.2}),
    retention={"jobs_days": 0.3},
    team_retention={"images_days": 0.01, "prompts_days": 0},
    hooks=(Hook("tests.flow.short_retention:shorten_days", {"day_seconds": 200.0}),),
)

gateway_and_store = make_fixture_on_each_store(SETUP)


def find_files_with_secret(gateway: FlowGateway) -> list[str]:
    """Searches all that the gateway has written: its data, and its output."""
    files = [path for path in gateway.folder.rglob("*") if path.is_file()]
    return [path.name for path in files if SECRET.encode() in path.read_bytes()]


def test_prompt_of_a_settled_job_is_deleted_at_once(flow: OrderFlow) -> None:
    """While its order runs, the job has its prompt, and shows that. All logging options have their defaults."""
    flow.sandbox.hold_orders(vendor="runapi")
    job_id = flow.start_job(provider={"only": [RUNAPI]}, prompt=SECRET)
    wait_until(lambda: flow.count_orders(RUNAPI) == 1, "the order was sent")
    running = flow.gateway.get_job(job_id, wait_seconds=0)
    assert (running["has_prompt"], running["prompt_kept_until"], running["kept_until"]) == (True, None, None)
    assert running["deadline_at"] > running["created_at"]
    assert SECRET in flow.dump_store()
    flow.sandbox.release_orders(vendor="runapi")
    job = flow.gateway.get_job(job_id)
    assert job["status"] == "completed"
    assert (job["has_prompt"], job["requested"]["size"]) == (False, running["requested"]["size"])
    assert SECRET not in flow.dump_store()
    assert job["images_kept_until"] - job["prompt_kept_until"] in (2, 3)
    assert job["kept_until"] - job["prompt_kept_until"] in (60, 61)
    wait_until(lambda: find_files_with_secret(flow.gateway) == [], "no file has the prompt")


def test_expired_images_are_deleted_before_their_job(flow: OrderFlow) -> None:
    image = flow.sandbox.fetch_sample_image(1024, 1024)
    job = flow.run_job(
        provider={"only": [RUNAPI]}, operation="edit", image={"b64_json": b64encode(image).decode()}, prompt=SECRET
    )
    wait_until(lambda: not flow.gateway.get_job(job["id"])["has_images"], "the images are deleted")
    kept = flow.gateway.get_job(job["id"])
    assert (kept["status"], kept["images"][0]["url"]) == ("completed", None)
    assert kept["images"][0]["sha256"] == job["images"][0]["sha256"]
    gone = flow.gateway.http.get(f"/v1/jobs/{job['id']}/images/0", headers=HEADERS)
    assert (gone.status_code, gone.json()["error"]["code"]) == (410, "image_deleted")
    assert [path for path in flow.gateway.folder.parent.rglob(f"{job['id']}.*") if path.is_file()] == []


def test_repeated_request_finds_its_job_without_prompt_and_images(flow: OrderFlow) -> None:
    """It is compared by a digest, so it needs no prompt. It is not bought again."""
    key = {"idempotency-key": flow.gateway.test_id}
    body = {"prompt": SECRET, "provider": {"only": [RUNAPI]}}
    first = flow.gateway.post_job(body, **key).json()
    wait_until(lambda: flow.gateway.get_job(first["id"])["images_kept_until"] is not None, "the job is settled")
    wait_until(lambda: not flow.gateway.get_job(first["id"])["has_images"], "the images are deleted")
    second = flow.gateway.post_job(body, **key).json()
    assert (second["id"], second["has_prompt"], second["has_images"]) == (first["id"], False, False)
    assert flow.count_orders(RUNAPI) == 1


def test_other_team_keeps_prompts_and_images_as_configured_for_all(flow: OrderFlow) -> None:
    answer = flow.gateway.post_job({"prompt": "a kept heron", "provider": {"only": [RUNAPI]}}, OTHER_TEAM_KEY)
    job = flow.gateway.get_job(answer.json()["id"], key=OTHER_TEAM_KEY)
    wait_until(
        lambda: flow.gateway.get_job(job["id"], key=OTHER_TEAM_KEY)["kept_until"] is not None, "the job is settled"
    )
    job = flow.gateway.get_job(job["id"], key=OTHER_TEAM_KEY)
    assert (job["has_prompt"], job["has_images"]) == (True, True)
    assert job["images_kept_until"] == job["prompt_kept_until"] == job["kept_until"]
    assert "a kept heron" in flow.dump_store()
