"""Runs at the simulated Runflow: who may order, states, output, failures."""

import base64
import json
import re
import time
import uuid

import httpx
import pytest

from tests.sandbox.runflow_owner import MODEL, Owner, fetched, order
from tests.vendors import Vendors

RUN_FIELDS = [
    *("id", "flow_id", "model_id", "comfyui_workflow_id", "target_type", "target_version", "org_id", "status_code"),
    *("source_code", "input", "output", "context", "duration_ms", "cost", "cost_breakdown", "nodes_total"),
    *("nodes_completed", "resolved_template_id", "batch_id", "client_ref", "jurisdiction_code", "flow_version_id"),
    *("request_id", "created_by", "created_at", "started_at", "completed_at", "callback_url", "metadata", "has_logs"),
    *("has_node_runs", "links", "failure_code", "failure_message", "failure_stage_code", "node_runs"),
]


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "rf_sandbox", "Basic rf_sandbox", "Bearer rf_live_x"])
def test_a_bad_key_is_unauthorized(sandbox: Vendors, header: str) -> None:
    answer = sandbox.http.post(f"/runflow{MODEL}/runs", json=order(), headers={"authorization": header})
    assert answer.status_code == 401
    assert answer.json() == {
        "code": "UNAUTHORIZED",
        "message": "Missing or invalid authentication token.",
        "errors": None,
    }


def test_a_key_without_the_scope_may_only_look(sandbox: Vendors) -> None:
    reader = Owner(sandbox, "rf_sandbox_readonly")
    refused = reader.create()
    assert (refused.status_code, refused.json()["code"]) == (403, "PERMISSION_DENIED")
    assert reader.ask("GET", "/v1/auth/me").status_code == 200


def test_the_switch_admits_any_key_of_the_right_form(sandbox: Vendors) -> None:
    with sandbox.switched("runflow", any_key=True):
        for key in ("rf_live_1", "rf_svc_1", "rfk_1", "rf_1"):
            assert Owner(sandbox, key).ask("GET", "/v1/auth/me").status_code == 200
        assert Owner(sandbox, "sk-1").ask("GET", "/v1/auth/me").status_code == 401


def test_a_new_run_is_queued_and_whole(owner: Owner) -> None:
    answer = owner.create(order(metadata={"a": 1}, client_ref="ours-1"), **{"x-organization-id": "any"})
    assert answer.status_code == 201
    run = answer.json()
    assert list(run) == RUN_FIELDS
    assert uuid.UUID(run["id"]).version == 7
    assert (run["status_code"], run["output"], run["cost"], run["completed_at"]) == ("queued", None, None, None)
    assert (run["metadata"], run["client_ref"]) == ({"a": 1}, "ours-1")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", run["created_at"])


def test_a_run_passes_through_its_states_in_order(sandbox: Vendors, owner: Owner) -> None:
    sandbox.latency(0.3)
    run_id = owner.create().json()["id"]
    seen = []
    while not seen or seen[-1] != "succeeded":
        status = owner.get(run_id)["status_code"]
        seen += [status] if status not in seen[-1:] else []
    assert [word for word in seen if word != "dispatching"] in (
        ["running", "succeeded"],
        ["queued", "running", "succeeded"],
    )


def test_a_finished_run_shows_output_cost_and_times(owner: Owner) -> None:
    run = owner.run(order(num_images=3, image_size={"width": 1088, "height": 640}, output_format="webp"))
    assert run["status_code"] == "succeeded"
    assert set(run["output"]) == {"outputs", "seed", "timing", "nsfw_detected"}
    assert [list(entry) for entry in run["output"]["outputs"]] == [["type", "url"]] * 3
    assert [fetched(entry["url"]) for entry in run["output"]["outputs"]] == [(1088, 640, "webp")] * 3
    assert run["cost"] == "0.027"
    assert isinstance(run["duration_ms"], int)
    assert run["started_at"] <= run["completed_at"]


def test_links_lead_to_another_port_and_are_new_on_every_read(sandbox: Vendors, owner: Owner) -> None:
    run = owner.run()
    first = run["output"]["outputs"][0]["url"]
    second = owner.get(run["id"])["output"]["outputs"][0]["url"]
    assert first != second
    assert not first.startswith(sandbox.url)
    assert fetched(first) == fetched(second)


def test_a_link_stops_working(sandbox: Vendors, owner: Owner) -> None:
    sandbox.fault("expired_url", vendor="runflow")
    url = owner.run()["output"]["outputs"][0]["url"]
    assert httpx.get(url, trust_env=False).status_code == 403


def test_work_beyond_the_vendors_capacity_waits_in_the_queue(sandbox: Vendors, owner: Owner) -> None:
    with sandbox.switched("runflow", concurrency=1):
        sandbox.latency(0.4)
        first, second = (owner.create().json()["id"] for _ in range(2))
        assert owner.get(second)["status_code"] == "queued"
        owner.finished(first)
        assert owner.finished(second)["status_code"] == "succeeded"


def test_an_unknown_run_is_not_found_and_no_run_id_is_invalid(owner: Owner) -> None:
    answer = owner.ask("GET", f"/v1/runs/{uuid.uuid4()}")
    assert (answer.status_code, answer.json()["code"]) == (404, "RUN_NOT_FOUND")
    assert owner.ask("GET", "/v1/runs/nonsense").status_code == 422


def test_unknown_paths_are_answered_in_the_vendors_words(owner: Owner) -> None:
    for method, path, status in (("GET", "/v1/nothing", 404), ("DELETE", "/v1/runs", 405)):
        answer = owner.ask(method, path)
        assert answer.status_code == status
        assert set(answer.json()) == {"code", "message", "errors"}


def test_a_method_that_is_not_there_is_no_error_of_the_vendors(owner: Owner) -> None:
    answer = owner.ask("GET", "/v1/models/openai/gpt-image-2")
    assert (answer.status_code, answer.json()["code"]) == (405, "METHOD_NOT_ALLOWED")


def test_a_failed_run_says_why_and_costs_nothing(sandbox: Vendors, owner: Owner) -> None:
    sandbox.fault("fail", vendor="runflow", code="UPSTREAM", message="It broke.")
    run = owner.run()
    assert (run["status_code"], run["output"], run["cost"]) == ("failed", None, None)
    assert (run["failure_code"], run["failure_message"], run["failure_stage_code"]) == (
        "UPSTREAM",
        "It broke.",
        "dispatch",
    )
    assert sandbox.charges() == []


def test_part_of_the_pictures_is_charged_as_such(sandbox: Vendors, owner: Owner) -> None:
    sandbox.fault("partial", vendor="runflow", missing=1)
    run = owner.run(order(num_images=3))
    assert (run["status_code"], run["cost"], len(run["output"]["outputs"])) == ("partial_succeeded", "0.018", 2)
    assert sandbox.charges()[0]["usd_micros"] == 18_000


def test_a_downgrade_sells_small_pictures_at_the_full_price(sandbox: Vendors, owner: Owner) -> None:
    sandbox.fault("downgrade", vendor="runflow")
    run = owner.run(order(image_size={"width": 2048, "height": 2048}))
    assert fetched(run["output"]["outputs"][0]["url"])[:2] == (1024, 1024)
    assert run["cost"] == "0.009"


def test_there_is_no_public_cancel(owner: Owner) -> None:
    run_id = owner.create().json()["id"]
    assert owner.ask("POST", f"/v1/runs/{run_id}/cancel").status_code == 404


def test_an_administrator_cancels_and_the_work_is_billed(sandbox: Vendors, owner: Owner) -> None:
    sandbox.latency(5.0)
    run_id = owner.create().json()["id"]
    cancelled = owner.ask("POST", f"/v1/admin/runs/{run_id}/cancellation", {"reason": "not needed"})
    assert (cancelled.status_code, cancelled.json()["status_code"]) == (201, "canceled")
    again = owner.ask("POST", f"/v1/admin/runs/{run_id}/cancellation", {})
    assert (again.status_code, again.json()["output"]) == (200, None)
    assert [charge["id"] for charge in sandbox.charges()] == [run_id]
    assert owner.ask("POST", f"/v1/admin/runs/{run_id}/cancellation", {"reason": "x"}).status_code == 422


def test_the_flat_route_answers_with_pictures_in_both_places(owner: Owner) -> None:
    answer = owner.ask("POST", "/v1/run/openai/gpt-image-2", {"prompt": "x", "quality": "low", "num_images": 2})
    assert answer.status_code == 200
    body = answer.json()
    assert [image["url"] for image in body["images"]] == [output["url"] for output in body["outputs"]]
    assert fetched(body["images"][1]["url"]) == (1024, 768, "png")
    assert owner.sandbox.charges()[0]["images"] == 2


def test_the_flat_route_goes_on_buying_for_a_client_that_left(sandbox: Vendors, owner: Owner) -> None:
    sandbox.latency(1.0)
    body = {"prompt": "x", "quality": "low"}
    with httpx.Client(base_url=sandbox.url, trust_env=False, timeout=0.1) as client, pytest.raises(httpx.ReadTimeout):
        client.post("/runflow/v1/run/openai/gpt-image-2", json=body, headers=owner.headers)
    assert sandbox.charges() == []
    deadline = time.monotonic() + 10
    while not (charges := sandbox.charges()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(charges) == 1


def test_health_needs_no_key(sandbox: Vendors) -> None:
    assert sandbox.http.get("/runflow/v1/health").json() == {"status": "ok"}


def test_a_stored_input_shows_no_inline_bytes(sandbox: Vendors, owner: Owner) -> None:
    inline = "data:image/png;base64," + base64.b64encode(sandbox.sample(64, 64)).decode()
    run = owner.run(order(image_urls=[inline]), edit=True)
    assert "base64" not in json.dumps(run["input"])
