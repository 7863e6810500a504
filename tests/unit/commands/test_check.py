"""`image-gateway check` as an operator and a pipeline use it."""

import itertools
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.catalogue import CELLS, Cell
from gateway.cli import main
from gateway.coverage import in_short
from providers.orders import Operation, Quality
from providers.sizes import Resolution
from tests.unit.commands.test_explain import run
from tests.unit.config.base import FILES, KEYS, write


def check(folder: Path, *arguments: str, environ: dict[str, str] = KEYS) -> Result:
    hidden = dict.fromkeys(("FORCE_COLOR", "COLUMNS", *KEYS))
    return CliRunner().invoke(main, ["check", "--config", str(folder), *arguments], env=hidden | environ)


def test_a_right_configuration_ends_with_0_and_shows_every_cell(tmp_path: Path) -> None:
    result = check(write(tmp_path))
    assert (result.exit_code, result.stderr) == (0, "")
    rows = [line.split() for line in result.stdout.splitlines()]
    cells = [row for row in rows if row[:1] and row[0] in list(Resolution)]
    # All by the default policy, then those at 4k and those of edits, which rules give to other policies.
    assert len(cells) == len(CELLS) + len(CELLS) // 3 + len(CELLS) // 2
    assert cells[2] == ["1k", "high", "by-shape", "~", "$0.06", "by-pixel", "$0.133"]
    assert cells[3] == ["2k", "low", "by-pixel", "$0.009", "by-shape", "~", "$0.06"]
    assert result.stdout.count("one image at 16:9") == 5
    assert "policy steady (rule 1: " in " ".join(result.stdout.split())
    assert f"{tmp_path} is valid (config " in result.stdout


def test_it_is_readable_at_80_columns(tmp_path: Path) -> None:
    table, _, _ = check(write(tmp_path)).stdout.partition("warning")
    assert max(map(len, table.splitlines())) <= 80
    assert "…" not in table
    rows = [line for line in table.splitlines() if line[:2] in list(Resolution)]
    assert rows
    assert not [row for row in rows if row != row.rstrip()]


def test_quiet_shows_only_what_is_remarkable(tmp_path: Path) -> None:
    lines = check(write(tmp_path), "--quiet").stdout.splitlines()
    assert all(line.startswith(("warning: ", str(tmp_path))) for line in lines)
    assert lines


def test_problems_go_to_stderr_each_in_one_line_with_their_number(tmp_path: Path) -> None:
    files = FILES | {"models.yaml": "models: {picture-2: {most_images: 0}}\n", "gateway.yaml": "reload: 1\n"}
    result = check(write(tmp_path, files))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        f"error: {tmp_path}/gateway.yaml:1: reload: must be a block with watch, every_seconds",
        f"error: {tmp_path}/models.yaml:1: models.picture-2.most_images: must be a whole number from 1 to 10, not 0",
        f"2 problems in {tmp_path}: nothing of it would take effect",
    ]


def test_one_problem_is_one(tmp_path: Path) -> None:
    assert "\n1 problem in " in check(write(tmp_path, FILES | {"gateway.yaml": "reload: 1\n"})).stderr


def test_a_missing_key_is_a_warning_and_all_missing_an_error(tmp_path: Path) -> None:
    one = check(write(tmp_path), environ={"RUNFLOW_KEY": "abc"})
    assert one.exit_code == 0
    assert "env:RUNAPI_KEY is not there" in one.stderr
    none = check(tmp_path, environ={})
    assert none.exit_code == 1
    assert "no account has its key" in none.stderr


def test_a_pipeline_needs_no_secrets(tmp_path: Path) -> None:
    result = check(write(tmp_path), "--without-secrets", environ={})
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    result = check(tmp_path / "none")
    assert result.exit_code == 1
    assert "there is no such folder" in result.stderr


WORTH_KNOWING = {
    "the policy lets nobody sell this": ("policies.yaml", "    within: 5%", '    max_price: "0.01"'),
    "is the only one to be tried: there is no failover": ("policies.yaml", "    within: 5%", "    ignore: [by-shape]"),
    "picture-2: by-shape wins on an assumption: quality_not_selectable": ("gateway.yaml", "true", "true"),
    "failing over from by-shape to by-pixel more than doubles the price": ("gateway.yaml", "true", "true"),
    "failing over from by-pixel to by-shape changes what is delivered": ("gateway.yaml", "true", "true"),
    "by-shape: no policy in use can reach its offer of picture-2": (
        *("policies.yaml", FILES["policies.yaml"]),
        "policies: {cheapest: {rank: cost, ignore: [by-shape]}}\ndefault: cheapest\n",
    ),
    "policy split: neither the default, nor any rule, nor any team uses it": (
        "policies.yaml",
        "use: split",
        "use: steady",
    ),
}


@pytest.mark.parametrize("warning", WORTH_KNOWING)
def test_what_is_worth_knowing_is_told(warning: str, tmp_path: Path) -> None:
    name, old, new = WORTH_KNOWING[warning]
    files = FILES | {name: FILES[name].replace(old, new)}
    if "nobody" in warning:
        files["policies.yaml"] = files["policies.yaml"].replace("    within: 5%", "    ignore: [by-shape]")
    if "no policy" in warning:
        files["teams.yaml"] = "teams: {design: {policies: [cheapest]}}\n"
    result = check(write(tmp_path, files), "-q")
    assert result.exit_code == 0, result.output
    assert warning in result.stdout


def test_seller_of_an_assumed_quality_is_reachable_by_requests_that_name_none(tmp_path: Path) -> None:
    """Also where a policy takes only what is exactly as asked."""
    policies = "policies: {exact: {rank: cost, fidelity: exact, only: [by-shape]}}\ndefault: exact\n"
    result = check(write(tmp_path, FILES | {"policies.yaml": policies, "teams.yaml": "teams: {}\n"}))
    assert result.exit_code == 0, result.output
    assert "by-shape: no policy in use can reach its offer of picture-2" not in result.stdout
    assert "by-shape" in result.stdout


ODD = {
    "only squares": ("generate: {ratios: [1:1]}", ["--resolution", "1k", "--aspect-ratio", "1:1"]),
    "only banners": ("generate: {ratios: [3:1]}", ["--resolution", "1k", "--aspect-ratio", "3:1"]),
    "only pixels of its own": ("generate: {presets: {wide: 1504x800}}", ["--size", "1504x800"]),
}


@pytest.mark.parametrize(("sizing", "asked"), ODD.values(), ids=ODD)
def test_offer_that_explain_ranks_first_is_reachable(sizing: str, asked: list[str], tmp_path: Path) -> None:
    """Whatever the only shapes are that it sells, while another seller sells the likelier ones."""
    is_shaped = "ratios" in sizing
    offer = f"""\
account: runapi
adapter: {"runapi" if is_shaped else "runflow_runs"}
offers:
  picture-2:
    model: picture-2
    images_per_order: 1
    quality: {{{"assumes: high" if is_shaped else "selectable: [low, medium, high]"}}}
    {sizing}
    seconds: {{any: {{p50: 35, p90: 60}}}}
    prices: [{{price: "0.001", operations: [generate], resolutions: [1k], source: page, date: 2026-07-23}}]
"""
    write(tmp_path, FILES | {"offers/odd.yaml": offer})
    explained = CliRunner().invoke(main, ["explain", "--config", str(tmp_path), *asked], env=KEYS)
    assert explained.exit_code == 0, explained.output
    assert explained.stdout.split("1  ", 1)[1].split()[0] == "odd", explained.stdout
    result = check(tmp_path)
    assert "odd: no policy in use" not in result.stdout


def test_cell_that_is_sold_in_another_shape_only_is_shown_in_that(tmp_path: Path) -> None:
    pixel = FILES["offers/by-pixel.yaml"].replace("qualities: [medium, high]", "qualities: [medium]")
    shape = FILES["offers/by-shape.yaml"].replace("unsold: [1:1@4k]", "unsold: [16:9@2k]")
    files = FILES | {"offers/by-pixel.yaml": pixel, "offers/by-shape.yaml": shape}
    rows = [line.split() for line in check(write(tmp_path, files)).stdout.splitlines()]
    assert ["2k", "1:1", "high", "by-shape", "~", "$0.06", "nobody", "–"] in rows


def cells(*wanted: str) -> list[Cell]:
    return [cell for cell in CELLS if any(set(one.split()) <= set(map(str, _values(cell))) for one in wanted)]


def _values(cell: Cell) -> tuple[Operation, Resolution, Quality]:
    return cell.operation, cell.resolution, cell.quality


SHORT = {
    "everywhere": ["generate", "edit"],
    "edit: all": ["edit"],
    "generate: 1k low": ["generate 1k low"],
    "generate and edit: high": ["high"],
    "generate and edit: 4k": ["4k"],
    "generate: all but 1k/2k high": ["generate low", "generate medium", "generate 4k"],
    "generate: 1k low; edit: 4k": ["generate 1k low", "edit 4k"],
    "edit: 1k low/high, 2k": ["edit 1k low", "edit 1k high", "edit 2k"],
}


@pytest.mark.parametrize("text", SHORT)
def test_cells_are_told_in_few_words(text: str) -> None:
    assert in_short(cells(*SHORT[text])) == text


def test_no_two_sets_of_cells_are_told_alike() -> None:
    some = [cell for cell in CELLS if cell.resolution is not Resolution.TWO_K]
    sets = [held for size in (1, 2, 3) for held in itertools.combinations(some, size)]
    assert len({in_short(held) for held in sets}) == len(sets)


def test_the_shipped_configuration_is_valid_for_the_real_program() -> None:
    done = run("check", "--without-secrets", "--config", "config")
    assert (done.returncode, done.stderr) == (0, "")
    assert "config is valid" in done.stdout
    assert "\x1b[" not in done.stdout
    assert "\x1b[" in run("check", "--without-secrets", FORCE_COLOR="1").stdout


def test_the_real_program_ends_with_1_on_problems(tmp_path: Path) -> None:
    done = run("check", "--config", str(tmp_path), **{name: os.devnull for name in KEYS})
    assert (done.returncode, done.stdout) == (1, "")
    assert "models.yaml:1: is missing" in done.stderr
