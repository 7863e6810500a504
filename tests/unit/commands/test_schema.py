"""`image-gateway schema`: what an editor is told is what the gateway takes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from msgspec import inspect

from gateway.cli import main
from gateway.commands.schema import KINDS
from gateway.config.block import Block
from gateway.config.describing import plain as as_written
from gateway.config.describing import schema_of
from gateway.config.help import HELP
from gateway.config.located import Node, parse
from gateway.config.values import Percent
from tests.unit.commands.test_explain import run
from tests.unit.config.base import FILES
from tests.unit.config.corpus import cases

ROOT = Path(__file__).parents[3]
SHIPPED = sorted((ROOT / "config").rglob("*.yaml"))


def kind_of(name: str) -> str:
    return "offers" if "offers/" in name else Path(name).stem


def validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator(schema_of(KINDS[kind]))


def data(text: str) -> Any:
    return plain(parse(text, "f").node)


def plain(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {name: plain(inner) for name, inner in node.value.items()}
    return [plain(item) for item in node.value] if isinstance(node.value, list) else node.value


def blocks(kind: type) -> Iterator[inspect.StructType]:
    """All blocks that a file may hold."""
    waiting, seen = [inspect.type_info(kind)], set()
    while waiting:
        info: Any = waiting.pop()
        if isinstance(info, inspect.StructType) and info.cls not in seen:
            seen.add(info.cls)
            yield info
            waiting += [field.type for field in info.fields]
        for name in ("type", "item_type", "value_type"):
            if isinstance(inner := getattr(info, name, None), inspect.Type):
                waiting.append(inner)
        waiting += getattr(info, "types", ())


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_valid_schema(kind: str) -> None:
    Draft202012Validator.check_schema(schema_of(KINDS[kind]))


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_of_every_block_is_in_it_with_its_default_and_help(kind: str) -> None:
    made = schema_of(KINDS[kind])
    for block in blocks(KINDS[kind]):
        told = made["$defs"][block.cls.__name__]
        assert len(told["description"]) > 10
        assert told["description"] != " ".join((Block.__doc__ or "").split())
        assert set(told["properties"]) == {field.encode_name for field in block.fields}
        assert set(told["required"]) == {field.encode_name for field in block.fields if field.required}
        assert told["additionalProperties"] is False
        for field in block.fields:
            assert ("default" in told["properties"][field.encode_name]) is not field.required


def test_defaults_are_written_as_they_would_stand_in_a_file() -> None:
    blocks_of = {kind: schema_of(KINDS[kind])["$defs"] for kind in KINDS}
    policy = blocks_of["policies"]["PolicyConfig"]["properties"]
    assert policy["within"]["default"] == "0%"
    assert policy["failover"]["default"] == {"attempts": 3, "on_unknown": "fail"}
    size = {"size": "1024x1024", "quality": "high", "output_format": "png"}
    assert blocks_of["models"]["ModelConfig"]["properties"]["defaults"]["default"] == size
    assert blocks_of["offers"]["PriceRow"]["properties"]["operations"]["default"] == ["generate", "edit"]
    assert as_written(Percent.parse("12.5%")) == "12.5%"
    assert as_written(Percent.parse("10%")) == "10%"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_shipped_files_are_valid(path: Path) -> None:
    name = path.relative_to(ROOT / "config").as_posix()
    assert [error.message for error in validator(kind_of(name)).iter_errors(data(path.read_text()))] == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_an_ordinary_yaml_reader_takes_them_for_the_same(path: Path) -> None:
    """But for dates and ratios, which the older YAML has other ideas about."""
    read = json.dumps(yaml.load(path.read_text(), yaml.BaseLoader))  # noqa: S506  it makes nothing but text
    assert json.loads(read) == as_text(data(path.read_text()))


def as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: as_text(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [as_text(item) for item in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


# What an editor sees of a single file: options, types, forms and ranges, but nothing that takes two files to know.
SEEN = ("no such option", "is missing", "must be ", "is no amount", "is no share", "cannot be negative", "must name at")
BEYOND = ("must have either", "must be multiples", "a name must be a single word", "not 4.0")


@pytest.mark.parametrize("case", [one for one in cases() if one.file in FILES], ids=lambda case: case.name)
def test_an_editor_sees_what_a_single_file_shows(case: Any) -> None:
    text = case.apply(FILES).get(case.file)
    told = [line for line in case.told if line.startswith(f"{case.file}:")]
    wrong = [line for line in told if any(one in line for one in SEEN) and not any(one in line for one in BEYOND)]
    if text is not None and wrong and "is not YAML" not in wrong[0]:
        assert list(validator(kind_of(case.file)).iter_errors(data(text)))


SAME = {
    "an empty file": ("gateway", "", True),
    "a file of comments": ("teams", "# none\n", True),
    "an empty file that must not be": ("models", "", False),
    "no quality": ("offers", FILES["offers/by-shape.yaml"].replace("{assumes: high}", "{}"), False),
    "both qualities": (
        "offers",
        FILES["offers/by-shape.yaml"].replace("{assumes: high}", "{assumes: high, selectable: [low]}"),
        False,
    ),
    "too large a share": ("policies", FILES["policies.yaml"].replace("5%", "150%"), False),
    "the whole": ("policies", FILES["policies.yaml"].replace("5%", "100%"), True),
    "then by weight": ("policies", FILES["policies.yaml"].replace("within: 5%", "then: weighted"), False),
    "a condition without values": ("policies", FILES["policies.yaml"].replace("team: design", "team: []"), False),
}


@pytest.mark.parametrize(("kind", "text", "is_right"), SAME.values(), ids=SAME)
def test_an_editor_judges_a_file_as_check_does(kind: str, text: str, is_right: bool) -> None:
    value = yaml.safe_load(text) if not text.strip() or text.startswith("#") else data(text)
    assert validator(kind).is_valid(value) is is_right


@pytest.mark.parametrize("kind", ["gateway", "offers", "policies"])
def test_every_option_has_help_of_its_own(kind: str) -> None:
    for block in blocks(KINDS[kind]):
        assert set(HELP[block.cls.__name__]) == {field.encode_name for field in block.fields}


def test_the_program_prints_one_or_writes_all(tmp_path: Path) -> None:
    done = run("schema", "policies")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == schema_of(KINDS["policies"])
    folder = tmp_path / "new" / "schemas"
    assert CliRunner().invoke(main, ["schema", "--output", str(folder)]).exit_code == 0
    assert {path.name for path in folder.iterdir()} == {f"{kind}.schema.json" for kind in KINDS}
    assert all(json.loads(path.read_text())["$schema"] for path in folder.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"), [([], "name one of"), (["policy"], "'policy' is not one of")], ids=["none", "unknown"]
)
def test_a_bad_argument_is_told_and_ends_with_2(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["schema", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
