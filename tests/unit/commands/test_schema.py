"""`image-gateway schema`: the schemas accept what the gateway accepts."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from gateway.cli import main
from gateway.commands.schema import SCHEMA_TYPES
from gateway.config.json_schema import build_json_schema, to_plain
from gateway.config.schema_base import ConfigStruct
from gateway.config.value_types import Percent
from gateway.config.yaml_nodes import parse_text
from tests.unit.config.broken_config_cases import load_cases
from tests.unit.config.sample_config import SAMPLE_FILES
from tests.unit.config.schema_helpers import iterate_structs, node_to_plain

ROOT = Path(__file__).parents[3]
SHIPPED_FILES = sorted((ROOT / "config").rglob("*.yaml"))


def get_schema_kind(name: str) -> str:
    return "offers" if "offers/" in name else Path(name).stem


def make_validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator(build_json_schema(SCHEMA_TYPES[kind]))


def parse_to_plain(text: str) -> Any:
    return node_to_plain(parse_text(text, "f").node)


@pytest.mark.parametrize("kind", SCHEMA_TYPES)
def test_schema_is_valid_json_schema(kind: str) -> None:
    Draft202012Validator.check_schema(build_json_schema(SCHEMA_TYPES[kind]))


@pytest.mark.parametrize("kind", SCHEMA_TYPES)
def test_schema_has_every_option_with_default_and_help(kind: str) -> None:
    schema = build_json_schema(SCHEMA_TYPES[kind])
    for struct in iterate_structs(SCHEMA_TYPES[kind]):
        definition = schema["$defs"][struct.cls.__name__]
        assert len(definition["description"]) > 10
        assert definition["description"] != " ".join((ConfigStruct.__doc__ or "").split())
        assert set(definition["properties"]) == {field.encode_name for field in struct.fields}
        assert set(definition["required"]) == {field.encode_name for field in struct.fields if field.required}
        assert definition["additionalProperties"] is False
        for field in struct.fields:
            assert ("default" in definition["properties"][field.encode_name]) is not field.required


def test_defaults_are_written_as_in_a_file() -> None:
    definitions = {kind: build_json_schema(SCHEMA_TYPES[kind])["$defs"] for kind in SCHEMA_TYPES}
    policy = definitions["policies"]["PolicyConfig"]["properties"]
    assert policy["within"]["default"] == "0%"
    assert policy["failover"]["default"] == {"attempts": 3, "on_unknown": "fail"}
    model = definitions["models"]["ModelConfig"]["properties"]
    assert model["qualities"]["default"] == ["low", "medium", "high"]
    assert model["defaults"]["default"] == dict.fromkeys(("size", "quality", "output_format", "background"))
    assert model["sizes"]["default"]["tiers"]["2k"] == {"max_pixels": 4_194_304, "usual_pixels": 4_194_304}
    assert definitions["offers"]["PriceRow"]["properties"]["operations"]["default"] == ["generate", "edit"]
    assert to_plain(Percent.parse("12.5%")) == "12.5%"
    assert to_plain(Percent.parse("10%")) == "10%"


@pytest.mark.parametrize("path", SHIPPED_FILES, ids=lambda path: path.name)
def test_shipped_files_match_schema(path: Path) -> None:
    name = path.relative_to(ROOT / "config").as_posix()
    assert [
        error.message for error in make_validator(get_schema_kind(name)).iter_errors(parse_to_plain(path.read_text()))
    ] == []


@pytest.mark.parametrize("path", SHIPPED_FILES, ids=lambda path: path.name)
def test_standard_yaml_parser_reads_same_values(path: Path) -> None:
    """Compared as text, since YAML 1.1 parses dates and ratios differently."""
    read = json.dumps(yaml.load(path.read_text(), yaml.BaseLoader))  # noqa: S506  BaseLoader makes only strings
    assert json.loads(read) == to_text(parse_to_plain(path.read_text()))


def to_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: to_text(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [to_text(item) for item in value]
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


# Problems that a schema of one file shows: options, types, forms and ranges, but no relations between files.
VISIBLE_PROBLEMS = (
    "Unknown option",
    "Missing option",
    "must be ",
    "Invalid value. Write ",
    "Invalid amount",
    "Invalid percentage",
    "Invalid base URL",
    "Invalid secret reference",
    "Invalid proxy. Write ",
    "Unsupported proxy",
    "Empty mapping",
)
INVISIBLE_PROBLEMS = ("must have either", "must be multiples", "A name must be a single word", "not 4.0")


@pytest.mark.parametrize(
    "case", [phrase for phrase in load_cases() if phrase.file in SAMPLE_FILES], ids=lambda case: case.name
)
def test_schema_finds_problems_visible_in_one_file(case: Any) -> None:
    text = case.apply(SAMPLE_FILES).get(case.file)
    problems = [line for line in case.expected_problems if line.startswith(f"{case.file}:")]
    visible = [
        line
        for line in problems
        if any(phrase in line for phrase in VISIBLE_PROBLEMS)
        and not any(phrase in line for phrase in INVISIBLE_PROBLEMS)
    ]
    if text is not None and visible and "Invalid YAML" not in visible[0]:
        assert list(make_validator(get_schema_kind(case.file)).iter_errors(parse_to_plain(text)))


AGREEMENT_CASES = {
    "an empty file": ("gateway", "", True),
    "a file of comments": ("teams", "# none\n", True),
    "an empty file that must not be": ("models", "", False),
    "no quality": ("offers", SAMPLE_FILES["offers/by-shape.yaml"].replace("{assumes: high}", "{}"), False),
    "both qualities": (
        "offers",
        SAMPLE_FILES["offers/by-shape.yaml"].replace("{assumes: high}", "{assumes: high, selectable: [low]}"),
        False,
    ),
    "too large a share": ("policies", SAMPLE_FILES["policies.yaml"].replace("5%", "150%"), False),
    "the whole": ("policies", SAMPLE_FILES["policies.yaml"].replace("5%", "100%"), True),
    "then by weight": ("policies", SAMPLE_FILES["policies.yaml"].replace("within: 5%", "then: weighted"), False),
    "a condition without values": (
        "policies",
        SAMPLE_FILES["policies.yaml"].replace("team: design", "team: []"),
        False,
    ),
}


@pytest.mark.parametrize(("kind", "text", "is_valid"), AGREEMENT_CASES.values(), ids=AGREEMENT_CASES)
def test_schema_and_check_agree(kind: str, text: str, is_valid: bool) -> None:
    value = yaml.safe_load(text) if not text.strip() or text.startswith("#") else parse_to_plain(text)
    assert make_validator(kind).is_valid(value) is is_valid


@pytest.mark.parametrize("kind", SCHEMA_TYPES)
def test_every_option_has_help(kind: str) -> None:
    definitions = build_json_schema(SCHEMA_TYPES[kind])["$defs"]
    for struct in iterate_structs(SCHEMA_TYPES[kind]):
        for field in struct.fields:
            assert definitions[struct.cls.__name__]["properties"][field.encode_name]["description"]


def test_program_prints_one_schema_or_writes_all(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["schema", "policies"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == build_json_schema(SCHEMA_TYPES["policies"])
    folder = tmp_path / "new" / "schemas"
    assert CliRunner().invoke(main, ["schema", "--output", str(folder)]).exit_code == 0
    assert {path.name for path in folder.iterdir()} == {f"{kind}.schema.json" for kind in SCHEMA_TYPES}
    assert all(json.loads(path.read_text())["$schema"] for path in folder.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"), [([], "name one of"), (["policy"], "'policy' is not one of")], ids=["none", "unknown"]
)
def test_invalid_argument_exits_2_with_message(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["schema", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
