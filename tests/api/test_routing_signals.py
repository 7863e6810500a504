"""The gateway publishes its signals: over HTTP, and for `image-gateway explain --live`."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from tests.api.error_responses import JOBS_PATH, expect_final_error
from tests.api.job_requests import create_finished_job
from tests.harness.gateway_runner import API_KEY, CONFIG, RunningGateway, run_sandboxed_gateway

DELIVERY_COUNT = 12
CELL = ("gpt-image-2", "generate", "1k", "high")
SIGNAL_FIELDS = {
    *("seller", "model", "operation", "resolution", "quality"),
    *("healthy", "p50", "p90", "measured", "load", "conformance", "faithful", "deliveries", "has_key"),
}


@pytest.fixture(scope="module")
def measured_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that has measured one cell: much quicker than its offer says. No other test has used its sellers."""
    with run_sandboxed_gateway(tmp_path_factory.mktemp("measured")) as running:
        running.sandbox.set_latency(0.0)
        for _ in range(DELIVERY_COUNT):
            create_finished_job(running, provider={"only": ["runapi"]})
        yield running


def run_explain(gateway: RunningGateway, *options: str, **environ: str) -> Result:
    environ = {"NO_PROXY": "127.0.0.1", "IGW_KEY": API_KEY, "IGW_CONFIG": str(CONFIG), **environ}
    return CliRunner(env=environ).invoke(main, ["explain", "--live", gateway.url, *options])


def get_cell_signals(gateway: RunningGateway, seller: str) -> dict[str, Any]:
    data = gateway.http.get("/v1/signals").json()["data"]
    cells = [cell for cell in data if (cell["seller"], cell["model"]) == (seller, CELL[0])]
    return next(cell for cell in cells if (cell["operation"], cell["resolution"], cell["quality"]) == CELL[1:])


def test_signals_list_every_known_cell_with_all_fields(measured_gateway: RunningGateway) -> None:
    answer = measured_gateway.http.get("/v1/signals")
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert (body["object"], len(body["config"])) == ("list", 12)
    assert all(set(signal) == SIGNAL_FIELDS for signal in body["data"])
    cell = get_cell_signals(measured_gateway, "runapi")
    assert (cell["healthy"], cell["conformance"], cell["measured"], cell["has_key"]) == (True, 1.0, True, True)
    assert cell["faithful"]
    assert cell["deliveries"] == DELIVERY_COUNT
    assert 0 < cell["p50"] <= cell["p90"] < 10


def test_signals_need_a_team_key(gateway: RunningGateway) -> None:
    expect_final_error(
        gateway.http.get("/v1/signals", headers={"authorization": "Bearer unknown"}), 401, "invalid_api_key"
    )
    expect_final_error(gateway.http.post("/v1/signals"), 405)


def test_explain_live_plans_with_the_signals_of_the_gateway(measured_gateway: RunningGateway) -> None:
    result = run_explain(measured_gateway, "--json")
    assert (result.exit_code, result.stderr) == (0, "no seller's key is set: planning as if all were\n")
    ranked = {ranked_offer["seller"]: ranked_offer for ranked_offer in json.loads(result.stdout)["ranked"]}
    cell = get_cell_signals(measured_gateway, "runapi")
    assert ranked["runapi"]["signals"]["p90"] == pytest.approx(cell["p90"], rel=0.2)
    assert ranked["runapi"]["seconds"] < 10
    assert ranked["runflow-run"]["signals"]["p90"] is None
    assert "expected" in run_explain(measured_gateway).stdout


def test_new_gateway_plans_like_explain(tmp_path: Path) -> None:
    """Nothing is measured yet, and the sandbox's sellers have lower expected latencies than the files say."""
    with run_sandboxed_gateway(tmp_path) as fresh:
        signals = fresh.http.get("/v1/signals").json()["data"]
        assert {(entry["p50"], entry["p90"], entry["measured"]) for entry in signals} == {(0.3, 1.0, False)}
        plan = json.loads(run_explain(fresh, "--policy", "fast", "--json").stdout)
        answer = fresh.http.post(JOBS_PATH, json={"prompt": "a", "policy": "fast"}, headers={"prefer": "wait=30"})
    assert {(entry["seconds"], entry["signals"]["p50"]) for entry in plan["ranked"]} == {(0.3, None)}
    assert plan["ranked"][0]["seller"] == answer.headers["x-igw-seller"]


def test_explain_live_warns_about_another_configuration(measured_gateway: RunningGateway, tmp_path: Path) -> None:
    shutil.copytree(CONFIG, tmp_path / "config")
    with (tmp_path / "config" / "gateway.yaml").open("a") as file:
        file.write("\n# another\n")
    result = run_explain(measured_gateway, "--config", str(tmp_path / "config"))
    assert result.exit_code == 0, result.stderr
    assert "the gateway runs configuration" in result.stderr


def test_explain_live_errors_say_what_to_do(gateway: RunningGateway) -> None:
    assert "Use another with --key" in run_explain(gateway, "--key", "unknown").stderr
    assert "--live requires a team's key" in run_explain(gateway, IGW_KEY="").stderr
    assert "Is the gateway running?" in run_explain(gateway, "--live", "http://127.0.0.1:9").stderr
    assert "use a form like http://127.0.0.1:8080" in run_explain(gateway, "--live", "127.0.0.1:8080").stderr
    assert "Is it an image-gateway?" in run_explain(gateway, "--live", f"{gateway.sandbox.url}").stderr
    for result in (run_explain(gateway, "--key", "unknown"), run_explain(gateway, "--live", "http://127.0.0.1:9")):
        assert result.exit_code == 1
        assert "Traceback" not in result.stderr
        assert "unknown" not in result.stderr
