"""YAML as plain data that knows where each piece stood: strict, small, and without YAML's surprises.

No aliases, no tags, no duplicate keys; `on`, `yes` and `16:9` are the strings they look like.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct

MOST_BYTES = 1 << 20
MOST_DEPTH = 20
Scalar = str | int | float | bool | None

_INT = re.compile(r"[-+]?\d{1,18}", re.ASCII)
_FLOAT = re.compile(r"[-+]?\d{1,18}\.\d{1,18}(?:[eE][-+]?\d{1,3})?", re.ASCII)
_WORDS: dict[str, bool | None] = {"": None, "null": None, "~": None, "true": True, "false": False}


class Place(Struct, frozen=True):
    """Where something stands, for whoever has to mend it."""

    file: str
    line: int
    path: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}"
        return f"{where}: {self.path}" if self.path else where

    def below(self, name: str | int, line: int) -> "Place":
        step = f"[{name}]" if isinstance(name, int) else f".{name}" if self.path else str(name)
        return Place(self.file, line, f"{self.path}{step}")


class Problem(Struct, frozen=True):
    """One thing that is wrong, and where."""

    place: Place
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class Node(Struct, frozen=True):
    """A scalar, a list of nodes or a mapping of names to nodes, and where it stands."""

    value: "Scalar | list[Node] | dict[str, Node]"
    place: Place
    text: str = ""


class Unreadable(Exception):
    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems


def read(path: Path, shown: str) -> Node:
    """The file as located data; Unreadable names what is wrong with its form."""
    start = Place(shown, 1)
    try:
        data = path.read_bytes()
        text = data[: MOST_BYTES + 1].decode()
    except OSError as error:
        raise Unreadable(Problem(start, f"cannot be read: {error.strerror}")) from error
    except UnicodeDecodeError as error:
        raise Unreadable(Problem(start, "is not UTF-8")) from error
    if len(data) > MOST_BYTES:
        raise Unreadable(Problem(start, f"is larger than {MOST_BYTES:,} bytes"))
    return parse(text, shown)


def parse(text: str, shown: str) -> Node:
    try:
        _refuse_tricks(text, shown)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise Unreadable(Problem(Place(shown, line), f"is not YAML: {error.problem}")) from error
    except yaml.YAMLError as error:
        raise Unreadable(Problem(Place(shown, 1), f"is not YAML: {str(error).splitlines()[0]}")) from error
    if root is None:
        return Node({}, Place(shown, 1))
    problems: list[Problem] = []
    node = _located(root, Place(shown, 1), problems)
    if problems:
        raise Unreadable(*problems)
    return node


def _refuse_tricks(text: str, shown: str) -> None:
    """Before anything is built: an alias bomb is refused at its first alias, however small the file."""
    depth = 0
    event: Any
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        place = Place(shown, event.start_mark.line + 1)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise Unreadable(Problem(place, "aliases (& and *) are not allowed: write the value out"))
        if getattr(event, "tag", None) is not None:
            raise Unreadable(Problem(place, f"tags are not allowed: {event.tag}"))
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            raise Unreadable(Problem(place, f"nested deeper than {MOST_DEPTH} levels"))


def _located(node: Any, place: Place, problems: list[Problem]) -> Node:
    if isinstance(node, yaml.MappingNode):
        return Node(_mapping(node, place, problems), place)
    if isinstance(node, yaml.SequenceNode):
        items = [
            _located(item, place.below(number, item.start_mark.line + 1), problems)
            for number, item in enumerate(node.value)
        ]
        return Node(items, place)
    value: Scalar = node.value if node.style else _plain(node.value)
    return Node(value, place, node.value)


def _mapping(node: Any, place: Place, problems: list[Problem]) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for name, inner in _named(node, place, problems):
        if name in found:
            first = found[name].place.line
            problems.append(Problem(inner.place, f"stands here twice; the first is in line {first}"))
        else:
            found[name] = inner
    return found


def _named(node: Any, place: Place, problems: list[Problem]) -> Iterator[tuple[str, Node]]:
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            problems.append(Problem(place.below("?", line), "a name must be a single word"))
            continue
        yield key.value, _located(value, place.below(key.value, line), problems)


def _plain(text: str) -> Scalar:
    """Unquoted text, by YAML 1.2's core rules."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
