"""One thing that is wrong is told once, and nothing that would only follow from it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config.located import parse
from tests.unit.commands.test_schema import plain
from tests.unit.config.base import FILES, write
from tests.unit.config.test_broken import told

Steps = tuple[str | int, ...]


def leaves(value: Any, *above: str | int) -> Iterator[Steps]:
    """The steps to every single value, list and block."""
    yield above
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, one in inner:
        yield from leaves(one, *above, step)


def changed(value: Any, new: Any, step: str | int, *below: str | int) -> Any:
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[step] = changed(value[step], new, *below) if below else new
    return copy


DATA = {name: plain(parse(text, name).node) for name, text in FILES.items()}
CASES = [(name, steps) for name, data in DATA.items() for steps in leaves(data) if steps and steps[-1] != "metadata"]


def path_of(steps: Steps) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)[1:]


@pytest.mark.parametrize(("name", "steps"), CASES, ids=[f"{name} {path_of(steps)}" for name, steps in CASES])
def test_what_is_of_a_wrong_kind_is_told_alone(name: str, steps: Steps, tmp_path: Path) -> None:
    # A block or a list is wrong for whatever is none, and a number for either.
    new: Any = 5 if isinstance(_at(DATA[name], steps), dict | list) else [{}]
    problems = told(write(tmp_path, FILES | {name: json.dumps(changed(DATA[name], new, *steps))}))
    assert problems
    assert [one for one in problems if not one.startswith(f"{name}:1: {path_of(steps)}")] == []


def _at(value: Any, steps: Steps) -> Any:
    for step in steps:
        value = value[step]
    return value
