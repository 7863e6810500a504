"""A team whose requests are degraded instead of rejected when a budget does not suffice."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from gateway.routing.decision_record import DecisionRecord, decode_decision_record
from tests.api.error_responses import parse_error
from tests.harness.gateway_runner import CONFIG, RunningGateway, make_client, run_sandboxed_gateway
from tests.harness.key_admin import create_key
from tests.harness.sample_images import make_image

PROMPT = {"prompt": "a lighthouse"}
WAIT = {"prefer": "wait=30"}


@pytest.fixture(scope="module")
def degrading_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("degrade")
    shutil.copytree(CONFIG, folder / "config")
    teams = folder / "config" / "teams.yaml"
    name = "keys: [env:IGW_KEY_DESIGN]"
    teams.write_text(teams.read_text().replace(name, f"{name}\n    over_budget: degrade"))
    with run_sandboxed_gateway(folder, environ={"IGW_CONFIG": str(folder / "config")}) as gateway:
        yield gateway


def get_hold(gateway: RunningGateway, **params: Any) -> float:
    """Returns what the request may cost."""
    key = create_key(gateway, budget={"lifetime": "100.00"})["key"]
    with make_client(gateway.url, key) as client:
        budgets = client.post("/v1/quotes", json=PROMPT | params).json()["budgets"]
    return float(next(budget["hold"] for budget in budgets if budget["window"] == "lifetime"))


def post_job(gateway: RunningGateway, budget: float, team: str = "design", **params: Any) -> httpx.Response:
    """Orders with a new key that has this budget."""
    key = create_key(gateway, team, budget={"lifetime": f"{budget:.6f}"})["key"]
    with make_client(gateway.url, key) as client:
        return client.post("/v1/jobs", json=PROMPT | params, headers=WAIT)


def load_decision_record(gateway: RunningGateway, job_id: str) -> DecisionRecord:
    with closing(sqlite3.connect(gateway.folder / "data" / "gateway.db")) as database:
        [[data]] = database.execute("SELECT record FROM decision_records WHERE job_id = ?", (job_id,))
    return decode_decision_record(data)


def list_degradations(answer: httpx.Response) -> list[str]:
    return [warning for warning in answer.json()["warnings"] if warning.startswith("degraded_for_budget: ")]


def test_quality_is_lowered_by_as_little_as_fits(degrading_gateway: RunningGateway) -> None:
    answer = post_job(degrading_gateway, get_hold(degrading_gateway, quality="medium"), quality="high")
    assert answer.status_code == 200, answer.text
    expected = "degraded_for_budget: quality medium instead of high, since the budget does not suffice for more"
    assert list_degradations(answer) == [expected]
    assert expected in answer.headers["x-igw-warnings"]
    job = answer.json()
    assert (job["requested"]["quality"], job["effective"]["quality"]) == ("high", "medium")
    record = load_decision_record(degrading_gateway, job["id"])
    assert record.query.request.quality == "medium"
    assert record.degraded_from is not None
    assert record.degraded_from.quality == "high"


def test_request_within_its_budget_is_not_degraded(degrading_gateway: RunningGateway) -> None:
    answer = post_job(degrading_gateway, get_hold(degrading_gateway, quality="high"), quality="high")
    assert (answer.status_code, list_degradations(answer)) == (200, [])


def test_resolution_is_lowered_after_quality(degrading_gateway: RunningGateway) -> None:
    params: dict[str, Any] = {"resolution": "4k", "aspect_ratio": "16:9", "n": 2}
    hold = get_hold(degrading_gateway, **params | {"resolution": "1k"}, quality="low")
    answer = post_job(degrading_gateway, hold, **params, quality="high")
    assert answer.status_code == 200, answer.text
    [warning] = list_degradations(answer)
    assert "quality low instead of high, resolution 1k instead of 4k" in warning
    assert len(answer.json()["images"]) == 2


def test_size_in_pixels_stays(degrading_gateway: RunningGateway) -> None:
    hold = get_hold(degrading_gateway, size="2048x2048", quality="low")
    answer = post_job(degrading_gateway, hold, size="2048x2048", quality="high")
    assert answer.status_code == 200, answer.text
    [warning] = list_degradations(answer)
    assert "resolution" not in warning
    answer = post_job(degrading_gateway, hold - 0.000001, size="2048x2048", quality="high")
    assert (answer.status_code, parse_error(answer)["code"]) == (429, "insufficient_quota")


def test_request_that_fits_in_no_form_is_refused_as_asked_for(degrading_gateway: RunningGateway) -> None:
    answer = post_job(degrading_gateway, 0.000001, quality="high")
    hold = get_hold(degrading_gateway, quality="high")
    assert (answer.status_code, parse_error(answer)["code"]) == (429, "insufficient_quota")
    assert f"this request may cost ${hold:.6f}".rstrip("0") in parse_error(answer)["message"]


def test_edit_is_degraded_with_its_inputs(degrading_gateway: RunningGateway) -> None:
    key = create_key(degrading_gateway, budget={"lifetime": "0.16"})["key"]
    with make_client(degrading_gateway.url, key) as client:
        files = {"image": ("cat.png", make_image(64, 64), "image/png")}
        form = PROMPT | {"quality": "high", "size": "1024x1024"}
        answer = client.post("/v1/images/edits", data=form, files=files)
    assert answer.status_code == 200, answer.text
    assert "degraded_for_budget: quality " in answer.headers["x-igw-warnings"]


def test_other_teams_are_refused(degrading_gateway: RunningGateway) -> None:
    hold = get_hold(degrading_gateway, quality="low")
    answer = post_job(degrading_gateway, hold, "marketing", quality="high")
    assert (answer.status_code, parse_error(answer)["code"]) == (429, "insufficient_quota")
