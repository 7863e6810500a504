"""Whatever happens to the files, the answer is a catalogue or problems that name a place."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.config.files import Files, files_in
from gateway.config.loading import loaded
from gateway.config.resolving import Resolved, assumed_secrets, resolve
from providers import ADAPTERS

RIGHT = files_in(Path(__file__).parents[2] / "config")
LINES = [
    (name, number)
    for name, data in RIGHT.contents.items()
    for number, line in enumerate(data.decode().splitlines())
    if line.strip() and not line.strip().startswith("#")
]
WORDS = [
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


def with_lines(name: str, lines: list[str]) -> Files:
    return replace(RIGHT, contents={**RIGHT.contents, name: "\n".join(lines).encode()})


def answered(files: Files) -> Resolved:
    found = resolve(loaded(files), assumed_secrets, ADAPTERS)
    assert (found.catalogue is None) == bool(found.problems)
    assert all(problem.place.line >= 1 and problem.message for problem in found.problems)
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(LINES),
    st.sampled_from(["cut", "twice", "indent", "dedent", "value", "key"]),
    st.sampled_from(WORDS),
)
def test_a_changed_line_is_answered(line: tuple[str, int], how: str, word: str) -> None:
    name, number = line
    lines = RIGHT.contents[name].decode().splitlines()
    key, colon, _ = lines[number].partition(":")
    changed = {
        "cut": [],
        "twice": [lines[number]] * 2,
        "indent": ["  " + lines[number]],
        "dedent": [lines[number][2:]],
        "value": [f"{key}{colon} {word}"],
        "key": [lines[number].replace(key.strip(), word, 1)],
    }
    answered(with_lines(name, lines[:number] + changed[how] + lines[number + 1 :]))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(RIGHT.contents)), st.floats(0, 1), st.binary(max_size=3), st.integers(0, 40))
def test_changed_bytes_are_answered(name: str, where: float, inserted: bytes, cut: int) -> None:
    data = RIGHT.contents[name]
    at = int(where * len(data))
    answered(replace(RIGHT, contents={**RIGHT.contents, name: data[:at] + inserted + data[at + cut :]}))


@pytest.mark.parametrize("name", sorted(RIGHT.contents))
def test_any_file_may_be_empty_or_gone(name: str) -> None:
    answered(replace(RIGHT, contents={**RIGHT.contents, name: b""}))
    answered(replace(RIGHT, contents={other: data for other, data in RIGHT.contents.items() if other != name}))


@pytest.mark.parametrize(("name", "number"), LINES[::7])
def test_a_block_of_another_kind_is_answered(name: str, number: int) -> None:
    """Every seventh line's value replaced by something of each kind."""
    lines = RIGHT.contents[name].decode().splitlines()
    key, _, _ = lines[number].partition(":")
    for word in ("[]", "{a: b}", "~", "5"):
        answered(with_lines(name, [*lines[:number], f"{key}: {word}", *lines[number + 1 :]]))
