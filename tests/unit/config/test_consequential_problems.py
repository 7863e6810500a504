"""One error is reported once, without problems that only follow from it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config.yaml_nodes import parse_text
from tests.unit.config.sample_config import SAMPLE_FILES, list_problems, write_config
from tests.unit.config.schema_helpers import node_to_plain

OptionPath = tuple[str | int, ...]


def iterate_paths(value: Any, *parents: str | int) -> Iterator[OptionPath]:
    """Yields the path of every value, list and block."""
    yield parents
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, child in children:
        yield from iterate_paths(child, *parents, step)


def replace_at(value: Any, new: Any, step: str | int, *rest: str | int) -> Any:
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[step] = replace_at(value[step], new, *rest) if rest else new
    return copy


SAMPLE_DATA = {name: node_to_plain(parse_text(text, name).node) for name, text in SAMPLE_FILES.items()}
CASES = [
    (name, steps)
    for name, data in SAMPLE_DATA.items()
    for steps in iterate_paths(data)
    if steps and steps[-1] != "metadata"
]


def format_path(path: OptionPath) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)[1:]


@pytest.mark.parametrize(("name", "path"), CASES, ids=[f"{name} {format_path(steps)}" for name, steps in CASES])
def test_wrong_type_is_reported_without_consequential_problems(name: str, path: OptionPath, tmp_path: Path) -> None:
    # A block or a list is invalid for a scalar, and a number for a block or a list.
    new: Any = 5 if isinstance(_get_value(SAMPLE_DATA[name], path), dict | list) else [{}]
    problems = list_problems(
        write_config(tmp_path, SAMPLE_FILES | {name: json.dumps(replace_at(SAMPLE_DATA[name], new, *path))})
    )
    assert problems
    assert [problem for problem in problems if not problem.startswith(f"{name}:1: {format_path(path)}")] == []


def _get_value(value: Any, path: OptionPath) -> Any:
    for step in path:
        value = value[step]
    return value
