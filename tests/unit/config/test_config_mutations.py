"""Every change of the files gives a catalogue or problems with a location."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.config.catalogue_builder import ResolvedConfig, placeholder_secrets, resolve_files
from gateway.config.config_file_reader import ConfigFiles, read_folder
from gateway.config.loader import load_files
from providers import ADAPTERS

VALID_FILES = read_folder(Path(__file__).parents[2] / "config")
OPTION_LINES = [
    (name, number)
    for name, data in VALID_FILES.contents.items()
    for number, line in enumerate(data.decode().splitlines())
    if line.strip() and not line.strip().startswith("#")
]
REPLACEMENTS = [
    "",
    "~",
    "[]",
    "{}",
    "- a",
    "a: b",
    "[1, 2]",
    "{a: {b: c}}",
    "-1",
    '"0.5"',
    "x" * 300,
    "0.5",
    "true",
    "4k",
    "&a",
    "on",
]


def replace_lines(name: str, lines: list[str]) -> ConfigFiles:
    return replace(VALID_FILES, contents={**VALID_FILES.contents, name: "\n".join(lines).encode()})


def check_resolves(files: ConfigFiles) -> ResolvedConfig:
    config = resolve_files(load_files(files), placeholder_secrets, ADAPTERS)
    assert (config.catalogue is None) == bool(config.problems)
    assert all(problem.location.line >= 1 and problem.message for problem in config.problems)
    return config


@settings(max_examples=60)
@given(
    st.sampled_from(OPTION_LINES),
    st.sampled_from(["cut", "twice", "indent", "dedent", "value", "key"]),
    st.sampled_from(REPLACEMENTS),
)
def test_changed_line_gives_catalogue_or_problems(line: tuple[str, int], how: str, word: str) -> None:
    name, number = line
    lines = VALID_FILES.contents[name].decode().splitlines()
    key, colon, _ = lines[number].partition(":")
    changed = {
        "cut": [],
        "twice": [lines[number]] * 2,
        "indent": ["  " + lines[number]],
        "dedent": [lines[number][2:]],
        "value": [f"{key}{colon} {word}"],
        "key": [lines[number].replace(key.strip(), word, 1)],
    }
    check_resolves(replace_lines(name, lines[:number] + changed[how] + lines[number + 1 :]))


@settings(max_examples=60)
@given(st.sampled_from(sorted(VALID_FILES.contents)), st.floats(0, 1), st.binary(max_size=3), st.integers(0, 40))
def test_changed_bytes_give_catalogue_or_problems(name: str, fraction: float, inserted: bytes, cut: int) -> None:
    data = VALID_FILES.contents[name]
    position = int(fraction * len(data))
    check_resolves(
        replace(
            VALID_FILES, contents={**VALID_FILES.contents, name: data[:position] + inserted + data[position + cut :]}
        )
    )


@pytest.mark.parametrize("name", sorted(VALID_FILES.contents))
def test_any_file_may_be_empty_or_absent(name: str) -> None:
    check_resolves(replace(VALID_FILES, contents={**VALID_FILES.contents, name: b""}))
    check_resolves(
        replace(VALID_FILES, contents={other: data for other, data in VALID_FILES.contents.items() if other != name})
    )


@pytest.mark.parametrize(("name", "number"), OPTION_LINES[::7])
def test_value_of_wrong_type_gives_catalogue_or_problems(name: str, number: int) -> None:
    """Replaces the value of every seventh line by values of each kind."""
    lines = VALID_FILES.contents[name].decode().splitlines()
    key, _, _ = lines[number].partition(":")
    for replacement in ("[]", "{a: b}", "~", "5"):
        check_resolves(replace_lines(name, [*lines[:number], f"{key}: {replacement}", *lines[number + 1 :]]))
