"""YAML as plain data that knows where each piece stood: strict, small, and without YAML's surprises.

No aliases, no tags, no merge keys, no duplicate keys. `on`, `yes`, `16:9`, `2026-07-23`, `0x10` and `1_000` are the
strings they look like, and `010` is ten.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml
from msgspec import Struct
from msgspec.structs import force_setattr

from gateway.config.files import MOST_BYTES
from gateway.config.hiding import printable, shown

MOST_DEPTH = 20
LONGEST_STEP = 60
# What stands in a path for an entry that has no name of its own: what it holds is read by nobody.
MERGED, UNNAMED = NAMELESS = ("<<", "?")
Scalar = str | int | float | bool | None

_INT = re.compile(r"[-+]?\d{1,18}", re.ASCII)
_FLOAT = re.compile(r"[-+]?\d{1,18}\.\d{1,18}(?:[eE][-+]?\d{1,3})?", re.ASCII)
_HANDLE = re.compile(r"tag handle '.*'")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_WORDS: dict[str, bool | None] = {"": None, "null": None, "~": None, "true": True, "false": False}


class Place(Struct, frozen=True):
    """Where something stands, for whoever has to mend it."""

    file: str
    line: int
    path: str = ""

    def __str__(self) -> str:
        # A file's name need not be text.
        where = f"{printable(self.file)}:{self.line}"
        return f"{where}: {self.path}" if self.path else where

    def below(self, name: str | int, line: int) -> "Place":
        word = shown(str(name)[:LONGEST_STEP])
        step = f"[{word}]" if isinstance(name, int) else f".{word}" if self.path else word
        return Place(self.file, line, f"{self.path}{step}")


class Problem(Struct, frozen=True):
    """One thing that is wrong, and where."""

    place: Place
    message: str

    def __post_init__(self) -> None:
        # Here, because every message passes here, whatever it repeats of what was written.
        force_setattr(self, "message", shown(self.message))

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class Node(Struct, frozen=True):
    """A scalar, a list of nodes or a mapping of names to nodes, and where it stands."""

    value: "Scalar | list[Node] | dict[str, Node]"
    place: Place
    text: str = ""

    def __repr__(self) -> str:
        # What is not checked yet may hold a secret.
        return f"Node({self.place})"


class Parsed(Struct, frozen=True):
    """A file's data, and what is wrong with its form in single places. The rest can be judged all the same."""

    node: Node
    problems: tuple[Problem, ...]


class Unreadable(Exception):
    """Nothing can be made of the file, for this reason."""

    def __init__(self, file: str, line: int, message: str) -> None:
        self.problem = Problem(Place(file, line), message)
        super().__init__(str(self.problem))


def read(data: bytes, file: str) -> Parsed:
    if len(data) > MOST_BYTES:
        raise Unreadable(file, 1, f"is larger than {MOST_BYTES:,} bytes")
    try:
        return parse(data.decode(), file)
    except UnicodeDecodeError as error:
        raise Unreadable(file, data.count(b"\n", 0, error.start) + 1, "is not UTF-8") from error


def parse(text: str, file: str) -> Parsed:
    try:
        root = _Strict(text, file).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        message = ", ".join(part for part in (error.context, error.problem) if part)
        message = _HANDLE.sub("tag handle", message)
        raise Unreadable(file, mark.line + 1 if mark else 1, f"is not YAML: {message}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable(file, line, f"is not YAML: the character #x{error.character:04x} is not allowed") from error
    except (ValueError, OverflowError) as error:
        # How the parser meets "\UFFFFFFFF": its line is not to be had.
        raise Unreadable(file, 1, "is not YAML: there is no such character as an escape names") from error
    problems: list[Problem] = []
    node = Node({}, Place(file, 1)) if root is None else _located(root, Place(file, 1), problems)
    return Parsed(node, tuple(problems))


class _Strict(yaml.SafeLoader):
    """Refuses tricks where they stand: an alias bomb at its first anchor, however much would come of it."""

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text)
        self.file, self.depth = file, 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise Unreadable(self.file, line, "aliases (& and *) are not allowed: write the value out")
        if event.tag is not None:
            # Not repeated in the message: a secret may begin with an exclamation mark.
            raise Unreadable(self.file, line, "tags are not allowed: put what begins with ! in quotes")
        self.depth += isinstance(event, yaml.CollectionStartEvent)
        if self.depth > MOST_DEPTH:
            raise Unreadable(self.file, line, f"nested deeper than {MOST_DEPTH} levels")
        node = super().compose_node(parent, index)
        self.depth -= isinstance(event, yaml.CollectionStartEvent)
        return node


def _located(node: Any, place: Place, problems: list[Problem]) -> Node:
    if isinstance(node, yaml.MappingNode):
        return Node(_mapping(node, place, problems), place)
    if isinstance(node, yaml.SequenceNode):
        items = [
            _located(item, place.below(number, item.start_mark.line + 1), problems)
            for number, item in enumerate(node.value)
        ]
        return Node(items, place)
    if _SURROGATE.search(node.value):
        problems.append(Problem(place, "holds an escape that names no character"))
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
            problems.append(Problem(place.below(UNNAMED, line), "a name must be a single word"))
            continue
        if key.value == MERGED and not key.style:
            problems.append(Problem(place.below(MERGED, line), "merge keys (<<) are not allowed: write the values out"))
            continue
        yield key.value, _located(value, place.below(key.value, line), problems)


def _plain(text: str) -> Scalar:
    """Unquoted text: decimal numbers, true, false, null; everything else is the text it is."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
