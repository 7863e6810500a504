"""A seller's explanation of a failed order reaches the job, the log and `explain`, without the prompt."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import main
from tests.flow.flow_config import API_KEY, EACH_SELLER, OPENAI, RUNAPI, RUNFLOW_RUNS, VENDOR_BY_SELLER
from tests.flow.order_flow import JobJson, OrderFlow
from tests.harness.sample_images import encode_data_uri, make_image
from tests.harness.wait import wait_until

PRIVATE_PROMPT = "Wilhelmine Quandt-Torvald beside the Ottakringer fountain, holding a paper kite, ref-88x1"
PRIVATE_WORDS = ("Wilhelmine", "Quandt", "Torvald", "Ottakringer", "fountain", "paper kite", "88x1")
SELLER_FIELDS = ("seller_status", "seller_code", "seller_message")


def get_failed_attempts(flow: OrderFlow, job: JobJson) -> list[dict[str, Any]]:
    """Returns the log lines of the job's attempts that failed."""

    def find_lines() -> list[dict[str, Any]]:
        lines = flow.gateway.read_log_lines()
        return [
            line
            for line in lines
            if line["event"] == "attempt ended" and line["job"] == job["id"] and line.get("fault")
        ]

    failed = [attempt for attempt in job["attempts"] if attempt["fault"]]
    wait_until(lambda: len(find_lines()) == len(failed), "all failed attempts are logged")
    return find_lines()


def explain(flow: OrderFlow, job: JobJson, *options: str, key: str = API_KEY) -> Any:
    environ = {"NO_PROXY": "127.0.0.1", "IGW_KEY": key, "COLUMNS": "200"}
    return CliRunner(env=environ).invoke(main, ["explain", "--job", job["id"], "--live", flow.gateway.url, *options])


def expect_no_private_word(text: str) -> None:
    assert [word for word in PRIVATE_WORDS if word.lower() in text.lower()] == []


@EACH_SELLER
def test_rejection_of_seller_is_shown_logged_and_explained(flow: OrderFlow, seller: str) -> None:
    message = f"edges of {seller} must be divisible by 16"
    flow.sandbox.inject_fault("refuse", vendor=VENDOR_BY_SELLER[seller], times=1, status=422, message=message)
    job = flow.order_with_failover(seller)
    rejected, delivered = job["attempts"]
    assert (rejected["fault"], rejected["seller_status"], rejected["seller_message"]) == (
        *("invalid_order", 422, message),
    )
    assert [delivered[name] for name in SELLER_FIELDS] == [None, None, None]
    line = get_failed_attempts(flow, job)[0]
    assert {name: line.get(name) for name in SELLER_FIELDS} == {name: rejected[name] for name in SELLER_FIELDS}
    result = explain(flow, job)
    assert result.exit_code == 0, result.output
    assert message in result.output
    assert "invalid_order" in result.output
    assert f"planned (chosen by name): {seller} $" in result.output
    assert json.loads(explain(flow, job, "--json").stdout)["attempts"][0] == rejected


@pytest.mark.parametrize(
    ("seller", "fault"),
    [
        (OPENAI, {"kind": "refuse", "status": 400, "code": "moderation_blocked"}),
        (RUNFLOW_RUNS, {"kind": "refuse", "status": 422}),
        (RUNFLOW_RUNS, {"kind": "fail", "code": "moderation_blocked"}),
        (RUNAPI, {"kind": "fail"}),
    ],
    ids=["openai", "runflow rejection", "runflow run", "runapi task"],
)
def test_content_refusal_that_quotes_the_prompt_leaves_no_word_of_it(
    flow: OrderFlow, seller: str, fault: dict[str, Any]
) -> None:
    message = (
        f'Rejected by the safety system: "{PRIVATE_PROMPT}" (flagged: Wilhelmine, fountain), see https://x.example/?a=1'
    )
    flow.sandbox.inject_fault(vendor=VENDOR_BY_SELLER[seller], times=1, message=message, **fault)
    job = flow.order_images(seller, prompt=PRIVATE_PROMPT)
    attempt = job["attempts"][0]
    assert attempt["fault"] == "content_refused"
    assert attempt["seller_message"].startswith("Rejected by the safety system")
    assert "x.example" not in attempt["seller_message"]
    lines = get_failed_attempts(flow, job)
    assert lines[0]["seller_message"] == attempt["seller_message"]
    expect_no_private_word(json.dumps(job["attempts"]))
    expect_no_private_word(explain(flow, job).output)
    expect_no_private_word(flow.gateway.stderr)


def test_lost_response_is_explained_by_its_status(flow: OrderFlow) -> None:
    flow.sandbox.inject_fault("status", vendor="openai", times=1, status=502, accepted=True)
    job = flow.order_images(OPENAI)
    assert (job["attempts"][0]["fault"], job["attempts"][0]["seller_status"]) == ("server_error", 502)


def test_network_error_is_named(flow: OrderFlow) -> None:
    flow.sandbox.inject_fault("reset_after", vendor="openai", times=1)
    job = flow.order_images(OPENAI)
    attempt = job["attempts"][0]
    assert (attempt["fault"], attempt["seller_status"]) == ("response_lost", None)
    assert attempt["seller_message"].isidentifier()


def test_explanation_of_a_job_is_only_for_its_team(flow: OrderFlow) -> None:
    job = flow.run_job()
    result = explain(flow, job, key="igw_other_team")
    assert result.exit_code == 1
    assert "not found" in result.output


def test_refused_upload_of_inputs_is_logged(flow: OrderFlow) -> None:
    body = json.dumps({"error": f"no uploads for {PRIVATE_PROMPT}"})
    flow.sandbox.inject_fault("status", vendor="runapi", route="upload", status=402, body=body)
    job = flow.order_images(
        RUNAPI, operation="edit", image=encode_data_uri(make_image(512, 512)), size="1024x1024", prompt=PRIVATE_PROMPT
    )
    assert (job["status"], job["attempts"]) == ("failed", [])
    wait_until(lambda: find_skipped_offers(flow, job) != [], "the skipped offer is logged")
    [line] = find_skipped_offers(flow, job)
    assert (line["seller"], line["fault"], line["seller_status"], line["seller_message"]) == (
        *(RUNAPI, "no_credit", 402, "no uploads for […]"),
    )


def find_skipped_offers(flow: OrderFlow, job: JobJson) -> list[dict[str, Any]]:
    lines = flow.gateway.read_log_lines()
    return [line for line in lines if line["event"] == "offer skipped" and line["job"] == job["id"]]
