"""Parses a strict subset of YAML into nodes with their file, line and path.

No aliases, tags, merge keys or duplicate keys. `on`, `yes`, `16:9`, `2026-07-23`, `0x10` and `1_000` are strings; `010`
is 10.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import yaml
from msgspec import Struct
from msgspec.structs import force_setattr, replace

from gateway.config.config_file_reader import MAX_FILE_BYTES
from gateway.config.redaction import redact, replace_control_chars

MAX_DEPTH = 20
MAX_CACHED_FILES = 256
MAX_STEP_LENGTH = 60
# Path elements of entries without a name of their own. Their values are ignored.
MERGE_KEY, UNNAMED_KEY = "<<", "?"
Scalar = str | int | float | bool | None

_INT = re.compile(r"[-+]?\d{1,18}", re.ASCII)
_FLOAT = re.compile(r"[-+]?\d{1,18}\.\d{1,18}(?:[eE][-+]?\d{1,3})?", re.ASCII)
_TAG_HANDLE = re.compile(r"tag handle '.*'")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_KEYWORDS: dict[str, bool | None] = {"": None, "null": None, "~": None, "true": True, "false": False}


class SourceLocation(Struct, frozen=True):
    """File, line and option path, as shown in error messages."""

    file: str
    line: int
    path: str = ""

    def __str__(self) -> str:
        # A file name may contain control characters.
        file_and_line = f"{replace_control_chars(self.file)}:{self.line}"
        return f"{file_and_line}: {self.path}" if self.path else file_and_line

    def child(self, name: str | int, line: int) -> "SourceLocation":
        key = redact(str(name)[:MAX_STEP_LENGTH])
        step = f"[{key}]" if isinstance(name, int) else f".{key}" if self.path else key
        return SourceLocation(self.file, line, f"{self.path}{step}")


class Problem(Struct, frozen=True):
    """An error message and its location."""

    location: SourceLocation
    message: str

    def __post_init__(self) -> None:
        # Here, because every message passes here, including those that repeat values.
        force_setattr(self, "message", redact(self.message))

    def __str__(self) -> str:
        return f"{self.location}: {self.message}"

    def add_folder(self, folder: str) -> "Problem":
        """Returns the problem with the folder before the file's name."""
        return replace(self, location=replace(self.location, file=f"{folder}/{self.location.file}"))


class YamlNode(Struct, frozen=True):
    """A scalar, list or mapping, with its location."""

    value: "Scalar | list[YamlNode] | dict[str, YamlNode]"
    location: SourceLocation
    text: str = ""

    def __repr__(self) -> str:
        # Unchecked values may be secrets.
        return f"YamlNode({self.location})"


class ParsedYaml(Struct, frozen=True):
    """The root node of a file, and the problems of its form. The rest of the file can still be validated."""

    node: YamlNode
    problems: tuple[Problem, ...]


class YamlSyntaxError(Exception):
    """The file could not be parsed at all."""

    def __init__(self, file: str, line: int, message: str) -> None:
        self.problem = Problem(SourceLocation(file, line), message)
        super().__init__(str(self.problem))


# Parsing is most of the time of a reload, and most reloads change one file. Nodes are never modified.
@lru_cache(MAX_CACHED_FILES)
def parse_bytes(data: bytes, file: str) -> ParsedYaml:
    if len(data) > MAX_FILE_BYTES:
        raise YamlSyntaxError(file, 1, f"File is larger than {MAX_FILE_BYTES:,} bytes")
    try:
        return parse_text(data.decode(), file)
    except UnicodeDecodeError as error:
        raise YamlSyntaxError(file, data.count(b"\n", 0, error.start) + 1, "File is not UTF-8") from error


def parse_text(text: str, file: str) -> ParsedYaml:
    try:
        root = _StrictLoader(text, file).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        message = ", ".join(part for part in (error.context, error.problem) if part)
        message = _TAG_HANDLE.sub("tag handle", message)
        raise YamlSyntaxError(file, mark.line + 1 if mark else 1, f"Invalid YAML: {message}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlSyntaxError(
            file, line, f"Invalid YAML: the character #x{error.character:04x} is not allowed"
        ) from error
    except (ValueError, OverflowError) as error:
        # PyYAML's error for "\UFFFFFFFF", which has no line.
        raise YamlSyntaxError(file, 1, "Invalid YAML: an escape sequence names an unknown character") from error
    problems: list[Problem] = []
    node = YamlNode({}, SourceLocation(file, 1)) if root is None else _to_node(root, SourceLocation(file, 1), problems)
    return ParsedYaml(node, tuple(problems))


class _StrictLoader(yaml.SafeLoader):
    """YAML loader that rejects aliases, anchors, tags and deep nesting at the first event, before they can expand."""

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text)
        self.file, self.depth = file, 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise YamlSyntaxError(self.file, line, "Aliases (& and *) are not allowed. Write the value out")
        if event.tag is not None:
            # The message does not repeat the tag: a secret may begin with an exclamation mark.
            raise YamlSyntaxError(self.file, line, "Tags are not allowed. Quote text that begins with !")
        self.depth += isinstance(event, yaml.CollectionStartEvent)
        if self.depth > MAX_DEPTH:
            raise YamlSyntaxError(self.file, line, f"File is nested deeper than {MAX_DEPTH} levels")
        node = super().compose_node(parent, index)
        self.depth -= isinstance(event, yaml.CollectionStartEvent)
        return node


def _to_node(node: Any, location: SourceLocation, problems: list[Problem]) -> YamlNode:
    if isinstance(node, yaml.MappingNode):
        return YamlNode(_to_mapping(node, location, problems), location)
    if isinstance(node, yaml.SequenceNode):
        items = [
            _to_node(item, location.child(index, item.start_mark.line + 1), problems)
            for index, item in enumerate(node.value)
        ]
        return YamlNode(items, location)
    if _SURROGATE.search(node.value):
        problems.append(Problem(location, "Invalid escape sequence: it names no character"))
    value: Scalar = node.value if node.style else _parse_plain_scalar(node.value)
    return YamlNode(value, location, node.value)


def _to_mapping(node: Any, location: SourceLocation, problems: list[Problem]) -> dict[str, YamlNode]:
    entries: dict[str, YamlNode] = {}
    for name, inner in _list_entries(node, location, problems):
        if name in entries:
            first_line = entries[name].location.line
            problems.append(Problem(inner.location, f"Duplicate name; the first is in line {first_line}"))
        else:
            entries[name] = inner
    return entries


def _list_entries(node: Any, location: SourceLocation, problems: list[Problem]) -> Iterator[tuple[str, YamlNode]]:
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            problems.append(Problem(location.child(UNNAMED_KEY, line), "Invalid name. A name must be a single word"))
            continue
        if key.value == MERGE_KEY and not key.style:
            problems.append(
                Problem(location.child(MERGE_KEY, line), "Merge keys (<<) are not allowed. Write the values out")
            )
            continue
        yield key.value, _to_node(value, location.child(key.value, line), problems)


def _parse_plain_scalar(text: str) -> Scalar:
    """Parses an unquoted scalar: decimal number, true, false or null; anything else is text."""
    if text in _KEYWORDS:
        return _KEYWORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
