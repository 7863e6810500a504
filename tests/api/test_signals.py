"""What the gateway has learned is there for whoever plans: over HTTP, and for `image-gateway explain --live`."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from tests.api.answers import JOBS, refused
from tests.api.test_jobs import made
from tests.serving import CONFIG, KEY, Serving, serving

CELL = ("gpt-image-2", "generate", "1k", "high")
MEMBERS = {
    *("seller", "model", "operation", "resolution", "quality"),
    *("healthy", "p50", "p90", "measured", "load", "conformance", "faithful", "deliveries", "has_key"),
}


@pytest.fixture(scope="module")
def experienced(gateway_process: Serving) -> Serving:
    """A gateway that has seen enough of a cell to have an opinion: it is much quicker than its offer says."""
    gateway_process.vendors.control("DELETE", "/faults")
    gateway_process.vendors.latency(0.0)
    for _ in range(12):
        made(gateway_process, provider={"only": ["runapi"]})
    return gateway_process


def explain(gateway: Serving, *options: str, **environ: str) -> Result:
    environ = {"NO_PROXY": "127.0.0.1", "IGW_KEY": KEY, "IGW_CONFIG": str(CONFIG), **environ}
    return CliRunner(env=environ).invoke(main, ["explain", "--live", gateway.url, *options])


def known(gateway: Serving, seller: str) -> dict[str, Any]:
    data = gateway.http.get("/v1/signals").json()["data"]
    cells = [one for one in data if (one["seller"], one["model"]) == (seller, CELL[0])]
    return next(one for one in cells if (one["operation"], one["resolution"], one["quality"]) == CELL[1:])


def test_known_cells_are_told_with_all_that_is_known(experienced: Serving) -> None:
    answer = experienced.http.get("/v1/signals")
    assert answer.headers["cache-control"] == "no-store"
    said = answer.json()
    assert (said["object"], len(said["config"])) == ("list", 12)
    assert all(set(one) == MEMBERS for one in said["data"])
    cell = known(experienced, "runapi")
    assert (cell["healthy"], cell["conformance"], cell["measured"], cell["has_key"]) == (True, 1.0, True, True)
    assert cell["faithful"]
    assert cell["deliveries"] >= 12, "those of other tests count, too"
    assert 0 < cell["p50"] <= cell["p90"] < 10


def test_only_teams_may_ask(gateway: Serving) -> None:
    refused(gateway.http.get("/v1/signals", headers={"authorization": "Bearer nobody"}), 401, "invalid_api_key")
    refused(gateway.http.post("/v1/signals"), 405)


def test_explain_plans_with_what_the_running_gateway_knows(experienced: Serving) -> None:
    done = explain(experienced, "--json")
    assert (done.exit_code, done.stderr) == (0, "no seller's key is set here: planning as though all were\n")
    ranked = {one["seller"]: one for one in json.loads(done.stdout)["ranked"]}
    cell = known(experienced, "runapi")
    assert ranked["runapi"]["signals"]["p90"] == pytest.approx(cell["p90"], rel=0.2)
    assert ranked["runapi"]["seconds"] < 10
    assert ranked["runflow-run"]["signals"]["p90"] is None
    assert "expected" in explain(experienced).stdout


def test_whoever_has_only_just_started_plans_as_explain_says(tmp_path: Path) -> None:
    """Nothing is measured yet, and the sandbox's sellers are expected to be quicker than the files say."""
    with serving(tmp_path) as fresh:
        told = fresh.http.get("/v1/signals").json()["data"]
        assert {(one["p50"], one["p90"], one["measured"]) for one in told} == {(0.3, 1.0, False)}
        plan = json.loads(explain(fresh, "--policy", "fast", "--json").stdout)
        answer = fresh.http.post(JOBS, json={"prompt": "a", "policy": "fast"}, headers={"prefer": "wait=30"})
    assert {(one["seconds"], one["signals"]["p50"]) for one in plan["ranked"]} == {(0.3, None)}
    assert plan["ranked"][0]["seller"] == answer.headers["x-igw-seller"]


def test_another_configuration_is_warned_of(experienced: Serving, tmp_path: Path) -> None:
    shutil.copytree(CONFIG, tmp_path / "config")
    with (tmp_path / "config" / "gateway.yaml").open("a") as file:
        file.write("\n# another\n")
    done = explain(experienced, "--config", str(tmp_path / "config"))
    assert done.exit_code == 0, done.stderr
    assert "the gateway runs configuration" in done.stderr


def test_whatever_is_in_the_way_is_said_with_what_to_do(gateway: Serving) -> None:
    assert "give another one with --key" in explain(gateway, "--key", "nobody").stderr
    assert "--live needs a team's key" in explain(gateway, IGW_KEY="").stderr
    assert "is the gateway running?" in explain(gateway, "--live", "http://127.0.0.1:9").stderr
    assert "write it like http://127.0.0.1:8080" in explain(gateway, "--live", "127.0.0.1:8080").stderr
    assert "is it an image-gateway?" in explain(gateway, "--live", f"{gateway.vendors.url}").stderr
    for done in (explain(gateway, "--key", "nobody"), explain(gateway, "--live", "http://127.0.0.1:9")):
        assert done.exit_code == 1
        assert "Traceback" not in done.stderr
        assert "nobody" not in done.stderr
