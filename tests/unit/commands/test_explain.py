"""`image-gateway explain`, as operators use it."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from gateway.cli import load_command, main
from gateway.commands.job_report import AttemptReport, JobError, JobReport, print_job
from tests.harness.cli_runner import run_installed_program
from tests.unit.config.sample_config import SAMPLE_ENVIRON, SAMPLE_FILES, write_config

RANKED_MEMBERS = {
    *("seller", "adapter", "quote_micros", "quote_usd", "ceiling_micros", "ceiling_usd"),
    *("seconds", "fidelity", "substitutions", "signals", "reasons"),
}


@pytest.fixture(autouse=True)
def config_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("FORCE_COLOR", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in SAMPLE_ENVIRON.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("IGW_CONFIG", str(write_config(tmp_path)))
    return tmp_path


def run_explain(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["explain", *arguments])


def explain_as_json(*arguments: str) -> dict[str, Any]:
    result = run_explain(*arguments, "--json")
    assert result.exit_code in (0, 3), result.output
    result_json = json.loads(result.stdout)
    assert isinstance(result_json, dict)
    return result_json


def test_json_has_exactly_the_documented_members() -> None:
    result = explain_as_json()
    assert set(result) == {"ranked", "excluded", "split", "warnings", "policy", "rule", "config"}
    assert [set(entry) for entry in result["ranked"]] == [RANKED_MEMBERS] * 2
    assert all(set(entry) == {"seller", "reasons"} for entry in explain_as_json("--resolution", "4k")["excluded"])
    first = result["ranked"][0]
    assert (first["seller"], first["adapter"], first["quote_micros"], first["quote_usd"]) == (
        *("by-shape", "runapi", 60_000, "0.06"),
    )
    assert (first["seconds"], first["fidelity"], first["substitutions"]) == (35, "exact", [])
    with_quality = explain_as_json("--quality", "high")["ranked"][0]
    assert (with_quality["fidelity"], with_quality["substitutions"]) == ("near", ["quality_not_selectable"])
    assert "high cannot be ordered here" in with_quality["reasons"][-1]
    assert set(first["signals"]) == {
        *("healthy", "p50", "p90", "load", "conformance", "faithful", "deliveries", "refusal", "charged_price"),
    }
    assert (result["policy"], result["rule"], len(result["config"])) == ("cheapest", "default", 12)


OPTION_CASES = {
    "--operation": ([], ["--operation", "edit"]),
    "--model": (["--model", "image-1"], ["--model", "other"]),
    "--size": ([], ["--size", "3840x2160"]),
    "--resolution": ([], ["--resolution", "4k"]),
    "--aspect-ratio": (["--resolution", "1k"], ["--resolution", "1k", "--aspect-ratio", "3:1"]),
    "--quality": ([], ["--quality", "low"]),
    "--format": (["--format", "png"], ["--format", "webp"]),
    "-n": ([], ["-n", "2"]),
    "--inputs": (["--operation", "edit"], ["--operation", "edit", "--inputs", "2", "--model", "few"]),
    "--prompt": (["--model", "counted"], ["--model", "counted", "--prompt", "a lighthouse"]),
    "--mask": (["--operation", "edit"], ["--operation", "edit", "--mask"]),
    "--team": (["--resolution", "4k"], ["--resolution", "4k", "--team", "design"]),
    "--policy": (["--team", "design"], ["--team", "design", "--policy", "steady"]),
    "--max-price": ([], ["--max-price", "0.06"]),
    "--max-cost": (["-n", "2"], ["-n", "2", "--max-cost", "0.12"]),
    "--max-seconds": ([], ["--max-seconds", "50"]),
    "--only": ([], ["--only", "by-pixel"]),
    "--ignore": ([], ["--ignore", "by-pixel"]),
    "--metadata": ([], ["--metadata", "purpose=test"]),
}


@pytest.fixture
def extended_config(config_folder: Path) -> None:
    """Adds a model that accepts a single input and a rule on metadata, for options that need them."""
    pixel = SAMPLE_FILES["offers/by-pixel.yaml"]
    block = pixel.partition("offers:\n")[2]
    few = block.replace("image-2:", "few:", 1).replace("inputs: 16", "inputs: 1")
    other = block.replace("image-2:", "other:", 1).replace("0.133", "0.134")
    tokens = '    tokens: {input_text: "5.00", input_image: "8.00", output: "30.00"}\n'
    counted = block.replace("image-2:", "counted:", 1).rstrip() + "\n" + tokens
    rule = "rules:\n  - when: {metadata: {purpose: test}}\n    use: steady\n"
    write_config(
        config_folder,
        {
            "models.yaml": SAMPLE_FILES["models.yaml"] + "  few: {}\n  other: {}\n  counted: {}\n",
            "offers/by-pixel.yaml": pixel + few + other + counted,
            "policies.yaml": SAMPLE_FILES["policies.yaml"].replace("rules:\n", rule),
        },
    )


@pytest.mark.usefixtures("extended_config")
@pytest.mark.parametrize("option", OPTION_CASES)
def test_every_option_changes_the_result(option: str) -> None:
    without, with_it = OPTION_CASES[option]
    assert explain_as_json(*without) != explain_as_json(*with_it)


def test_every_option_has_a_case() -> None:
    options = {option for param in load_command("explain").params for option in param.opts}
    assert options - OPTION_CASES.keys() == {*("--config", "--json", "--draw", "--live", "--key", "--job", "--record")}


def test_draw_changes_order_of_weighted_policy() -> None:
    plans = [explain_as_json("--policy", "split", "--draw", draw) for draw in ("0.0", "0.999")]
    orders = [[entry["seller"] for entry in plan["ranked"]] for plan in plans]
    assert orders[0] == orders[1][::-1]


INVALID_OPTIONS = {
    ("--operation", "draw"): "'draw' is not one of 'generate', 'edit'",
    ("--model", "image-3"): "model 'image-3' not found; did you mean 'image-2'?",
    ("--size", "big"): "size must look like 1536x1024",
    ("--size", "1000x1000"): "multiples of 16",
    ("--size", "1024x1024", "--resolution", "4k"): "Send only one of them",
    ("--resolution", "8k"): "Invalid resolution '8k'. Use one of 1k, 2k, 4k",
    ("--aspect-ratio", "wide"): "aspect_ratio must look like 16:9",
    ("--quality", "best"): "quality 'best' not found; known: auto, low, medium, high",
    ("--format", "gif"): "format 'gif' not found; known: png, jpeg, webp",
    ("-n", "0"): "0 is not in the range",
    ("-n", "5"): "image-2 makes 4 images at most",
    ("--inputs", "2"): "only edits take input images and a mask",
    ("--mask",): "only edits take input images and a mask",
    ("--team", "desing"): "team 'desing' not found; did you mean 'design'?",
    ("--policy", "stedy"): "policy 'stedy' not found; did you mean 'steady'?",
    ("--draw", "1"): "1.0 is not in the range",
    ("--team", "design", "--policy", "stedy"): "policy 'stedy' not found; did you mean 'steady'?",
    ("--team", "design", "--policy", "split"): "team 'design' may not request policy 'split'",
    ("--max-price", "-1"): "Invalid amount. It cannot be negative",
    ("--max-cost", "1.0000001"): "at most six decimals",
    ("--max-seconds", "0"): "0.0 is not in the range",
    ("--max-seconds", "nan"): "'nan' is not a number of seconds",
    ("--only", "by-pixels"): "seller 'by-pixels' not found; did you mean 'by-pixel'?",
    ("--ignore", "unknown"): "seller 'unknown' not found",
    ("--metadata", "purpose"): "'purpose' is not name=value",
    ("--colour",): "No such option",
}


@pytest.mark.parametrize("arguments", INVALID_OPTIONS, ids=" ".join)
def test_invalid_option_exits_2_with_message(arguments: tuple[str, ...]) -> None:
    result = run_explain(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert INVALID_OPTIONS[arguments] in " ".join(result.stderr.split())


def test_without_matching_offer_exits_3_with_reasons() -> None:
    result = run_explain("--max-price", "0.001")
    assert result.exit_code == 3
    assert "no seller can fulfil this request" in result.stdout
    assert "out  by-pixel  $0.133 per image is above $0.001" in result.stdout
    explained = explain_as_json("--max-price", "0.001")
    assert explained["ranked"] == []
    assert {entry["seller"] for entry in explained["excluded"]} == {"by-pixel", "by-shape"}


def test_broken_configuration_exits_1_with_problems_on_stderr(config_folder: Path) -> None:
    (config_folder / "models.yaml").write_text("models: {}\n")
    result = run_explain("--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "models.yaml:1: models: Empty mapping. Add at least one entry" in result.stderr


def test_without_keys_it_plans_as_if_all_were_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SAMPLE_ENVIRON:
        monkeypatch.delenv(name)
    result = run_explain("--json")
    assert result.exit_code == 0
    assert len(json.loads(result.stdout)["ranked"]) == 2
    assert "planning as if all were" in result.stderr


def test_table_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    output = run_explain("--operation", "edit", "--size", "1536x1024", "--quality", "low", "--format", "webp").stdout
    lines = output.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in output
    assert lines[1].split() == ["seller", "quote", "per", "image", "orders", "expected", "fidelity"]
    assert any("it is not verified that these pixels can be ordered" in line for line in lines)


def test_names_that_look_like_markup_are_printed_literally(config_folder: Path) -> None:
    text = SAMPLE_FILES["policies.yaml"].replace("cheapest", '"[red]cheap[/red]"')
    teams = SAMPLE_FILES["teams.yaml"].replace("cheapest, ", "")
    write_config(config_folder, {"policies.yaml": text, "teams.yaml": teams})
    assert "policy [red]cheap[/red] (default)" in run_explain().stdout


def test_installed_program_plans_from_full_configuration() -> None:
    keys = {"RUNFLOW_API_KEY": "first key", "RUNAPI_API_KEY": "second key"}
    result = run_installed_program(
        "explain", "--resolution", "4k", "--quality", "low", "-n", "3", "--team", "design", "--json", **keys
    )
    assert (result.returncode, result.stderr) == (0, "")
    first = json.loads(result.stdout)["ranked"][0]
    assert (first["seller"], first["quote_usd"]) == ("runflow-runs", "0.027")


def test_colour_is_only_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" not in run_explain().stdout
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in run_explain().stdout
    assert "\x1b[" not in run_explain("--json").stdout


def test_job_is_read_from_a_running_gateway() -> None:
    without_gateway = run_explain("--job", "job_1")
    assert (without_gateway.exit_code, "set --live" in without_gateway.stderr) == (2, True)
    invalid_id = run_explain("--job", "../teams", "--live", "http://127.0.0.1:9", "--key", "k")
    assert (invalid_id.exit_code, "Invalid job id" in invalid_id.stderr) == (2, True)
    unreachable = run_explain("--job", "job_1", "--live", "http://127.0.0.1:9", "--key", "k")
    assert (unreachable.exit_code, "Is the gateway running?" in unreachable.stderr) == (1, True)


def test_job_report_shows_every_attempt_and_its_explanation() -> None:
    attempts = (
        AttemptReport(
            seller="runapi",
            images=(0,),
            state="closed",
            fault="invalid_order",
            seconds=0.25,
            seller_status=422,
            seller_code="bad_size",
            seller_message="[bold]edges[/] must be divisible by 16",
        ),
        AttemptReport(
            seller="openai", images=(0,), state="closed", delivered=1, cost=0.06, seller_notes=("cost_unreadable",)
        ),
        AttemptReport(seller="runflow", images=(1, 2), state="ticketed"),
    )
    error = JobError("order_refused", "The seller rejected the order as invalid.")
    report = JobReport(
        id="job_1", status="failed", model="m", n=3, policy="p", attempts=attempts, error=error, warnings=("a warning",)
    )
    out = io.StringIO()
    print_job(Console(file=out, width=200), report)
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert lines == [
        "job job_1 failed: 3 images of m, policy p",
        "order_refused: The seller rejected the order as invalid.",
        "a warning",
        "seller images outcome seconds cost the seller said",
        "1 runapi 0 of 1 invalid_order 0.2 $0 422 bad_size; [bold]edges[/] must be divisible by 16",
        "2 openai 1 of 1 delivered – $0.06 cost_unreadable",
        "3 runflow 0 of 2 ticketed – $0 –",
    ]
