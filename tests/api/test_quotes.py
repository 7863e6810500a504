"""`POST /v1/quotes` plans without an order, with the signals of the gateway; `explain --live` shows the quote."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from tests.api.error_responses import JOBS_PATH, expect_final_error
from tests.api.job_requests import BODY, create_finished_job
from tests.harness.gateway_runner import API_KEY, RunningGateway, run_sandboxed_gateway

QUOTES_PATH = "/v1/quotes"
DELIVERY_COUNT = 12
QUOTE_FIELDS = {
    *("object", "operation", "model", "n", "size", "resolution", "aspect_ratio", "quality", "output_format"),
    *("policy", "rule", "config", "winner", "runner_up", "ranked", "split", "excluded", "budgets", "warnings"),
}
SELLER_FIELDS = {
    *("seller", "price", "price_per_image", "ceiling", "orders", "p50", "p90", "measured", "fidelity"),
    *("substitutions", "reasons", "signals"),
}


@pytest.fixture(scope="module")
def measured_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that has measured one cell: much quicker than its offer says. No other test has used its sellers."""
    with run_sandboxed_gateway(tmp_path_factory.mktemp("measured")) as running:
        running.sandbox.set_latency(0.0)
        for _ in range(DELIVERY_COUNT):
            create_finished_job(running, provider={"only": ["runapi"]})
        yield running


def request_quote(gateway: RunningGateway, **params: Any) -> httpx.Response:
    return gateway.http.post(QUOTES_PATH, json=BODY | params)


def get_quote(gateway: RunningGateway, **params: Any) -> dict[str, Any]:
    quote: dict[str, Any] = request_quote(gateway, **params).raise_for_status().json()
    return quote


def run_explain(gateway: RunningGateway, *options: str, **environ: str) -> Result:
    environ = {"NO_PROXY": "127.0.0.1", "IGW_KEY": API_KEY, **environ}
    return CliRunner(env=environ).invoke(main, ["explain", "--live", gateway.url, *options])


def test_quote_has_the_plan_and_buys_nothing(gateway: RunningGateway) -> None:
    charges, jobs = gateway.sandbox.list_charges(), gateway.http.get(JOBS_PATH).json()["first_id"]
    answer = request_quote(gateway, n=3, size="1536x1024", quality="high", style="vivid")
    quote = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    assert (set(quote), quote["object"], len(quote["config"])) == (QUOTE_FIELDS, "quote", 12)
    assert all(set(seller) == SELLER_FIELDS for seller in quote["ranked"])
    assert (quote["winner"], quote["runner_up"]) == tuple(quote["ranked"][:2])
    assert (quote["n"], quote["size"], quote["quality"], quote["policy"]) == (3, "1536x1024", "high", "cheapest")
    for seller in quote["ranked"]:
        assert seller["price"] == pytest.approx(3 * seller["price_per_image"])
        assert 0 < seller["price"] <= seller["ceiling"]
        assert 0 < seller["p50"] <= seller["p90"]
        assert seller["reasons"]
    assert any(warning.startswith("style_ignored") for warning in quote["warnings"])
    assert gateway.sandbox.list_charges() == charges
    assert gateway.http.get(JOBS_PATH).json()["first_id"] == jobs


def test_quote_is_the_plan_of_the_job(gateway: RunningGateway) -> None:
    params = {"n": 2, "resolution": "2k", "aspect_ratio": "16:9", "policy": "steady"}
    quote, plan = get_quote(gateway, **params), create_finished_job(gateway, **params)["plan"]
    assert [(seller["seller"], seller["price"]) for seller in quote["ranked"]] == [
        (seller["seller"], seller["quote"]) for seller in plan["sellers"]
    ]
    for name in ("size", "resolution", "aspect_ratio", "quality", "output_format", "rule"):
        assert quote[name] == plan[name]


def test_quote_says_why_other_sellers_are_excluded(gateway: RunningGateway) -> None:
    every_seller = {seller["seller"] for seller in get_quote(gateway)["ranked"]}
    quote = get_quote(gateway, provider={"only": ["runapi"]})
    assert [seller["seller"] for seller in quote["ranked"]] == ["runapi"]
    assert quote["runner_up"] is None
    reasons = {entry["seller"]: entry["reasons"] for entry in quote["excluded"]}
    assert every_seller - {"runapi"} <= reasons.keys()
    assert reasons["runflow-run"] == ["not listed in 'only'"]
    unaffordable = get_quote(gateway, max_price="0.0001")
    assert (unaffordable["winner"], unaffordable["ranked"]) == (None, [])
    assert all("is above $0.0001" in entry["reasons"][0] for entry in unaffordable["excluded"] if entry["price"])


def test_quote_of_an_edit_has_the_price_of_its_inputs(gateway: RunningGateway) -> None:
    image = {"b64_json": base64.b64encode(gateway.sandbox.fetch_sample_image(1536, 1024)).decode()}
    quote = get_quote(gateway, operation="edit", image=[image, image])
    assert (quote["operation"], quote["size"]) == ("edit", "1536x1024")
    assert quote["winner"]


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({"quality": "best"}, "invalid_value", "quality"),
        ({"nn": 1}, "unknown_parameter", "nn"),
        ({"policy": "unknown"}, "invalid_value", "policy"),
        ({"n": 11}, "invalid_value", "n"),
        ({"operation": "edit"}, "missing_required_parameter", "image"),
        ({"provider": {"only": ["runaip"]}}, "invalid_value", "provider.only"),
    ],
)
def test_invalid_request_has_the_error_of_a_job(
    gateway: RunningGateway, params: dict[str, Any], code: str, param: str
) -> None:
    error = expect_final_error(request_quote(gateway, **params), 400, code)
    job_error = gateway.http.post(JOBS_PATH, json=BODY | params).json()["error"]
    assert error["param"] == job_error["param"] == param
    assert job_error["message"] == f"{error['message']} You were not charged."


def test_quote_needs_a_key(gateway: RunningGateway) -> None:
    headers = {"authorization": "Bearer unknown"}
    expect_final_error(gateway.http.post(QUOTES_PATH, json=BODY, headers=headers), 401, "invalid_api_key")
    expect_final_error(gateway.http.get(QUOTES_PATH), 405)
    expect_final_error(gateway.http.get("/v1/signals"), 404, "route_not_found")


def test_quote_has_measured_times_and_conformance(measured_gateway: RunningGateway) -> None:
    ranked = {seller["seller"]: seller for seller in get_quote(measured_gateway)["ranked"]}
    signals = ranked["runapi"]["signals"]
    assert (signals["healthy"], signals["conformance"], signals["deliveries"]) == (True, 1.0, DELIVERY_COUNT)
    assert 0 < ranked["runapi"]["p50"] <= ranked["runapi"]["p90"] < 10
    assert (ranked["runapi"]["measured"], ranked["runflow-run"]["measured"]) == (True, False)


def test_explain_live_shows_the_quote_of_the_gateway(measured_gateway: RunningGateway) -> None:
    result = run_explain(measured_gateway, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["winner"]["seller"] == get_quote(measured_gateway)["winner"]["seller"]
    table = run_explain(measured_gateway, "--quality", "high", "-n", "2", "--only", "runapi")
    assert table.exit_code == 0, table.stderr
    assert "policy cheapest (default)" in table.stdout
    assert "out runflow-run: not listed in 'only'" in table.stdout


def test_explain_live_quotes_edits_without_images(gateway: RunningGateway) -> None:
    options = ("--operation", "edit", "--inputs", "2", "--mask", "--max-cost", "0.5", "--metadata", "a=b")
    result = run_explain(gateway, *options, "--json")
    assert result.exit_code == 0, result.output
    quote = json.loads(result.stdout)
    assert quote["operation"] == "edit"
    assert any("mask" in reason for entry in quote["excluded"] for reason in entry["reasons"])


def test_new_gateway_plans_like_explain(tmp_path: Path) -> None:
    """Nothing is measured yet, and the sandbox's sellers have lower expected latencies than the files say."""
    with run_sandboxed_gateway(tmp_path) as fresh:
        plan = json.loads(run_explain(fresh, "--policy", "fast", "--json").stdout)
        answer = fresh.http.post(JOBS_PATH, json={"prompt": "a", "policy": "fast"}, headers={"prefer": "wait=30"})
    assert {(entry["p50"], entry["p90"], entry["measured"]) for entry in plan["ranked"]} == {(0.3, 1.0, False)}
    assert plan["winner"]["seller"] == answer.headers["x-igw-seller"]


def test_explain_live_exits_with_3_without_a_seller(gateway: RunningGateway) -> None:
    result = run_explain(gateway, "--max-price", "0.0001")
    assert (result.exit_code, "no seller can fulfil this request" in result.stdout) == (3, True)


def test_explain_live_errors_say_what_to_do(gateway: RunningGateway) -> None:
    assert "Use another with --key" in run_explain(gateway, "--key", "unknown").stderr
    assert "--live requires a team's key" in run_explain(gateway, IGW_KEY="").stderr
    assert "Is the gateway running?" in run_explain(gateway, "--live", "http://127.0.0.1:9").stderr
    assert "like http://127.0.0.1:8080" in run_explain(gateway, "--live", "127.0.0.1:8080").stderr
    assert "Is it an image-gateway?" in run_explain(gateway, "--live", f"{gateway.sandbox.url}").stderr
    assert "the key decides the team" in run_explain(gateway, "--team", "design").stderr
    assert "policy 'unknown' not found" in run_explain(gateway, "--policy", "unknown").stderr
    for result in (run_explain(gateway, "--key", "unknown"), run_explain(gateway, "--live", "http://127.0.0.1:9")):
        assert result.exit_code == 1
        assert "Traceback" not in result.stderr
        assert "unknown" not in result.stderr
