"""Text in YAML means what it looks like, and no text at all is too strange to be answered."""

import json
import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from gateway.config.located import MOST_DEPTH, Node, Parsed, Place, Problem, Unreadable, parse, read

MEANINGS: dict[str, object] = {
    **{word: word for word in ("on", "off", "yes", "no", "y", "n", "True", "FALSE", "Null", "NULL")},
    **{word: word for word in ("16:9", "1:1@4k", "12:30:45", "2026-07-23", "2026-07-23T10:00:00Z")},
    **{word: word for word in ("0x10", "0o17", "0b1", "1_000", "1e3", ".5", "5.", ".inf", ".nan", "-.inf", "+", "-a")},
    **{"010": 10, "007": 7, "-3": -3, "+4": 4, "0.5": 0.5, "1.5e3": 1500.0, "1.10": 1.1},
    **{"true": True, "false": False, "null": None, "~": None, "": None},
    **{'"1"': "1", "'true'": "true", '""': "", '"16:9"': "16:9", "1.2.3": "1.2.3", "9" * 19: "9" * 19},
    **{"|\n  a\n  b": "a\nb", ">\n  a\n  b": "a b", "=": "=", "5%": "5%", "gpt-image-1.5": "gpt-image-1.5"},
}


def plain(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {name: plain(inner) for name, inner in node.value.items()}
    if isinstance(node.value, list):
        return [plain(item) for item in node.value]
    return node.value


@pytest.mark.parametrize("text", MEANINGS)
def test_unquoted_text_means_what_it_looks_like(text: str) -> None:
    parsed = parse(f"a: {text}", "f")
    assert parsed.problems == ()
    value, wanted = plain(parsed.node)["a"], MEANINGS[text]
    assert (value, type(value)) == (wanted, type(wanted))


def test_the_same_holds_within_brackets_and_braces() -> None:
    parsed = parse("{a: [1:1, 16:9, on, 010], b: {2026-07-23: 1:1@4k, 16:9: yes}}", "f")
    assert plain(parsed.node) == {"a": ["1:1", "16:9", "on", 10], "b": {"2026-07-23": "1:1@4k", "16:9": "yes"}}


def test_names_are_text_whatever_they_look_like() -> None:
    assert list(plain(parse("on: 1\n1: 2\ntrue: 3\n2.50: 4\n~: 5\n", "f").node)) == ["on", "1", "true", "2.50", "~"]


def test_everything_knows_where_it_stands() -> None:
    node = parse("# a comment\n\na:\n  b:\n    - x\n    - {c: 1,\n       d: 2}\n", "f").node
    b = node.value["a"].value["b"]  # type: ignore[index, union-attr, call-overload]
    assert b.place == Place("f", 4, "a.b")
    assert b.value[0].place == Place("f", 5, "a.b[0]")
    assert b.value[1].value["d"].place == Place("f", 7, "a.b[1].d")


def test_windows_line_ends_and_a_byte_order_mark_change_nothing() -> None:
    assert plain(read(b"\xef\xbb\xbfa: 1\r\nb:\r\n  - on\r\n", "f").node) == {"a": 1, "b": ["on"]}


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "\ufeff"])
def test_nothing_is_an_empty_block(text: str) -> None:
    assert plain(parse(text, "f").node) in ({}, None)


def test_depth_is_allowed_to_its_limit() -> None:
    assert parse("[" * MOST_DEPTH + "]" * MOST_DEPTH, "f").problems == ()
    with pytest.raises(Unreadable, match="deeper"):
        parse("[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1), "f")


def test_a_node_does_not_repeat_what_it_holds() -> None:
    assert "hunter2" not in repr(parse("a: {b: [hunter2]}", "f"))


def test_a_message_is_one_line_whatever_it_repeats() -> None:
    problem = Problem(Place("f", 1), "there is no 'a\x1b[31m\r\nb\ud800'")
    assert str(problem) == "f:1: there is no 'a?[31m??b?'"


def problems_of(reading: Callable[[], Parsed]) -> tuple[Problem, ...]:
    try:
        return reading().problems
    except Unreadable as error:
        return (error.problem,)


YAMLISH = st.lists(
    st.sampled_from(
        [*"abc 0179.:-?,[]{}#&*!|>'\"%@`\\\n\t~<", "\n  ", ": ", "- ", "<<: ", "---\n", "\\x", "\\U", "é", "\r"]
    ),
    max_size=60,
).map("".join)


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=200) | YAMLISH)
@example('"\\UFFFFFFFF"')
@example('"\\U00110000"')
@example("%YAML 99999999999999999999.1\n---\na")
@example("%TAG ! !\n---\n!a b")
@example("? ? ? ? a")
@example("a: !!binary =")
def test_any_text_becomes_data_or_is_unreadable(text: str) -> None:
    problems = problems_of(lambda: parse(text, "f"))
    assert all(problem.place.line >= 1 for problem in problems)
    "".join(map(str, problems)).encode()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_become_data_or_are_unreadable(data: bytes) -> None:
    assert all(problem.place.file == "f" for problem in problems_of(lambda: read(data, "f")))


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.text(string.ascii_letters, min_size=1) | st.integers(-(10**17), 10**17) | st.booleans() | st.none(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(string.ascii_letters, min_size=1), inner),
        max_leaves=20,
    )
)
def test_what_was_written_is_read(value: Any) -> None:
    """JSON is YAML, too."""
    text = json.dumps({"a": value})
    assume(text.count("[") + text.count("{") <= MOST_DEPTH)
    assert plain(parse(text, "f").node) == {"a": value}
