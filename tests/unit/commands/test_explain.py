"""`image-gateway explain` as an operator uses it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from tests.serving import CONFIG, ROOT
from tests.unit.config.base import FILES, KEYS, write

RANKED = {
    *("seller", "adapter", "quote_micros", "quote_usd", "ceiling_micros", "ceiling_usd"),
    *("seconds", "fidelity", "substitutions", "signals", "reasons"),
}


@pytest.fixture(autouse=True)
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("FORCE_COLOR", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("IGW_CONFIG", str(write(tmp_path)))
    return tmp_path


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["explain", *arguments])


def answer(*arguments: str) -> dict[str, Any]:
    result = ask(*arguments, "--json")
    assert result.exit_code in (0, 3), result.output
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_json_has_exactly_the_promised_members() -> None:
    found = answer()
    assert set(found) == {"ranked", "excluded", "policy", "rule", "config"}
    assert [set(one) for one in found["ranked"]] == [RANKED] * 2
    assert all(set(one) == {"seller", "reasons"} for one in answer("--resolution", "4k")["excluded"])
    first = found["ranked"][0]
    assert (first["seller"], first["adapter"], first["quote_micros"], first["quote_usd"]) == (
        *("by-shape", "runapi", 60_000, "0.06"),
    )
    assert (first["seconds"], first["fidelity"], first["substitutions"]) == (35, "exact", [])
    asked = answer("--quality", "high")["ranked"][0]
    assert (asked["fidelity"], asked["substitutions"]) == ("near", ["quality_not_selectable"])
    assert "high cannot be ordered here" in asked["reasons"][-1]
    assert set(first["signals"]) == {
        *("healthy", "p50", "p90", "load", "conformance", "faithful", "deliveries"),
    }
    assert (found["policy"], found["rule"], len(found["config"])) == ("cheapest", "default", 12)


CHANGES = {
    "--operation": ([], ["--operation", "edit"]),
    "--model": (["--model", "picture-1"], ["--model", "other"]),
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
def with_more(configured: Path) -> None:
    """Another model, one that takes a single input, and a rule on metadata, for options that need them."""
    pixel = FILES["offers/by-pixel.yaml"]
    block = pixel.partition("offers:\n")[2]
    few = block.replace("picture-2:", "few:", 1).replace("inputs: 16", "inputs: 1")
    other = block.replace("picture-2:", "other:", 1).replace("0.133", "0.134")
    tokens = '    tokens: {input_text: "5.00", input_image: "8.00", output: "30.00"}\n'
    counted = block.replace("picture-2:", "counted:", 1).rstrip() + "\n" + tokens
    rule = "rules:\n  - when: {metadata: {purpose: test}}\n    use: steady\n"
    write(
        configured,
        {
            "models.yaml": FILES["models.yaml"] + "  few: {}\n  other: {}\n  counted: {}\n",
            "offers/by-pixel.yaml": pixel + few + other + counted,
            "policies.yaml": FILES["policies.yaml"].replace("rules:\n", rule),
        },
    )


@pytest.mark.usefixtures("with_more")
@pytest.mark.parametrize("option", CHANGES)
def test_every_option_changes_the_answer(option: str) -> None:
    without, with_it = CHANGES[option]
    assert answer(*without) != answer(*with_it)


def test_every_option_is_tried() -> None:
    options = {option for param in main.commands["explain"].params for option in param.opts}
    assert options - CHANGES.keys() == {"--config", "--json", "--draw", "--live", "--key"}


def test_luck_changes_the_order_of_a_weighted_policy() -> None:
    plans = [answer("--policy", "split", "--draw", luck) for luck in ("0.0", "0.999")]
    orders = [[one["seller"] for one in plan["ranked"]] for plan in plans]
    assert orders[0] == orders[1][::-1]


WRONG = {
    ("--operation", "draw"): "'draw' is not one of 'generate', 'edit'",
    ("--model", "picture-3"): "there is no model 'picture-3'; did you mean 'picture-2'?",
    ("--size", "big"): "size must look like 1536x1024",
    ("--size", "1000x1000"): "multiples of 16",
    ("--size", "1024x1024", "--resolution", "4k"): "give one of the two",
    ("--resolution", "8k"): "'8k' is not one of '1k', '2k', '4k'",
    ("--aspect-ratio", "wide"): "aspect_ratio must look like 16:9",
    ("--quality", "best"): "'best' is not one of",
    ("--format", "gif"): "'gif' is not one of",
    ("-n", "0"): "0 is not in the range",
    ("-n", "5"): "picture-2 makes 4 images at most",
    ("--inputs", "2"): "only edits take input images and a mask",
    ("--mask",): "only edits take input images and a mask",
    ("--team", "desing"): "there is no team 'desing'; did you mean 'design'?",
    ("--policy", "stedy"): "there is no policy 'stedy'; did you mean 'steady'?",
    ("--draw", "1"): "1.0 is not in the range",
    ("--team", "design", "--policy", "stedy"): "there is no policy 'stedy'; did you mean 'steady'?",
    ("--team", "design", "--policy", "split"): "team 'design' may not choose policy 'split'",
    ("--max-price", "-1"): "an amount cannot be negative",
    ("--max-cost", "1.0000001"): "six decimals at most",
    ("--max-seconds", "0"): "0.0 is not in the range",
    ("--max-seconds", "nan"): "'nan' is no number of seconds",
    ("--only", "by-pixels"): "there is no seller 'by-pixels'; did you mean 'by-pixel'?",
    ("--ignore", "nobody"): "there is no seller 'nobody'",
    ("--metadata", "purpose"): "'purpose' is no name=value",
    ("--colour",): "No such option",
}


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_a_bad_option_is_told_and_ends_with_2(arguments: tuple[str, ...]) -> None:
    result = ask(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert WRONG[arguments] in " ".join(result.stderr.split())


def test_where_nobody_is_left_it_says_why_and_ends_with_3() -> None:
    result = ask("--max-price", "0.001")
    assert result.exit_code == 3
    assert "nobody can take this request" in result.stdout
    assert "out  by-pixel  $0.133 per image is above $0.001" in result.stdout
    found = answer("--max-price", "0.001")
    assert found["ranked"] == []
    assert {one["seller"] for one in found["excluded"]} == {"by-pixel", "by-shape"}


def test_a_broken_configuration_ends_with_1_and_its_problems_on_stderr(configured: Path) -> None:
    (configured / "models.yaml").write_text("models: {}\n")
    result = ask("--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "models.yaml:1: models: must name at least one" in result.stderr


def test_without_any_key_it_plans_as_though_all_were_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name)
    result = ask("--json")
    assert result.exit_code == 0
    assert len(json.loads(result.stdout)["ranked"]) == 2
    assert "planning as though all were" in result.stderr


def test_the_table_is_readable_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = ask("--operation", "edit", "--size", "1536x1024", "--quality", "low", "--format", "webp").stdout
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in shown
    assert lines[1].split() == ["seller", "quote", "per", "image", "orders", "expected", "fidelity"]
    assert any("nobody has checked that these pixels can be ordered" in line for line in lines)


def test_names_that_look_like_markup_are_shown_as_they_are(configured: Path) -> None:
    text = FILES["policies.yaml"].replace("cheapest", '"[red]cheap[/red]"')
    teams = FILES["teams.yaml"].replace("cheapest, ", "")
    write(configured, {"policies.yaml": text, "teams.yaml": teams})
    assert "policy [red]cheap[/red] (default)" in ask().stdout


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The real program, its output piped."""
    program = str(Path(sys.executable).parent / "image-gateway")
    inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environ = {"IGW_CONFIG": str(CONFIG), **environ}
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, cwd=ROOT, env=inherited | environ
    )


def test_the_program_answers_from_a_whole_configuration() -> None:
    keys = {"RUNFLOW_API_KEY": "first key", "RUNAPI_API_KEY": "second key"}
    done = run("explain", "--resolution", "4k", "--quality", "low", "-n", "3", "--team", "design", "--json", **keys)
    assert (done.returncode, done.stderr) == (0, "")
    first = json.loads(done.stdout)["ranked"][0]
    assert (first["seller"], first["quote_usd"]) == ("runflow-runs", "0.027")


def test_colour_is_for_terminals() -> None:
    assert "\x1b[" not in run("explain").stdout
    assert "\x1b[" in run("explain", FORCE_COLOR="1").stdout
    assert "\x1b[" not in run("explain", "--json", FORCE_COLOR="1").stdout
