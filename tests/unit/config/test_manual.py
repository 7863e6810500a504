"""The shipped YAML is the manual: every option stands in its file, with its default beside it where it has one."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import inspect

from gateway.commands.schema import KINDS
from gateway.config.describing import plain
from gateway.config.gateway_blocks import GatewayFile
from tests.unit.commands.test_schema import blocks

CONFIG = Path(__file__).parents[3] / "config"
# How far from its name a default may be told.
NEAR = 4


def manual(kind: str) -> str:
    """One file explains what all files of offers may say."""
    return (CONFIG / ("offers/runflow-runs.yaml" if kind == "offers" else f"{kind}.yaml")).read_text()


def options() -> Iterator[tuple[str, inspect.Field]]:
    for kind, file in KINDS.items():
        for block in blocks(file):
            yield from ((kind, field) for field in block.fields)


OPTIONS = list(options())
NAMES = [f"{kind} {field.encode_name}" for kind, field in OPTIONS]


def default_of(field: inspect.Field) -> str | None:
    """As it stands in a file; None where there is none to name: it must be given, or it is a block of its own."""
    if field.required or isinstance(field.type, inspect.StructType):
        return None
    value = plain(field.default_factory() if callable(field.default_factory) else field.default)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else None


@pytest.mark.parametrize(("kind", "field"), OPTIONS, ids=NAMES)
def test_every_option_stands_in_the_manual(kind: str, field: inspect.Field) -> None:
    assert re.search(rf"\b{field.encode_name}\b", manual(kind))


WITH_DEFAULT = [(kind, field) for kind, field in OPTIONS if default_of(field) is not None]


@pytest.mark.parametrize(
    ("kind", "field"), WITH_DEFAULT, ids=[f"{kind} {field.encode_name}" for kind, field in WITH_DEFAULT]
)
def test_its_default_stands_beside_it(kind: str, field: inspect.Field) -> None:
    lines = manual(kind).splitlines()
    places = [number for number, line in enumerate(lines) if re.search(rf"\b{field.encode_name}\b", line)]
    around = [" ".join(lines[max(0, number - NEAR) : number + 2]) for number in places]
    assert any(f"default {default_of(field)}" in text for text in around)


def test_each_option_of_the_gateway_stands_there_with_its_default_and_a_comment_above() -> None:
    text = manual("gateway")
    for block in blocks(GatewayFile):
        for field in block.fields:
            if (default := default_of(field)) is not None:
                comment = rf"  #[^\n]*default {default}\b[^\n]*\n(?:  #[^\n]*\n)*"
                assert re.search(rf"{comment}  {field.encode_name}: {default}\n", text)


@pytest.mark.parametrize("path", sorted(CONFIG.rglob("*.yaml")), ids=lambda path: path.name)
def test_every_file_is_readable_in_a_terminal(path: Path) -> None:
    assert max(map(len, path.read_text().splitlines())) <= 120
    if path.parent == CONFIG:
        assert path.read_text().startswith("# "), "it says first what it is for"
