"""Lays out the OpenAPI document as a page of headings, paragraphs, tables and code, for HTML and Markdown."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from gateway.api.parameter_schema import COMPONENTS_PREFIX, Schema

METHODS = ("get", "post", "put", "patch", "delete")


class Heading(Struct, frozen=True):
    level: int
    text: str
    anchor: str


class Paragraph(Struct, frozen=True):
    """Text with the inline forms of Markdown that the documents use: code, emphasis and links."""

    text: str


class Code(Struct, frozen=True):
    language: str
    source: str


class Table(Struct, frozen=True):
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Block = Heading | Paragraph | Code | Table


def make_anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def list_operations(document: Mapping[str, Any], tag: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields method, path and operation of each route of the tag."""
    for path, operations in document["paths"].items():
        for method in METHODS:
            if tag in operations.get(method, {}).get("tags", ()):
                yield method.upper(), path, operations[method]


def build_blocks(document: Mapping[str, Any]) -> Iterator[Block]:
    schemas = document["components"]["schemas"]
    choices = {COMPONENTS_PREFIX + name: schema for name, schema in schemas.items() if "enum" in schema}
    document = _inline_choices(document, choices)
    yield Heading(1, document["info"]["title"], "top")
    yield from _split_text(document["info"]["description"])
    for tag in document["tags"]:
        yield Heading(2, tag["name"], make_anchor(tag["name"]))
        yield Paragraph(tag["description"])
        for method, path, operation in list_operations(document, tag["name"]):
            yield from _build_operation_blocks(document, method, path, operation)
    yield from _build_schema_blocks(document)
    yield from _build_error_blocks(document)


def _inline_choices(value: Any, choices: Mapping[str, Schema]) -> Any:
    """Replaces references to lists of choices by the lists."""
    match value:
        case {"$ref": str(reference)} if reference in choices:
            return choices[reference]
        case Mapping():
            return {name: _inline_choices(entry, choices) for name, entry in value.items()}
        case list() | tuple():
            return [_inline_choices(entry, choices) for entry in value]
        case _:
            return value


def _split_text(text: str) -> Iterator[Block]:
    """Splits text at blank lines and fences. A part in a fence is code."""
    position = 0
    for fence in re.finditer(r"```(\w+)\n(.*?)\n```", text, re.DOTALL):
        yield from _split_paragraphs(text[position : fence.start()])
        yield Code(fence[1], fence[2])
        position = fence.end()
    yield from _split_paragraphs(text[position:])


def _split_paragraphs(text: str) -> Iterator[Block]:
    yield from (Paragraph(part) for part in text.strip().split("\n\n") if part)


def _build_operation_blocks(
    document: Mapping[str, Any], method: str, path: str, operation: dict[str, Any]
) -> Iterator[Block]:
    yield Heading(3, operation["summary"], make_anchor(operation["operationId"]))
    scopes = [scope for requirement in operation["security"] for scope in requirement["bearer"]]
    needs = f"needs a key with the scope `{scopes[0]}`" if scopes else "needs no key"
    yield Paragraph(f"`{method} {path}` {needs}.")
    if operation.get("description"):
        yield Paragraph(operation["description"])
    if operation.get("parameters"):
        rows = (_build_parameter_row(parameter) for parameter in operation["parameters"])
        yield Table(("Parameter", "In", "Meaning"), tuple(rows))
    for content in operation.get("requestBody", {}).get("content", {}).values():
        if "$ref" in content["schema"]:
            yield Paragraph(f"Body: {_describe_type(content['schema'])}")
    for sample in operation.get("x-codeSamples", ()):
        yield Code(sample["lang"], sample["source"])
    rows = (_build_response_row(document, status, response) for status, response in operation["responses"].items())
    yield Table(("Status", "Response", "Body"), tuple(rows))


def _build_parameter_row(parameter: dict[str, Any]) -> tuple[str, ...]:
    example = f" Example: `{parameter['example']}`." if "example" in parameter else ""
    return f"`{parameter['name']}`", parameter["in"], f"{parameter['description']}{example}"


def _build_response_row(document: Mapping[str, Any], status: str, response: dict[str, Any]) -> tuple[str, ...]:
    bodies = (
        _describe_type(content["schema"]) if "schema" in content else media_type
        for media_type, content in response.get("content", {}).items()
    )
    headers = ", ".join(f"`{name}`" for name in response.get("headers", ()))
    description = response["description"] + (f" Headers: {headers}." if headers else "")
    return status, description, ", ".join(bodies)


def _build_schema_blocks(document: Mapping[str, Any]) -> Iterator[Block]:
    yield Heading(2, "Bodies", "bodies")
    for name, schema in document["components"]["schemas"].items():
        if "properties" not in schema:
            continue
        yield Heading(3, name, _make_type_anchor(name))
        yield Paragraph(schema.get("description", ""))
        required = schema.get("required", ())
        rows = (_build_field_row(field, entry, field in required) for field, entry in schema["properties"].items())
        yield Table(("Field", "Type", "Meaning"), tuple(rows))


def _build_field_row(name: str, schema: Schema, is_required: bool) -> tuple[str, ...]:
    default = f" Default `{schema['default']}`." if "default" in schema else ""
    meaning = f"{schema.get('description', '')}{default}".strip()
    return f"`{name}`" + ("" if is_required else " (optional)"), _describe_type(schema), meaning


def _build_error_blocks(document: Mapping[str, Any]) -> Iterator[Block]:
    yield Heading(2, "Errors", "errors")
    yield Paragraph(
        "A response has one of these codes in `error.code`. Its message says what happened, what to do, and whether "
        "money was charged. `x-should-retry: false` means that the same request would fail, or cost, again."
    )
    rows = (
        (f"`{code}`", ", ".join(map(str, error["statuses"])), error["advice"])
        for code, error in document["x-error-codes"].items()
    )
    yield Table(("Code", "Status", "What to do"), tuple(rows))


def _make_type_anchor(name: str) -> str:
    return f"body-{make_anchor(name)}"


def _describe_type(schema: Schema) -> str:
    match schema:
        case {"$ref": str(reference)}:
            name = reference.removeprefix(COMPONENTS_PREFIX)
            return f"[{name}](#{_make_type_anchor(name)})"
        case {"anyOf": [*variants]}:
            return " or ".join(dict.fromkeys(_describe_type(variant) for variant in variants))
        case {"enum": [*values]}:
            return ", ".join(f"`{value}`" for value in values)
        case {"properties": {"data": {"contentSchema": content}}}:
            return f"events of {_describe_type(content)}"
        case {"type": "array", "items": items}:
            return f"list of {_describe_type(items)}"
        case _:
            return str(schema.get("type", "any"))
