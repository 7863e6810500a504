"""The comments of the packaged YAML files name every option with its default."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import inspect

from gateway.commands.schema import SCHEMA_TYPES
from gateway.config.json_schema import to_plain
from gateway.config.schema import GatewayFile
from tests.unit.config.schema_helpers import iterate_structs

SHIPPED_CONFIG = Path(__file__).parents[3] / "config"
# Maximum distance in lines between an option and its default.
LINES_BEFORE_OPTION = 4


def read_documentation(kind: str) -> str:
    """Returns the text of the file that explains these options. One file explains the options of all offers."""
    return (SHIPPED_CONFIG / ("offers/runflow-runs.yaml" if kind == "offers" else f"{kind}.yaml")).read_text()


def iterate_options() -> Iterator[tuple[str, inspect.Field]]:
    for kind, file in SCHEMA_TYPES.items():
        for block in iterate_structs(file):
            yield from ((kind, field) for field in block.fields)


OPTIONS = list(iterate_options())
NAMES = [f"{kind} {field.encode_name}" for kind, field in OPTIONS]


def format_default(field: inspect.Field) -> str | None:
    """Formats a default as in a file. None for required options and for blocks."""
    if field.required or isinstance(field.type, inspect.StructType):
        return None
    value = to_plain(field.default_factory() if callable(field.default_factory) else field.default)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else None


@pytest.mark.parametrize(("kind", "field"), OPTIONS, ids=NAMES)
def test_every_option_is_documented(kind: str, field: inspect.Field) -> None:
    assert re.search(rf"\b{field.encode_name}\b", read_documentation(kind))


OPTIONS_WITH_DEFAULT = [(kind, field) for kind, field in OPTIONS if format_default(field) is not None]


@pytest.mark.parametrize(
    ("kind", "field"), OPTIONS_WITH_DEFAULT, ids=[f"{kind} {field.encode_name}" for kind, field in OPTIONS_WITH_DEFAULT]
)
def test_defaults_are_documented_beside_options(kind: str, field: inspect.Field) -> None:
    lines = read_documentation(kind).splitlines()
    line_numbers = [number for number, line in enumerate(lines) if re.search(rf"\b{field.encode_name}\b", line)]
    around = [" ".join(lines[max(0, number - LINES_BEFORE_OPTION) : number + 2]) for number in line_numbers]
    assert any(f"default {format_default(field)}" in text for text in around)


def test_gateway_options_have_default_and_comment_above() -> None:
    text = read_documentation("gateway")
    for block in iterate_structs(GatewayFile):
        for field in block.fields:
            if (default := format_default(field)) is not None:
                comment = rf"  #[^\n]*default {default}\b[^\n]*\n(?:  #[^\n]*\n)*"
                # The options of a hook are printed as a comment, since there is none by default.
                assert re.search(rf"{comment}  #? *{field.encode_name}: {default}\n", text)


@pytest.mark.parametrize("path", sorted(SHIPPED_CONFIG.rglob("*.yaml")), ids=lambda path: path.name)
def test_every_file_fits_a_terminal(path: Path) -> None:
    assert max(map(len, path.read_text().splitlines())) <= 120
    if path.parent == SHIPPED_CONFIG:
        assert path.read_text().startswith("# "), "a file begins with a comment on its purpose"
