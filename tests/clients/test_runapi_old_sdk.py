"""RunAPI's old SDK (0.2.2) has its own table of valid orders: the sandbox agrees with it."""

import json
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness.sandbox_runner import RunningSandbox

ROOT = Path(__file__).parents[2]
INTERPRETER = ROOT / ".venv-runapi-old" / "bin" / "python"
SCRIPT = Path(__file__).with_name("runapi_old_client.py")

ORDER_PARAMS = {"model": "gpt-image-2", "prompt": "a lighthouse at dawn"}
EDIT_PARAMS = {**ORDER_PARAMS, "source_image_urls": ["SOURCE"]}
SHAPES = ["1:1", "3:2", "4:3", "5:4", "16:9", "2:1", "3:1", "21:9"]
RATIOS = ["auto", *SHAPES, *(":".join(reversed(shape.split(":"))) for shape in SHAPES[1:])]
PRICE_BY_TIER = {"1k": "0.06", "2k": "0.10", "4k": "0.16"}


def run_old_client(sandbox: RunningSandbox, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns each case's outcome."""
    assert INTERPRETER.exists(), "the old SDK has its own environment: run deploy/setup.sh dev"
    command = [str(INTERPRETER), "-I", str(SCRIPT), f"{sandbox.url}/runapi", make_source_url(sandbox)]
    completed = subprocess.run(
        command, input=json.dumps(cases), capture_output=True, text=True, timeout=60, check=False
    )
    assert completed.returncode == 0, completed.stderr
    result = json.loads(completed.stdout)
    assert result["version"] == "0.9.1"
    assert len(result["outcomes"]) == len(cases)
    return list(result["outcomes"])


def make_source_url(sandbox: RunningSandbox) -> str:
    return f"{sandbox.url}/_/sample.png?w=64&h=48"


def post_raw(sandbox: RunningSandbox, case: dict[str, Any]) -> httpx.Response:
    """Posts the same order without a client library."""
    body = json.dumps(case["fields"]).replace("SOURCE", make_source_url(sandbox))
    path = f"/runapi/api/v1/gpt_image_2/{case['action']}"
    return sandbox.http.post(path, content=body, headers={"authorization": "Bearer sk-sandbox"})


def make_case(action: str, fields: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"action": action, "fields": {**fields, **changes}}


BOTH_ACTIONS = (("text_to_image", ORDER_PARAMS), ("edit_image", EDIT_PARAMS))
INVALID_CASES = [
    *(
        make_case(action, fields, **changed)
        for action, fields in BOTH_ACTIONS
        for changed in (
            {"model": None},
            {"model": ""},
            {"model": "gpt-image-1.5"},
            {"model": "GPT-Image-2"},
            {"prompt": None},
            {"prompt": "  "},
            {"prompt": []},
            {"aspect_ratio": "7:5"},
            {"aspect_ratio": "1x1"},
            {"aspect_ratio": 1},
            {"aspect_ratio": False},
            {"output_resolution": "1K"},
            {"output_resolution": "8k"},
            {"output_resolution": "1024x1024"},
            {"output_resolution": ["1k"]},
        )
    ),
    make_case("edit_image", ORDER_PARAMS),
    make_case("edit_image", ORDER_PARAMS, source_image_urls=None),
    make_case("edit_image", ORDER_PARAMS, source_image_urls=[]),
    make_case("edit_image", ORDER_PARAMS, source_image_urls=["", "  "]),
    make_case("edit_image", ORDER_PARAMS, source_image_urls=""),
]


def test_orders_rejected_by_the_old_client_are_rejected_by_the_sandbox(sandbox: RunningSandbox) -> None:
    outcomes = run_old_client(sandbox, INVALID_CASES)
    for wrong, outcome in zip(INVALID_CASES, outcomes, strict=True):
        assert outcome.keys() == {"rejected"}, (wrong, outcome)
        answer = post_raw(sandbox, wrong)
        assert answer.status_code == 422, (wrong, answer.text)
        field = outcome["rejected"].split()[0]
        assert list(answer.json()["errors"]) == [field], (wrong, answer.text)
    assert sandbox.list_charges("runapi") == []


def test_every_ratio_and_tier_is_accepted_except_the_forbidden_pairs(sandbox: RunningSandbox) -> None:
    cases = [
        make_case(action, fields, aspect_ratio=ratio, output_resolution=tier)
        for action, fields in BOTH_ACTIONS
        for ratio in (None, *RATIOS)
        for tier in (None, *PRICE_BY_TIER)
    ]
    forbidden = {(None, "2k"), (None, "4k"), ("auto", "2k"), ("auto", "4k"), ("1:1", "4k")}
    for sent, outcome in zip(cases, run_old_client(sandbox, cases), strict=True):
        pair = (sent["fields"]["aspect_ratio"], sent["fields"]["output_resolution"])
        if pair in forbidden:
            assert outcome["refused"] == 422, (pair, outcome)
            assert "when aspect_ratio is" in outcome["errors"]["output_resolution"][0]
        else:
            assert outcome["later"]["status"] == "completed", (pair, outcome)
            assert outcome["later"]["usage"]["cost"] == float(PRICE_BY_TIER[pair[1] or "1k"])
    assert len(sandbox.list_charges("runapi")) == len(cases) - 2 * len(forbidden)


def test_odd_values_accepted_by_the_old_client_are_accepted(sandbox: RunningSandbox) -> None:
    odd = [
        make_case("text_to_image", ORDER_PARAMS, aspect_ratio=" "),
        make_case("text_to_image", ORDER_PARAMS, aspect_ratio=[]),
        make_case("text_to_image", ORDER_PARAMS, output_resolution={}),
        make_case("text_to_image", ORDER_PARAMS, prompt="x" * 100_000),
        make_case(
            "text_to_image", ORDER_PARAMS, mask_url="https://e.com/m.png", n=4, quality="low", output_format="webp"
        ),
    ]
    for sent, outcome in zip(odd, run_old_client(sandbox, odd), strict=True):
        assert outcome.get("later", {}).get("status") == "completed", (sent, outcome)


def test_too_many_sources_and_a_single_string_are_rejected_by_the_sandbox(sandbox: RunningSandbox) -> None:
    loose = [
        make_case("edit_image", ORDER_PARAMS, source_image_urls=["SOURCE"] * 17),
        make_case("edit_image", ORDER_PARAMS, source_image_urls="SOURCE"),
    ]
    for outcome in run_old_client(sandbox, loose):
        assert outcome["refused"] == 422
        assert list(outcome["errors"]) == ["source_image_urls"]


def test_old_client_runs_every_tier_of_both_actions(sandbox: RunningSandbox) -> None:
    cases = [
        make_case(action, fields, aspect_ratio="3:2", output_resolution=tier) | {"method": "run"}
        for action, fields in BOTH_ACTIONS
        for tier in PRICE_BY_TIER
    ]
    for sent, outcome in zip(cases, run_old_client(sandbox, cases), strict=True):
        assert outcome["task"]["status"] == "completed", outcome
        assert outcome["task"]["usage"]["cost"] == float(PRICE_BY_TIER[sent["fields"]["output_resolution"]])
        assert httpx.get(outcome["task"]["images"][0]["url"], trust_env=False).content[:4] == b"\x89PNG"
    assert sandbox.sum_charges_usd("runapi") == 2 * sum(map(Decimal, PRICE_BY_TIER.values()))


@pytest.mark.parametrize("setting", ["also", "only"])
def test_legacy_billing_block_has_the_fields_of_the_old_client(sandbox: RunningSandbox, setting: str) -> None:
    sandbox.hold_orders(vendor="runapi")
    cases = [
        make_case("text_to_image", ORDER_PARAMS, aspect_ratio="3:2", output_resolution="2k"),
        make_case("text_to_image", ORDER_PARAMS, aspect_ratio="3:2", output_resolution="2k") | {"method": "run"},
        make_case("text_to_image", ORDER_PARAMS) | {"method": "run"},
    ]
    with sandbox.override_switches("runapi", legacy_billing=setting, poll_retry_after=0.1):
        [running] = run_old_client(sandbox, cases[:1])
        sandbox.release_orders()
        [completed] = run_old_client(sandbox, cases[1:2])
        sandbox.inject_fault("fail", vendor="runapi", times=1)
        [failed] = run_old_client(sandbox, cases[2:])

    reserved = {"reservation": {"amount_cents": 10}, "settlement": None, "refund": None}
    assert running["task"]["billing"] == running["later"]["billing"] == reserved
    settlement = {"charged_amount_cents": 10, "amount_micro_cents": 10_000_000}
    assert completed["task"]["billing"] == {**reserved, "settlement": settlement}
    assert ("usage" in completed["task"]) is (setting == "also")
    billing = failed["details"]["billing"]
    assert (billing["reservation"], billing["settlement"]) == ({"amount_cents": 6}, None)
    assert billing["refund"]["refunded_at"].endswith("Z")


def test_billing_block_is_absent_without_its_switch(sandbox: RunningSandbox) -> None:
    [outcome] = run_old_client(sandbox, [make_case("text_to_image", ORDER_PARAMS)])
    assert "billing" not in outcome["task"] | outcome["later"]
