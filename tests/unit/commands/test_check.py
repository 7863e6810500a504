"""`image-gateway check`, as operators and CI use it."""

import itertools
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.commands.winning_sellers import summarize_cells
from providers.orders import Cell, Operation
from tests.harness.cli_runner import run_installed_program
from tests.harness.image_model import ALL_CELLS, RESOLUTIONS, make_model
from tests.unit.config.sample_config import SAMPLE_ENVIRON, SAMPLE_FILES, write_config

MODEL = make_model()


def run_check(folder: Path, *arguments: str, environ: dict[str, str] = SAMPLE_ENVIRON) -> Result:
    unset = dict.fromkeys(("FORCE_COLOR", "COLUMNS", *SAMPLE_ENVIRON))
    return CliRunner().invoke(main, ["check", "--config", str(folder), *arguments], env=unset | environ)


def test_valid_configuration_exits_0_and_shows_every_cell(tmp_path: Path) -> None:
    result = run_check(write_config(tmp_path))
    assert (result.exit_code, result.stderr) == (0, "")
    rows = [line.split() for line in result.stdout.splitlines()]
    cells = [row for row in rows if row[:1] and row[0] in RESOLUTIONS]
    # All cells by the default policy, then the 4k cells and the edits by the policies of their rules.
    assert len(cells) == len(ALL_CELLS) + len(ALL_CELLS) // 3 + len(ALL_CELLS) // 2
    assert cells[2] == ["1k", "high", "by-shape", "~", "$0.06", "by-pixel", "$0.133"]
    assert cells[3] == ["2k", "low", "by-pixel", "$0.009", "by-shape", "~", "$0.06"]
    assert result.stdout.count("one image at 16:9") == 5
    assert "policy steady (rule 1: " in " ".join(result.stdout.split())
    assert f"{tmp_path} is valid (config " in result.stdout


def test_output_fits_80_columns(tmp_path: Path) -> None:
    table, _, _ = run_check(write_config(tmp_path)).stdout.partition("warning")
    assert max(map(len, table.splitlines())) <= 80
    assert "…" not in table
    rows = [line for line in table.splitlines() if line[:2] in RESOLUTIONS]
    assert rows
    assert not [row for row in rows if row != row.rstrip()]


def test_quiet_prints_only_warnings(tmp_path: Path) -> None:
    lines = run_check(write_config(tmp_path), "--quiet").stdout.splitlines()
    assert all(line.startswith(("warning: ", str(tmp_path))) for line in lines)
    assert lines


def test_problems_go_to_stderr_one_per_line_with_count(tmp_path: Path) -> None:
    files = SAMPLE_FILES | {"models.yaml": "models: {image-2: {max_images: 0}}\n", "gateway.yaml": "reload: 1\n"}
    result = run_check(write_config(tmp_path, files))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        f"error: {tmp_path}/gateway.yaml:1: reload: Invalid value. Write a mapping with: watch, every_seconds",
        f"error: {tmp_path}/models.yaml:1: models.image-2.max_images: must be a whole number from 1 to 10, not 0",
        f"2 problems in {tmp_path}: this configuration would be rejected",
    ]


def test_single_problem_is_counted_in_singular(tmp_path: Path) -> None:
    assert "\n1 problem in " in run_check(write_config(tmp_path, SAMPLE_FILES | {"gateway.yaml": "reload: 1\n"})).stderr


def test_one_missing_key_is_warning_and_all_missing_is_error(tmp_path: Path) -> None:
    one_missing = run_check(write_config(tmp_path), environ={"RUNFLOW_KEY": "abc"})
    assert one_missing.exit_code == 0
    assert "env:RUNAPI_KEY not found" in one_missing.stderr
    all_missing = run_check(tmp_path, environ={})
    assert all_missing.exit_code == 1
    assert "No account has an API key" in all_missing.stderr


def test_without_secrets_option_needs_no_environment(tmp_path: Path) -> None:
    result = run_check(write_config(tmp_path), "--without-secrets", environ={})
    assert (result.exit_code, result.stderr) == (0, "")


def test_missing_folder_is_error(tmp_path: Path) -> None:
    result = run_check(tmp_path / "none")
    assert result.exit_code == 1
    assert "Folder not found" in result.stderr


def test_rule_that_never_matches_is_warning(tmp_path: Path) -> None:
    policies = SAMPLE_FILES["policies.yaml"].replace("{team: design, resolution: 4k}", "{}")
    result = run_check(write_config(tmp_path, SAMPLE_FILES | {"policies.yaml": policies}))
    assert (result.exit_code, result.stderr) == (
        0,
        f"warning: {tmp_path}/policies.yaml:14: rules[1]: Never matches: rule 1 matches all its requests first\n",
    )


SUSPICIOUS_CHANGES = {
    "the policy excludes every seller": ("policies.yaml", "    within: 5%", '    max_price: "0.01"'),
    "is the only seller that is tried: no failover": ("policies.yaml", "    within: 5%", "    ignore: [by-shape]"),
    "image-2: by-shape wins on an assumption: quality_not_selectable": ("gateway.yaml", "true", "true"),
    "failover from by-shape to by-pixel more than doubles the price": ("gateway.yaml", "true", "true"),
    "failover from by-pixel to by-shape changes the delivered image": ("gateway.yaml", "true", "true"),
    "by-shape: no policy in use reaches its offer of image-2": (
        *("policies.yaml", SAMPLE_FILES["policies.yaml"]),
        "policies: {cheapest: {rank: cost, ignore: [by-shape]}}\ndefault: cheapest\n",
    ),
    "policy split is unused: not the default, not in a rule, not in a team": (
        "policies.yaml",
        "use: split",
        "use: steady",
    ),
}


@pytest.mark.parametrize("warning", SUSPICIOUS_CHANGES)
def test_suspicious_configuration_gives_warning(warning: str, tmp_path: Path) -> None:
    name, old, new = SUSPICIOUS_CHANGES[warning]
    files = SAMPLE_FILES | {name: SAMPLE_FILES[name].replace(old, new)}
    if "no policy" in warning:
        files["teams.yaml"] = "teams: {design: {policies: [cheapest]}}\n"
    result = run_check(write_config(tmp_path, files), "-q")
    assert result.exit_code == 0, result.output
    assert warning in result.stdout


def test_seller_of_assumed_quality_counts_as_reachable(tmp_path: Path) -> None:
    """The policy of this test accepts only exact offers."""
    policies = "policies: {exact: {rank: cost, fidelity: exact, only: [by-shape]}}\ndefault: exact\n"
    result = run_check(write_config(tmp_path, SAMPLE_FILES | {"policies.yaml": policies, "teams.yaml": "teams: {}\n"}))
    assert result.exit_code == 0, result.output
    assert "by-shape: no policy in use reaches its offer of image-2" not in result.stdout
    assert "by-shape" in result.stdout


UNUSUAL_OFFERS = {
    "only squares": ("generate: {ratios: [1:1]}", ["--resolution", "1k", "--aspect-ratio", "1:1"]),
    "only banners": ("generate: {ratios: [3:1]}", ["--resolution", "1k", "--aspect-ratio", "3:1"]),
    "only pixels of its own": ("generate: {presets: {wide: 1504x800}}", ["--size", "1504x800"]),
}


@pytest.mark.parametrize(("size_options", "arguments"), UNUSUAL_OFFERS.values(), ids=UNUSUAL_OFFERS)
def test_offer_that_explain_ranks_first_counts_as_reachable(
    size_options: str, arguments: list[str], tmp_path: Path
) -> None:
    """For any shapes that the offer has, while another seller offers the likelier ones."""
    is_shaped = "ratios" in size_options
    offer = f"""\
account: runapi
adapter: {"runapi" if is_shaped else "runflow_runs"}
offers:
  image-2:
    model: image-2
    images_per_order: 1
    quality: {{{"assumes: high" if is_shaped else "selectable: [low, medium, high]"}}}
    {size_options}
    seconds: {{any: {{p50: 35, p90: 60}}}}
    prices: [{{price: "0.001", operations: [generate], resolutions: [1k], source: page, date: 2026-07-23}}]
"""
    write_config(tmp_path, SAMPLE_FILES | {"offers/odd.yaml": offer})
    explained = CliRunner().invoke(main, ["explain", "--config", str(tmp_path), *arguments], env=SAMPLE_ENVIRON)
    assert explained.exit_code == 0, explained.output
    assert explained.stdout.split("1  ", 1)[1].split()[0] == "odd", explained.stdout
    result = run_check(tmp_path)
    assert "odd: no policy in use" not in result.stdout


def test_cell_sold_only_in_other_ratio_is_shown_in_that_ratio(tmp_path: Path) -> None:
    pixel = SAMPLE_FILES["offers/by-pixel.yaml"].replace("qualities: [medium, high]", "qualities: [medium]")
    shape = SAMPLE_FILES["offers/by-shape.yaml"].replace("unsold: [1:1@4k]", "unsold: [16:9@2k]")
    files = SAMPLE_FILES | {"offers/by-pixel.yaml": pixel, "offers/by-shape.yaml": shape}
    rows = [line.split() for line in run_check(write_config(tmp_path, files)).stdout.splitlines()]
    assert ["2k", "1:1", "high", "by-shape", "~", "$0.06", "none", "–"] in rows


def select_cells(*selections: str) -> list[Cell]:
    return [
        cell
        for cell in ALL_CELLS
        if any(set(selection.split()) <= set(map(str, _list_values(cell))) for selection in selections)
    ]


def _list_values(cell: Cell) -> tuple[Operation, str, str]:
    return cell.operation, cell.resolution, cell.quality


SUMMARIES = {
    "everywhere": ["generate", "edit"],
    "edit: all": ["edit"],
    "generate: 1k low": ["generate 1k low"],
    "generate and edit: high": ["high"],
    "generate and edit: 4k": ["4k"],
    "generate: all but 1k/2k high": ["generate low", "generate medium", "generate 4k"],
    "generate: 1k low; edit: 4k": ["generate 1k low", "edit 4k"],
    "edit: 1k low/high, 2k": ["edit 1k low", "edit 1k high", "edit 2k"],
}


@pytest.mark.parametrize("text", SUMMARIES)
def test_cells_are_summarized_briefly(text: str) -> None:
    assert summarize_cells(MODEL, select_cells(*SUMMARIES[text])) == text


def test_different_cell_sets_have_different_summaries() -> None:
    small_cells = [cell for cell in ALL_CELLS if cell.resolution != "2k"]
    sets = [subset for size in (1, 2, 3) for subset in itertools.combinations(small_cells, size)]
    assert len({summarize_cells(MODEL, subset) for subset in sets}) == len(sets)


@pytest.mark.thorough
def test_shipped_configuration_is_valid_for_installed_program() -> None:
    result = run_installed_program("check", "--without-secrets", "--config", "config")
    assert (result.returncode, result.stderr) == (0, "")
    assert "config is valid" in result.stdout
    assert "\x1b[" not in result.stdout
    assert "\x1b[" in run_installed_program("check", "--without-secrets", FORCE_COLOR="1").stdout


def test_installed_program_exits_1_on_problems(tmp_path: Path) -> None:
    result = run_installed_program("check", "--config", str(tmp_path), **{name: os.devnull for name in SAMPLE_ENVIRON})
    assert (result.returncode, result.stdout) == (1, "")
    assert "models.yaml:1: Missing file" in result.stderr
