"""Runflow's prices and switches."""

import pytest

from tests.harness.sandbox_runner import RunningSandbox
from tests.sandbox.runflow_client import RunflowClient, build_order


def test_only_successful_runs_are_charged(sandbox: RunningSandbox, runflow_client: RunflowClient) -> None:
    sandbox.set_balance("runflow", "0.02")
    sandbox.inject_fault("fail", vendor="runflow", times=1)
    assert runflow_client.run_to_end()["status_code"] == "failed"
    assert runflow_client.run_to_end()["cost"] == "0.009"
    assert runflow_client.run_to_end()["cost"] == "0.009"
    refused = runflow_client.create_run()
    assert (refused.status_code, refused.json()["code"]) == (402, "INSUFFICIENT_CREDIT")
    assert runflow_client.request("GET", "/v1/billing/balance").json()["balance"] == "0.002"
    assert runflow_client.request("GET", "/v1/credit-balances").json()["items"][0]["balance_usd"] == "0.002"


PRICES = {
    ("by_quality", "low"): ("0.009", "0.009"),
    ("by_quality", "medium"): ("0.034", "0.034"),
    ("by_quality", "high"): ("0.133", "0.133"),
    ("flat", "low"): ("0.133", "0.133"),
    ("headline", "low"): ("0.211", "0.219"),
}


@pytest.mark.parametrize(("profile", "quality"), PRICES)
def test_each_published_price_can_be_charged(
    sandbox: RunningSandbox, runflow_client: RunflowClient, profile: str, quality: str
) -> None:
    urls = [f"{sandbox.url}/_/sample.png"]
    with sandbox.override_switches("runflow", price=profile):
        generated = runflow_client.run_to_end(build_order(quality=quality))["cost"]
        edited = runflow_client.run_to_end(build_order(quality=quality, image_urls=urls), edit=True)["cost"]
    assert (generated, edited) == PRICES[profile, quality]


def test_each_switch_changes_its_behaviour(sandbox: RunningSandbox, runflow_client: RunflowClient) -> None:
    with sandbox.override_switches("runflow", num_images_max=10):
        assert runflow_client.create_run(build_order(num_images=10)).status_code == 201
    with sandbox.override_switches("runflow", sizes_in_output=True):
        entry = runflow_client.run_to_end(build_order(image_size="square_hd"))["output"]["outputs"][0]
        assert (entry["width"], entry["height"]) == (1024, 1024)
    with sandbox.override_switches("runflow", invalid_input_response="failed_run"):
        assert runflow_client.run_to_end(build_order(quality="bad"))["failure_code"] == "INPUT_VALIDATION_FAILED"
    with sandbox.override_switches("runflow", canceled="cancelled"):
        statuses = runflow_client.request("GET", "/v1/runs/statuses").json()["items"]
        assert {"code": "cancelled"} in statuses
    with sandbox.override_switches("runflow", providerless_route=True):
        assert runflow_client.request("POST", "/v1/models/gpt-image-2/runs", build_order()).status_code == 201
    with sandbox.override_switches("runflow", run_route=False):
        assert runflow_client.request("POST", "/v1/run/openai/gpt-image-2", {"prompt": "x"}).status_code == 404
    with sandbox.override_switches("runflow", balance_body="balance_cents"):
        assert set(runflow_client.request("GET", "/v1/billing/balance").json()) == {"balance_cents", "currency"}
    with sandbox.override_switches("runflow", cursors="next_pq"):
        assert set(runflow_client.request("GET", "/v1/runs").json()) == {"items", "next_pq", "prev_pq"}
    with sandbox.override_switches("runflow", rate_limit_headers=True):
        assert "x-ratelimit-remaining" in runflow_client.request("GET", "/v1/auth/me").headers
    assert "x-ratelimit-remaining" not in runflow_client.request("GET", "/v1/auth/me").headers


@pytest.mark.parametrize(
    ("style", "body"), [("nested", {"error"}), ("detail", {"detail"}), ("flat", {"code", "message", "errors"})]
)
def test_error_body_switch_selects_the_shape(
    sandbox: RunningSandbox, runflow_client: RunflowClient, style: str, body: set[str]
) -> None:
    with sandbox.override_switches("runflow", error_body=style):
        assert set(runflow_client.create_run(build_order(quality="bad")).json()) == body


def test_no_credit_code_switch_selects_the_spelling(sandbox: RunningSandbox, runflow_client: RunflowClient) -> None:
    sandbox.set_balance("runflow", "0")
    with sandbox.override_switches("runflow", no_credit_code="INSUFFICIENT_CREDITS"):
        assert runflow_client.create_run().json()["code"] == "INSUFFICIENT_CREDITS"


def test_partial_status_switch_reports_partial_runs_as_succeeded(
    sandbox: RunningSandbox, runflow_client: RunflowClient
) -> None:
    sandbox.inject_fault("partial", vendor="runflow")
    with sandbox.override_switches("runflow", partial_status="succeeded"):
        assert runflow_client.run_to_end(build_order(num_images=2))["status_code"] == "succeeded"


def test_inline_output_is_returned_once(runflow_client: RunflowClient) -> None:
    run = runflow_client.run_to_end(build_order(sync_mode=True))
    assert run["output"]["outputs"][0]["url"].startswith("data:image/png;base64,")
    assert runflow_client.get_run(run["id"])["output"] is None
