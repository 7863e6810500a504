"""`image-gateway explain --record`: makes the plan of a decision record again."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.routing.decision_record import PlannedRequest, encode_decision_record, make_decision_record
from gateway.routing.plan import RoutingQuery, make_plan
from gateway.routing.routing_request import RoutingRequest
from gateway.routing.signals import CellSignals
from providers.orders import Format, Operation
from tests.harness.image_model import ALL_CELLS, target_from_ratio
from tests.unit.config.sample_config import SAMPLE_ENVIRON, SAMPLE_FILES, resolve_config, write_config

OUTCOME = b'{"state":"completed","seconds":3.5}'


@pytest.fixture(autouse=True)
def config_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in SAMPLE_ENVIRON.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("IGW_CONFIG", str(write_config(tmp_path)))
    return tmp_path


def make_sample_record(folder: Path) -> bytes:
    """Makes the record of a request for which the cheaper seller was unhealthy."""
    catalogue = resolve_config(folder).catalogue
    assert catalogue is not None
    request = RoutingRequest(
        operation=Operation.GENERATE,
        model="image-2",
        n=1,
        target=target_from_ratio("16:9", "1k"),
        quality="high",
        output_format=Format.PNG,
    )
    query = RoutingQuery(request=request)
    signals = {("by-shape", "image-2", cell): CellSignals(healthy=False, p50=3.5) for cell in ALL_CELLS}
    planned = PlannedRequest(query=query, signals=signals, draw=0.25, plan=make_plan(catalogue, query, signals))
    return encode_decision_record(make_decision_record(catalogue, planned, 1_795_000_000.0))


def explain_record(data: bytes, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["explain", "--record", "-", *arguments], input=data)


def list_sellers(result: Result) -> list[tuple[str, bool]]:
    return [(entry["seller"], entry["signals"]["healthy"]) for entry in json.loads(result.stdout)["ranked"]]


@pytest.mark.parametrize("suffix", [b"", b"\n", b"\n" + OUTCOME + b"\n"], ids=["bare", "a line", "with its outcome"])
def test_plan_is_made_again_with_the_recorded_signals(config_folder: Path, suffix: bytes) -> None:
    result = explain_record(make_sample_record(config_folder) + suffix, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert list_sellers(result) == [("by-pixel", True), ("by-shape", False)]


def test_changed_configuration_is_reported_with_the_recorded_sellers(config_folder: Path) -> None:
    record = make_sample_record(config_folder)
    policies = SAMPLE_FILES["policies.yaml"].replace("rank: cost", "rank: cost\n    ignore: [by-pixel]", 1)
    (config_folder / "policies.yaml").write_text(policies)
    result = explain_record(record, "--json")
    assert list_sellers(result) == [("by-shape", False)]
    assert "the record has configuration " in result.stderr
    assert "the recorded plan was by-pixel, by-shape" in result.stderr


@pytest.mark.parametrize("data", [b"", b"{}", b"nothing", OUTCOME])
def test_other_data_is_refused(data: bytes) -> None:
    result = explain_record(data)
    assert result.exit_code == 2
    assert "--record: not a decision record" in result.stderr
