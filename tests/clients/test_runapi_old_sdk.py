"""RunAPI's old SDK (0.2.2), an independent table of what may be ordered: the sandbox agrees with it."""

import json
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.vendors import Vendors

ROOT = Path(__file__).parents[2]
INTERPRETER = ROOT / ".venv-runapi-old" / "bin" / "python"
SCRIPT = Path(__file__).with_name("runapi_old_client.py")

ORDER = {"model": "gpt-image-2", "prompt": "a lighthouse at dawn"}
EDIT = {**ORDER, "source_image_urls": ["SOURCE"]}
SHAPES = ["1:1", "3:2", "4:3", "5:4", "16:9", "2:1", "3:1", "21:9"]
RATIOS = ["auto", *SHAPES, *(":".join(reversed(shape.split(":"))) for shape in SHAPES[1:])]
PRICES = {"1k": "0.06", "2k": "0.10", "4k": "0.16"}


def old_client(sandbox: Vendors, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What became of each case."""
    assert INTERPRETER.exists(), "the old SDK lives in an environment of its own: run deploy/setup.sh dev"
    command = [str(INTERPRETER), "-I", str(SCRIPT), f"{sandbox.url}/runapi", source(sandbox)]
    done = subprocess.run(command, input=json.dumps(cases), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["version"] == "0.9.1"
    assert len(told["outcomes"]) == len(cases)
    return list(told["outcomes"])


def source(sandbox: Vendors) -> str:
    return f"{sandbox.url}/_/sample.png?w=64&h=48"


def sent_raw(sandbox: Vendors, case: dict[str, Any]) -> httpx.Response:
    """The same order without any client in between."""
    body = json.dumps(case["fields"]).replace("SOURCE", source(sandbox))
    path = f"/runapi/api/v1/gpt_image_2/{case['action']}"
    return sandbox.http.post(path, content=body, headers={"authorization": "Bearer sk-sandbox"})


def case(action: str, fields: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {"action": action, "fields": {**fields, **changed}}


BOTH = (("text_to_image", ORDER), ("edit_image", EDIT))
WRONG = [
    *(
        case(action, fields, **changed)
        for action, fields in BOTH
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
    case("edit_image", ORDER),
    case("edit_image", ORDER, source_image_urls=None),
    case("edit_image", ORDER, source_image_urls=[]),
    case("edit_image", ORDER, source_image_urls=["", "  "]),
    case("edit_image", ORDER, source_image_urls=""),
]


def test_what_the_old_client_rejects_the_vendor_refuses(sandbox: Vendors) -> None:
    outcomes = old_client(sandbox, WRONG)
    for wrong, outcome in zip(WRONG, outcomes, strict=True):
        assert outcome.keys() == {"rejected"}, (wrong, outcome)
        answer = sent_raw(sandbox, wrong)
        assert answer.status_code == 422, (wrong, answer.text)
        field = outcome["rejected"].split()[0]
        assert list(answer.json()["errors"]) == [field], (wrong, answer.text)
    assert sandbox.charges("runapi") == []


def test_every_ratio_and_tier_that_the_old_client_sends_is_taken_or_a_forbidden_pair(sandbox: Vendors) -> None:
    cases = [
        case(action, fields, aspect_ratio=ratio, output_resolution=tier)
        for action, fields in BOTH
        for ratio in (None, *RATIOS)
        for tier in (None, *PRICES)
    ]
    forbidden = {(None, "2k"), (None, "4k"), ("auto", "2k"), ("auto", "4k"), ("1:1", "4k")}
    for sent, outcome in zip(cases, old_client(sandbox, cases), strict=True):
        pair = (sent["fields"]["aspect_ratio"], sent["fields"]["output_resolution"])
        if pair in forbidden:
            assert outcome["refused"] == 422, (pair, outcome)
            assert "when aspect_ratio is" in outcome["errors"]["output_resolution"][0]
        else:
            assert outcome["later"]["status"] == "completed", (pair, outcome)
            assert outcome["later"]["usage"]["cost"] == float(PRICES[pair[1] or "1k"])
    assert len(sandbox.charges("runapi")) == len(cases) - 2 * len(forbidden)


def test_odd_bodies_that_the_old_client_sends_are_never_refused_for_an_enum(sandbox: Vendors) -> None:
    odd = [
        case("text_to_image", ORDER, aspect_ratio=" "),
        case("text_to_image", ORDER, aspect_ratio=[]),
        case("text_to_image", ORDER, output_resolution={}),
        case("text_to_image", ORDER, prompt="x" * 100_000),
        case("text_to_image", ORDER, mask_url="https://e.com/m.png", n=4, quality="low", output_format="webp"),
    ]
    for sent, outcome in zip(odd, old_client(sandbox, odd), strict=True):
        assert outcome.get("later", {}).get("status") == "completed", (sent, outcome)


def test_more_sources_than_sold_or_a_lone_string_pass_the_old_client_only(sandbox: Vendors) -> None:
    loose = [
        case("edit_image", ORDER, source_image_urls=["SOURCE"] * 17),
        case("edit_image", ORDER, source_image_urls="SOURCE"),
    ]
    for outcome in old_client(sandbox, loose):
        assert outcome["refused"] == 422
        assert list(outcome["errors"]) == ["source_image_urls"]


def test_the_old_client_runs_every_tier_of_both_actions(sandbox: Vendors) -> None:
    cases = [
        case(action, fields, aspect_ratio="3:2", output_resolution=tier) | {"method": "run"}
        for action, fields in BOTH
        for tier in PRICES
    ]
    for sent, outcome in zip(cases, old_client(sandbox, cases), strict=True):
        assert outcome["task"]["status"] == "completed", outcome
        assert outcome["task"]["usage"]["cost"] == float(PRICES[sent["fields"]["output_resolution"]])
        assert httpx.get(outcome["task"]["images"][0]["url"], trust_env=False).content[:4] == b"\x89PNG"
    assert sandbox.charged_usd("runapi") == 2 * sum(map(Decimal, PRICES.values()))


@pytest.mark.parametrize("setting", ["also", "only"])
def test_the_legacy_billing_block_is_what_clients_of_its_time_declared(sandbox: Vendors, setting: str) -> None:
    sandbox.latency(0.3, vendor="runapi")
    cases = [
        case("text_to_image", ORDER, aspect_ratio="3:2", output_resolution="2k"),
        case("text_to_image", ORDER, aspect_ratio="3:2", output_resolution="2k") | {"method": "run"},
        case("text_to_image", ORDER) | {"method": "run"},
    ]
    with sandbox.switched("runapi", legacy_billing=setting, poll_retry_after=0.1):
        running, completed = old_client(sandbox, cases[:2])
        sandbox.fault("fail", vendor="runapi", times=1)
        [failed] = old_client(sandbox, cases[2:])

    reserved = {"reservation": {"amount_cents": 10}, "settlement": None, "refund": None}
    assert running["task"]["billing"] == running["later"]["billing"] == reserved
    settlement = {"charged_amount_cents": 10, "amount_micro_cents": 10_000_000}
    assert completed["task"]["billing"] == {**reserved, "settlement": settlement}
    assert ("usage" in completed["task"]) is (setting == "also")
    billing = failed["details"]["billing"]
    assert (billing["reservation"], billing["settlement"]) == ({"amount_cents": 6}, None)
    assert billing["refund"]["refunded_at"].endswith("Z")


def test_without_the_switch_there_is_no_billing_block(sandbox: Vendors) -> None:
    [outcome] = old_client(sandbox, [case("text_to_image", ORDER)])
    assert "billing" not in outcome["task"] | outcome["later"]
