"""Every broken configuration is told for what it is, with file and line, and all of it in one run."""

import time
import tracemalloc
from pathlib import Path

import pytest

from gateway.config.files import MOST_BYTES
from gateway.config.loading import load
from gateway.config.resolving import Resolved, assumed_secrets, resolve, secrets_in
from providers import ADAPTERS
from tests.unit.config.base import FILES, KEYS, write
from tests.unit.config.corpus import Case, cases

CASES = cases()
SHIPPED = Path(__file__).parents[3] / "config"


def resolved(folder: Path, environ: dict[str, str] = KEYS) -> Resolved:
    return resolve(load(folder), secrets_in(environ), ADAPTERS)


def told(folder: Path) -> list[str]:
    return [str(problem).removeprefix(f"{folder}/") for problem in resolved(folder).problems]


def test_what_the_cases_start_from_is_right(tmp_path: Path) -> None:
    found = resolved(write(tmp_path))
    assert found.catalogue is not None
    assert found.problems == found.warnings == ()


def test_the_shipped_configuration_is_right() -> None:
    found = resolve(load(SHIPPED), assumed_secrets, ADAPTERS)
    assert found.catalogue is not None
    assert found.warnings == ()


def test_there_are_enough_cases_and_each_has_a_name_of_its_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 45


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_each_problem_is_told_with_file_line_and_cause(case: Case, tmp_path: Path) -> None:
    found = resolved(write(tmp_path, case.apply(FILES)))
    assert found.catalogue is None
    assert [str(problem).removeprefix(f"{tmp_path}/") for problem in found.problems] == list(case.told)
    assert case.told


BYTES = {
    "not UTF-8": (b"models:\n  \xff: {}\n", "models.yaml:2: is not UTF-8"),
    "too large": (b"#" * (MOST_BYTES + 1), "models.yaml:1: is larger than 262,144 bytes"),
    "too large, cut within a character": ("é".encode() * MOST_BYTES, "models.yaml:1: is larger than 262,144 bytes"),
    "too deep": (b"models:\n  " + b"[" * 100_000, "models.yaml:2: nested deeper than 20 levels"),
    "a control character": (
        b"models:\n  a\x07b: {}\n",
        "models.yaml:2: is not YAML: the character #x0007 is not allowed",
    ),
}


@pytest.mark.parametrize(("data", "message"), BYTES.values(), ids=BYTES)
def test_bytes_that_no_yaml_is_made_of(data: bytes, message: str, tmp_path: Path) -> None:
    (write(tmp_path) / "models.yaml").write_bytes(data)
    assert told(tmp_path) == [message]


def test_a_bomb_of_aliases_is_refused_at_its_first_anchor_without_growing(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{row}: &a{row} [{', '.join([f'*a{row - 1}'] * 9)}]" for row in range(1, 40)]
    (write(tmp_path) / "teams.yaml").write_text("\n".join(rows))
    tracemalloc.start()
    start = time.perf_counter()
    problems = told(tmp_path)
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert problems == ["teams.yaml:1: aliases (& and *) are not allowed: write the value out"] + [
        problem for problem in problems if problem.startswith("policies.yaml")
    ]
    assert seconds < 2
    assert peak < 8_000_000


def test_problems_of_several_files_and_of_every_kind_are_told_in_one_run(tmp_path: Path) -> None:
    """A wrong type in one file, a name that leads nowhere in another, a duplicate in a third, bad YAML in a fourth."""
    files = dict(FILES)
    files["gateway.yaml"] = "reload: {watch: maybe}\n"
    files["accounts.yaml"] += "    replay: untrusted\n"
    files["models.yaml"] = files["models.yaml"].replace("1024x1024", "1000x1000")
    files["offers/by-pixel.yaml"] = files["offers/by-pixel.yaml"].replace('"0.009"', '"-1"')
    files["offers/by-shape.yaml"] = files["offers/by-shape.yaml"].replace("inputs: 16", "inputs: 0")
    files["policies.yaml"] = files["policies.yaml"].replace("rank: cost", "rank: costs").replace("by-shape,", "nobody,")
    files["policies.yaml"] = files["policies.yaml"].replace("use: split", "use: splat")
    files["teams.yaml"] = "teams: [\n"
    problems = told(write(tmp_path, files))
    assert [problem.split(": ")[0] + ": " + problem.split(": ")[1] for problem in problems] == [
        "accounts.yaml:9: accounts.runapi.replay",
        "gateway.yaml:1: reload.watch",
        "models.yaml:3: models.picture-2.defaults.size",
        "offers/by-pixel.yaml:18: offers.picture-2.prices[0].price",
        "offers/by-shape.yaml:8: offers.picture-2.inputs",
        "policies.yaml:3: policies.cheapest.rank",
        "policies.yaml:7: policies.steady.sellers[0]",
        "policies.yaml:15: rules[1].use",
        "teams.yaml:2: is not YAML",
    ]


def test_a_file_that_cannot_be_read_is_told_and_hides_nothing_else(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "teams.yaml").unlink()
    (tmp_path / "teams.yaml").mkdir()
    (tmp_path / "gateway.yaml").write_text("reload: 1\n")
    assert told(tmp_path) == [
        "gateway.yaml:1: reload: must be a block with watch, every_seconds",
        "teams.yaml:1: cannot be read: it is no file",
    ]


def test_a_missing_folder_and_a_file_instead_of_one_are_told(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path / "file"):
        (tmp_path / "file").touch()
        assert [str(problem) for problem in resolved(folder).problems] == [
            f"{folder}:1: there is no such folder; name one with --config"
        ]


def test_no_offers_at_all_is_told_once(tmp_path: Path) -> None:
    files = {name: text for name, text in FILES.items() if not name.startswith("offers/")}
    assert told(write(tmp_path, files)) == ["offers:1: there is no offers/<seller>.yaml, so nobody sells anything"]


def test_a_file_of_offers_is_named_after_a_seller(tmp_path: Path) -> None:
    files = dict(FILES)
    files["offers/By_Pixel.yaml"] = files.pop("offers/by-pixel.yaml")
    assert "offers/By_Pixel.yaml:1: a file of offers is named after its seller, like runflow-runs.yaml" in told(
        write(tmp_path, files)
    )


def test_what_editors_leave_while_they_write_is_no_stranger(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / ".#models.yaml").symlink_to("someone@somewhere.1234")
    (tmp_path / "offers" / ".by-pixel.yaml.swp").write_text("")
    (tmp_path / "notes.md").write_text("not configuration")
    assert told(tmp_path) == []


def test_what_may_be_left_out_may_be_left_out(tmp_path: Path) -> None:
    files = {name: text for name, text in FILES.items() if name not in ("gateway.yaml", "teams.yaml")}
    files["policies.yaml"] = files["policies.yaml"].replace("team: design, ", "")
    found = resolved(write(tmp_path, files))
    assert found.catalogue is not None
    assert found.catalogue.teams == {}
    assert found.catalogue.reload.watch is True
