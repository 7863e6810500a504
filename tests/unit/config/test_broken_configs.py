"""Every problem of a broken configuration is reported with file and line, all of a stage in one run."""

import time
import tracemalloc
from pathlib import Path

import pytest

from gateway.config.catalogue_builder import placeholder_secrets, resolve_files
from gateway.config.config_file_reader import MAX_FILE_BYTES
from gateway.config.loader import load
from providers import ADAPTERS
from tests.unit.config.broken_config_cases import BrokenConfigCase, load_cases
from tests.unit.config.sample_config import SAMPLE_FILES, list_problems, resolve_config, write_config

CASES = load_cases()
SHIPPED_CONFIG = Path(__file__).parents[3] / "config"


def test_sample_configuration_is_valid(tmp_path: Path) -> None:
    config = resolve_config(write_config(tmp_path))
    assert config.catalogue is not None
    assert config.problems == config.warnings == ()


def test_shipped_configuration_is_valid() -> None:
    config = resolve_files(load(SHIPPED_CONFIG), placeholder_secrets, ADAPTERS)
    assert config.catalogue is not None
    assert config.warnings == ()


def test_cases_are_numerous_and_uniquely_named() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 45


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_each_problem_has_file_line_and_cause(case: BrokenConfigCase, tmp_path: Path) -> None:
    config = resolve_config(write_config(tmp_path, case.apply(SAMPLE_FILES)))
    assert config.catalogue is None
    assert [str(problem).removeprefix(f"{tmp_path}/") for problem in config.problems] == list(case.expected_problems)
    assert case.expected_problems


INVALID_BYTES = {
    "not UTF-8": (b"models:\n  \xff: {}\n", "models.yaml:2: File is not UTF-8"),
    "too large": (b"#" * (MAX_FILE_BYTES + 1), "models.yaml:1: File is larger than 262,144 bytes"),
    "too large, cut within a character": (
        "é".encode() * MAX_FILE_BYTES,
        "models.yaml:1: File is larger than 262,144 bytes",
    ),
    "too deep": (b"models:\n  " + b"[" * 100_000, "models.yaml:2: File is nested deeper than 20 levels"),
    "a control character": (
        b"models:\n  a\x07b: {}\n",
        "models.yaml:2: Invalid YAML: the character #x0007 is not allowed",
    ),
}


@pytest.mark.parametrize(("data", "message"), INVALID_BYTES.values(), ids=INVALID_BYTES)
def test_invalid_bytes_are_reported(data: bytes, message: str, tmp_path: Path) -> None:
    (write_config(tmp_path) / "models.yaml").write_bytes(data)
    assert list_problems(tmp_path) == [message]


def test_alias_bomb_is_rejected_without_using_memory(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{row}: &a{row} [{', '.join([f'*a{row - 1}'] * 9)}]" for row in range(1, 40)]
    (write_config(tmp_path) / "teams.yaml").write_text("\n".join(rows))
    tracemalloc.start()
    start = time.perf_counter()
    problems = list_problems(tmp_path)
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert problems == ["teams.yaml:1: Aliases (& and *) are not allowed. Write the value out"]
    assert seconds < 30
    assert peak < 8_000_000


def list_options(folder: Path, files: dict[str, str]) -> list[str]:
    """Returns file, line and option of each problem."""
    return [": ".join(problem.split(": ")[:2]) for problem in list_problems(write_config(folder, files))]


def test_problems_of_a_stage_are_reported_for_all_files_at_once(tmp_path: Path) -> None:
    """Wrong types, a duplicate name and invalid YAML are reported first, unknown names once these are corrected."""
    files = dict(SAMPLE_FILES)
    files["models.yaml"] = files["models.yaml"].replace("1024x1024", "1000x1000")
    files["offers/by-shape.yaml"] = files["offers/by-shape.yaml"].replace("inputs: 16", "mask: true")
    files["policies.yaml"] = files["policies.yaml"].replace("by-shape,", "nobody,").replace("use: split", "use: splat")
    files["teams.yaml"] = files["teams.yaml"].replace("steady", "steddy")
    wrong = files | {
        "gateway.yaml": "reload: {watch: maybe}\n",
        "accounts.yaml": files["accounts.yaml"] + "    replay: untrusted\n",
        "offers/by-pixel.yaml": files["offers/by-pixel.yaml"]
        .replace('"0.009"', '"-1"')
        .replace("inputs: 16", "inputs: x"),
        "teams.yaml": "teams: [\n",
    }
    assert list_options(tmp_path, wrong) == [
        "accounts.yaml:9: accounts.runapi.replay",
        "gateway.yaml:1: reload.watch",
        "offers/by-pixel.yaml:10: offers.image-2.inputs",
        "offers/by-pixel.yaml:18: offers.image-2.prices[0].price",
        "teams.yaml:2: Invalid YAML",
    ]
    assert list_options(tmp_path, files) == [
        "models.yaml:3: models.image-2.defaults.size",
        "offers/by-shape.yaml:4: offers.image-2",
        "offers/by-shape.yaml:8: offers.image-2.mask",
        "policies.yaml:7: policies.steady.sellers[0]",
        "policies.yaml:15: rules[1].use",
        "teams.yaml:3: teams.design.policies[1]",
    ]


def test_unreadable_file_is_reported_and_hides_nothing_else(tmp_path: Path) -> None:
    write_config(tmp_path)
    (tmp_path / "teams.yaml").unlink()
    (tmp_path / "teams.yaml").mkdir()
    (tmp_path / "gateway.yaml").write_text("reload: 1\n")
    assert list_problems(tmp_path) == [
        "gateway.yaml:1: reload: Invalid value. Write a mapping with: watch, every_seconds",
        "teams.yaml:1: Cannot be read: not a regular file",
    ]


def test_missing_folder_is_reported(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path / "file"):
        (tmp_path / "file").touch()
        assert [str(problem) for problem in resolve_config(folder).problems] == [
            f"{folder}:1: Folder not found. Name one with --config"
        ]


def test_missing_offers_are_reported_once(tmp_path: Path) -> None:
    files = {name: text for name, text in SAMPLE_FILES.items() if not name.startswith("offers/")}
    assert list_problems(write_config(tmp_path, files)) == [
        "offers:1: No offers/<seller>.yaml found. Add one file for each seller"
    ]


def test_offer_file_is_named_after_seller(tmp_path: Path) -> None:
    files = dict(SAMPLE_FILES)
    files["offers/By_Pixel.yaml"] = files.pop("offers/by-pixel.yaml")
    assert (
        "offers/By_Pixel.yaml:1: Invalid file name. Name offer files after their seller, like runflow-runs.yaml"
        in list_problems(write_config(tmp_path, files))
    )


def test_editor_temporary_files_are_ignored(tmp_path: Path) -> None:
    write_config(tmp_path)
    (tmp_path / ".#models.yaml").symlink_to("someone@somewhere.1234")
    (tmp_path / "offers" / ".by-pixel.yaml.swp").write_text("")
    (tmp_path / "notes.md").write_text("not configuration")
    assert list_problems(tmp_path) == []


def test_optional_files_may_be_absent(tmp_path: Path) -> None:
    files = {name: text for name, text in SAMPLE_FILES.items() if name not in ("gateway.yaml", "teams.yaml")}
    files["policies.yaml"] = files["policies.yaml"].replace("team: design, ", "")
    config = resolve_config(write_config(tmp_path, files))
    assert config.catalogue is not None
    assert config.catalogue.teams == {}
    assert config.catalogue.reload.watch is True
