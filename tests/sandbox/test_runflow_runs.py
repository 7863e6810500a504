"""Runs at the simulated Runflow: authentication, statuses, output, failures."""

import base64
import json
import re
import uuid

import httpx
import pytest

from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until
from tests.sandbox.runflow_client import MODEL_PATH, RunflowClient, build_order, fetch_image_info

RUN_FIELDS = [
    *("id", "flow_id", "model_id", "comfyui_workflow_id", "target_type", "target_version", "org_id", "status_code"),
    *("source_code", "input", "output", "context", "duration_ms", "cost", "cost_breakdown", "nodes_total"),
    *("nodes_completed", "resolved_template_id", "batch_id", "client_ref", "jurisdiction_code", "flow_version_id"),
    *("request_id", "created_by", "created_at", "started_at", "completed_at", "callback_url", "metadata", "has_logs"),
    *("has_node_runs", "links", "failure_code", "failure_message", "failure_stage_code", "node_runs"),
]


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "rf_sandbox", "Basic rf_sandbox", "Bearer rf_live_x"])
def test_invalid_key_is_unauthorized(sandbox: RunningSandbox, header: str) -> None:
    answer = sandbox.http.post(f"/runflow{MODEL_PATH}/runs", json=build_order(), headers={"authorization": header})
    assert answer.status_code == 401
    assert answer.json() == {
        "code": "UNAUTHORIZED",
        "message": "Missing or invalid authentication token.",
        "errors": None,
    }


def test_read_only_key_cannot_create_runs(sandbox: RunningSandbox) -> None:
    read_only_client = RunflowClient(sandbox, "rf_sandbox_readonly")
    refused = read_only_client.create_run()
    assert (refused.status_code, refused.json()["code"]) == (403, "PERMISSION_DENIED")
    assert read_only_client.request("GET", "/v1/auth/me").status_code == 200


def test_any_key_switch_accepts_well_formed_keys(sandbox: RunningSandbox) -> None:
    with sandbox.override_switches("runflow", accepts_any_key=True):
        for key in ("rf_live_1", "rf_svc_1", "rfk_1", "rf_1"):
            assert RunflowClient(sandbox, key).request("GET", "/v1/auth/me").status_code == 200
        assert RunflowClient(sandbox, "sk-1").request("GET", "/v1/auth/me").status_code == 401


def test_new_run_is_queued_with_all_fields(runflow_client: RunflowClient) -> None:
    answer = runflow_client.create_run(
        build_order(metadata={"a": 1}, client_ref="ours-1"), **{"x-organization-id": "any"}
    )
    assert answer.status_code == 201
    run = answer.json()
    assert list(run) == RUN_FIELDS
    assert uuid.UUID(run["id"]).version == 7
    assert (run["status_code"], run["output"], run["cost"], run["completed_at"]) == ("queued", None, None, None)
    assert (run["metadata"], run["client_ref"]) == ({"a": 1}, "ours-1")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", run["created_at"])


def test_run_goes_through_its_states_in_order(sandbox: RunningSandbox, runflow_client: RunflowClient) -> None:
    sandbox.hold_orders()
    run_id = runflow_client.create_run().json()["id"]
    seen = []
    while not seen or seen[-1] != "succeeded":
        status = runflow_client.get_run(run_id)["status_code"]
        seen += [status] if status not in seen[-1:] else []
        if status == "running":
            sandbox.release_orders()
    assert [status_code for status_code in seen if status_code != "dispatching"] in (
        ["running", "succeeded"],
        ["queued", "running", "succeeded"],
    )


def test_finished_run_has_output_cost_and_times(runflow_client: RunflowClient) -> None:
    run = runflow_client.run_to_end(
        build_order(num_images=3, image_size={"width": 1088, "height": 640}, output_format="webp")
    )
    assert run["status_code"] == "succeeded"
    assert set(run["output"]) == {"outputs", "seed", "timing", "nsfw_detected"}
    assert [list(entry) for entry in run["output"]["outputs"]] == [["type", "url"]] * 3
    assert [fetch_image_info(entry["url"]) for entry in run["output"]["outputs"]] == [(1088, 640, "webp")] * 3
    assert run["cost"] == "0.027"
    assert isinstance(run["duration_ms"], int)
    assert run["started_at"] <= run["completed_at"]


def test_image_urls_use_another_port_and_change_on_every_read(
    sandbox: RunningSandbox, runflow_client: RunflowClient
) -> None:
    run = runflow_client.run_to_end()
    first = run["output"]["outputs"][0]["url"]
    second = runflow_client.get_run(run["id"])["output"]["outputs"][0]["url"]
    assert first != second
    assert not first.startswith(sandbox.url)
    assert fetch_image_info(first) == fetch_image_info(second)


def test_expired_url_fault_returns_a_dead_url(sandbox: RunningSandbox, runflow_client: RunflowClient) -> None:
    sandbox.inject_fault("expired_url", vendor="runflow")
    url = runflow_client.run_to_end()["output"]["outputs"][0]["url"]
    assert httpx.get(url, trust_env=False).status_code == 403


def test_runs_beyond_the_concurrency_limit_are_queued(sandbox: RunningSandbox, runflow_client: RunflowClient) -> None:
    with sandbox.override_switches("runflow", concurrency=1):
        sandbox.hold_orders()
        first, second = (runflow_client.create_run().json()["id"] for _ in range(2))
        assert runflow_client.get_run(second)["status_code"] == "queued"
        sandbox.release_orders()
        runflow_client.wait_until_finished(first)
        assert runflow_client.wait_until_finished(second)["status_code"] == "succeeded"


def test_unknown_run_is_not_found_and_malformed_id_is_invalid(runflow_client: RunflowClient) -> None:
    answer = runflow_client.request("GET", f"/v1/runs/{uuid.uuid4()}")
    assert (answer.status_code, answer.json()["code"]) == (404, "RUN_NOT_FOUND")
    assert runflow_client.request("GET", "/v1/runs/nonsense").status_code == 422


def test_unknown_paths_return_the_vendors_error_body(runflow_client: RunflowClient) -> None:
    for method, path, status in (("GET", "/v1/nothing", 404), ("DELETE", "/v1/runs", 405)):
        answer = runflow_client.request(method, path)
        assert answer.status_code == status
        assert set(answer.json()) == {"code", "message", "errors"}


def test_unsupported_method_is_method_not_allowed(runflow_client: RunflowClient) -> None:
    answer = runflow_client.request("GET", "/v1/models/openai/gpt-image-2")
    assert (answer.status_code, answer.json()["code"]) == (405, "METHOD_NOT_ALLOWED")


def test_failed_run_has_a_reason_and_costs_nothing(sandbox: RunningSandbox, runflow_client: RunflowClient) -> None:
    sandbox.inject_fault("fail", vendor="runflow", code="UPSTREAM", message="It broke.")
    run = runflow_client.run_to_end()
    assert (run["status_code"], run["output"], run["cost"]) == ("failed", None, None)
    assert (run["failure_code"], run["failure_message"], run["failure_stage_code"]) == (
        "UPSTREAM",
        "It broke.",
        "dispatch",
    )
    assert sandbox.list_charges() == []


def test_partial_run_is_charged_per_image(sandbox: RunningSandbox, runflow_client: RunflowClient) -> None:
    sandbox.inject_fault("partial", vendor="runflow", missing=1)
    run = runflow_client.run_to_end(build_order(num_images=3))
    assert (run["status_code"], run["cost"], len(run["output"]["outputs"])) == ("partial_succeeded", "0.018", 2)
    assert sandbox.list_charges()[0]["usd_micros"] == 18_000


def test_half_size_image_costs_the_full_price(sandbox: RunningSandbox, runflow_client: RunflowClient) -> None:
    sandbox.inject_fault("half_size", vendor="runflow")
    run = runflow_client.run_to_end(build_order(image_size={"width": 2048, "height": 2048}))
    assert fetch_image_info(run["output"]["outputs"][0]["url"])[:2] == (1024, 1024)
    assert run["cost"] == "0.009"


def test_client_cannot_cancel_a_run(runflow_client: RunflowClient) -> None:
    run_id = runflow_client.create_run().json()["id"]
    assert runflow_client.request("POST", f"/v1/runs/{run_id}/cancel").status_code == 404


def test_run_cancelled_by_an_administrator_is_charged(sandbox: RunningSandbox, runflow_client: RunflowClient) -> None:
    sandbox.set_latency(5.0)
    run_id = runflow_client.create_run().json()["id"]
    cancelled = runflow_client.request("POST", f"/v1/admin/runs/{run_id}/cancellation", {"reason": "not needed"})
    assert (cancelled.status_code, cancelled.json()["status_code"]) == (201, "canceled")
    again = runflow_client.request("POST", f"/v1/admin/runs/{run_id}/cancellation", {})
    assert (again.status_code, again.json()["output"]) == (200, None)
    assert [charge["id"] for charge in sandbox.list_charges()] == [run_id]
    assert runflow_client.request("POST", f"/v1/admin/runs/{run_id}/cancellation", {"reason": "x"}).status_code == 422


def test_synchronous_route_returns_images_in_both_fields(runflow_client: RunflowClient) -> None:
    answer = runflow_client.request(
        "POST", "/v1/run/openai/gpt-image-2", {"prompt": "x", "quality": "low", "num_images": 2}
    )
    assert answer.status_code == 200
    body = answer.json()
    assert [image["url"] for image in body["images"]] == [output["url"] for output in body["outputs"]]
    assert fetch_image_info(body["images"][1]["url"]) == (1024, 768, "png")
    assert runflow_client.sandbox.list_charges()[0]["images"] == 2


def test_synchronous_order_continues_after_the_client_disconnects(
    sandbox: RunningSandbox, runflow_client: RunflowClient
) -> None:
    sandbox.hold_orders()
    body = {"prompt": "x", "quality": "low"}
    with httpx.Client(base_url=sandbox.url, trust_env=False, timeout=0.1) as client, pytest.raises(httpx.ReadTimeout):
        client.post("/runflow/v1/run/openai/gpt-image-2", json=body, headers=runflow_client.headers)
    assert sandbox.list_charges() == []
    sandbox.release_orders()
    charges = wait_until(sandbox.list_charges, "the order is charged")
    assert len(charges) == 1


def test_health_needs_no_key(sandbox: RunningSandbox) -> None:
    assert sandbox.http.get("/runflow/v1/health").json() == {"status": "ok"}


def test_stored_input_contains_no_inline_bytes(sandbox: RunningSandbox, runflow_client: RunflowClient) -> None:
    inline = "data:image/png;base64," + base64.b64encode(sandbox.fetch_sample_image(64, 64)).decode()
    run = runflow_client.run_to_end(build_order(image_urls=[inline]), edit=True)
    assert "base64" not in json.dumps(run["input"])
