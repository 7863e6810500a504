"""YAML is parsed without surprises, and arbitrary text gives nodes or a YamlSyntaxError."""

import json
import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from gateway.config.yaml_nodes import (
    MAX_DEPTH,
    ParsedYaml,
    Problem,
    SourceLocation,
    YamlNode,
    YamlSyntaxError,
    parse_bytes,
    parse_text,
)


def test_same_bytes_are_parsed_once() -> None:
    first = parse_bytes(b"reload: {watch: true}", "gateway.yaml")
    assert parse_bytes(bytes(bytearray(b"reload: {watch: true}")), "gateway.yaml") is first
    assert parse_bytes(b"reload: {watch: false}", "gateway.yaml") != first
    assert parse_bytes(b"reload: {watch: true}", "models.yaml").node.location.file == "models.yaml"


EXPECTED_VALUES: dict[str, object] = {
    **{word: word for word in ("on", "off", "yes", "no", "y", "n", "True", "FALSE", "Null", "NULL")},
    **{word: word for word in ("16:9", "1:1@4k", "12:30:45", "2026-07-23", "2026-07-23T10:00:00Z")},
    **{word: word for word in ("0x10", "0o17", "0b1", "1_000", "1e3", ".5", "5.", ".inf", ".nan", "-.inf", "+", "-a")},
    **{"010": 10, "007": 7, "-3": -3, "+4": 4, "0.5": 0.5, "1.5e3": 1500.0, "1.10": 1.1},
    **{"true": True, "false": False, "null": None, "~": None, "": None},
    **{'"1"': "1", "'true'": "true", '""': "", '"16:9"': "16:9", "1.2.3": "1.2.3", "9" * 19: "9" * 19},
    **{"|\n  a\n  b": "a\nb", ">\n  a\n  b": "a b", "=": "=", "5%": "5%", "gpt-image-1.5": "gpt-image-1.5"},
}


def node_to_plain(node: YamlNode) -> Any:
    if isinstance(node.value, dict):
        return {name: node_to_plain(inner) for name, inner in node.value.items()}
    if isinstance(node.value, list):
        return [node_to_plain(item) for item in node.value]
    return node.value


@pytest.mark.parametrize("text", EXPECTED_VALUES)
def test_unquoted_text_keeps_its_apparent_type(text: str) -> None:
    parsed = parse_text(f"a: {text}", "f")
    assert parsed.problems == ()
    value, expected = node_to_plain(parsed.node)["a"], EXPECTED_VALUES[text]
    assert (value, type(value)) == (expected, type(expected))


def test_flow_style_keeps_same_types() -> None:
    parsed = parse_text("{a: [1:1, 16:9, on, 010], b: {2026-07-23: 1:1@4k, 16:9: yes}}", "f")
    assert node_to_plain(parsed.node) == {"a": ["1:1", "16:9", "on", 10], "b": {"2026-07-23": "1:1@4k", "16:9": "yes"}}


def test_keys_are_always_text() -> None:
    assert list(node_to_plain(parse_text("on: 1\n1: 2\ntrue: 3\n2.50: 4\n~: 5\n", "f").node)) == [
        "on",
        "1",
        "true",
        "2.50",
        "~",
    ]


def test_every_node_has_source_location() -> None:
    node = parse_text("# a comment\n\na:\n  b:\n    - x\n    - {c: 1,\n       d: 2}\n", "f").node
    node_b = node.value["a"].value["b"]  # type: ignore[index, union-attr, call-overload]
    assert node_b.location == SourceLocation("f", 4, "a.b")
    assert node_b.value[0].location == SourceLocation("f", 5, "a.b[0]")
    assert node_b.value[1].value["d"].location == SourceLocation("f", 7, "a.b[1].d")


def test_crlf_and_byte_order_mark_change_nothing() -> None:
    assert node_to_plain(parse_bytes(b"\xef\xbb\xbfa: 1\r\nb:\r\n  - on\r\n", "f").node) == {"a": 1, "b": ["on"]}


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "\ufeff"])
def test_empty_text_is_empty_mapping(text: str) -> None:
    assert node_to_plain(parse_text(text, "f").node) in ({}, None)


def test_nesting_is_allowed_up_to_limit() -> None:
    assert parse_text("[" * MAX_DEPTH + "]" * MAX_DEPTH, "f").problems == ()
    with pytest.raises(YamlSyntaxError, match="deeper"):
        parse_text("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "f")


def test_repr_of_node_hides_its_content() -> None:
    assert "hunter2" not in repr(parse_text("a: {b: [hunter2]}", "f"))


def test_problem_message_is_one_printable_line() -> None:
    problem = Problem(SourceLocation("f", 1), "there is no 'a\x1b[31m\r\nb\ud800'")
    assert str(problem) == "f:1: there is no 'a?[31m??b?'"


def collect_problems(parse: Callable[[], ParsedYaml]) -> tuple[Problem, ...]:
    try:
        return parse().problems
    except YamlSyntaxError as error:
        return (error.problem,)


YAML_LIKE_TEXT = st.lists(
    st.sampled_from(
        [*"abc 0179.:-?,[]{}#&*!|>'\"%@`\\\n\t~<", "\n  ", ": ", "- ", "<<: ", "---\n", "\\x", "\\U", "é", "\r"]
    ),
    max_size=60,
).map("".join)


@settings(max_examples=400)
@given(st.text(max_size=200) | YAML_LIKE_TEXT)
@example('"\\UFFFFFFFF"')
@example('"\\U00110000"')
@example("%YAML 99999999999999999999.1\n---\na")
@example("%TAG ! !\n---\n!a b")
@example("? ? ? ? a")
@example("a: !!binary =")
def test_arbitrary_text_is_parsed_or_rejected(text: str) -> None:
    problems = collect_problems(lambda: parse_text(text, "f"))
    assert all(problem.location.line >= 1 for problem in problems)
    "".join(map(str, problems)).encode()


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_parsed_or_rejected(data: bytes) -> None:
    assert all(problem.location.file == "f" for problem in collect_problems(lambda: parse_bytes(data, "f")))


@settings(max_examples=100)
@given(
    st.recursive(
        st.text(string.ascii_letters, min_size=1) | st.integers(-(10**17), 10**17) | st.booleans() | st.none(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(string.ascii_letters, min_size=1), inner),
        max_leaves=20,
    )
)
def test_json_is_parsed_as_yaml(value: Any) -> None:
    """JSON is valid YAML."""
    text = json.dumps({"a": value})
    assume(text.count("[") + text.count("{") <= MAX_DEPTH)
    assert node_to_plain(parse_text(text, "f").node) == {"a": value}
