"""Generates `docs/parameters.md` from the parameter table."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from gateway.api.parameter_definition import Parameter, Treatment, get_parameters
from gateway.api.parameter_schema import describe_treatment
from gateway.api.parameter_table import BODY_TYPES
from gateway.api.responses_api.image_tool_reader import TOOL_PARAMETERS
from gateway.api.responses_api.response_parameter_table import CreateResponseRequest

Row = tuple[str, ...]
PARAMETERS_HEAD: Row = ("Parameter", "Routes", "Meaning", "Values", "What becomes of it", "Example")
RESPONSE_PARAMETERS_HEAD: Row = ("Parameter", "Meaning", "Values", "What becomes of it", "Example")


def build_response_parameter_rows() -> Iterator[Row]:
    """Yields one row for each parameter of `POST /v1/responses`."""
    for name, parameter in get_parameters(CreateResponseRequest).items():
        shown_name, _, *cells = _build_row(name, parameter, CreateResponseRequest, "")
        yield shown_name, *cells


def build_parameter_rows() -> Iterator[Row]:
    """Yields one row for each parameter of images; two if its row differs between routes."""
    names = dict.fromkeys(name for body_type in BODY_TYPES.values() for name in get_parameters(body_type))
    for name in names:
        routes_by_row: dict[int, tuple[Parameter, list[str]]] = {}
        for route, body_type in BODY_TYPES.items():
            if (parameter := get_parameters(body_type).get(name)) is not None:
                routes_by_row.setdefault(id(parameter), (parameter, []))[1].append(route)
        for parameter, routes in routes_by_row.values():
            shown_routes = "all" if len(routes) == len(BODY_TYPES) else ", ".join(routes)
            yield _build_row(name, parameter, BODY_TYPES[routes[0]], shown_routes)


def _build_row(name: str, parameter: Parameter, body_type: type[Struct], shown_routes: str) -> Row:
    is_refused = parameter.treatment is Treatment.REFUSED and not parameter.note
    example = msgspec.json.encode(parameter.example).decode()
    return (
        f"`{name}`",
        shown_routes,
        parameter.description,
        "null" if is_refused else _describe_values(name, body_type),
        describe_treatment(parameter),
        "" if is_refused else f"`{example}`",
    )


def _describe_values(name: str, body_type: type[Struct]) -> str:
    (schema,), components = msgspec.json.schema_components([body_type], ref_template="{name}")
    return _describe_schema(components[schema["$ref"]]["properties"][name], components)


def _describe_schema(schema: Any, components: dict[str, Any]) -> str:
    match schema:
        case {"anyOf": [*alternatives]}:
            described = (_describe_schema(alternative, components) for alternative in alternatives)
            return " or ".join(dict.fromkeys(text for text in described if text != "null"))
        case {"$ref": str(name)}:
            return _describe_schema(components[name], components)
        case {"enum": [*values]}:
            return ", ".join(f"`{msgspec.json.encode(value).decode().strip(chr(34))}`" for value in values)
        case {"type": "object", "properties": dict() as properties}:
            return f"object of {', '.join(f'`{name}`' for name in properties)}"
        case {} if "type" not in schema:
            return "any value"
        case {"type": "array"}:
            return "list"
        case _:
            return f"{_TYPE_NAMES[schema['type']]}{_describe_bounds(schema)}"


_TYPE_NAMES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true`, `false`",
    "object": "object",
    "null": "null",
}


def _describe_bounds(schema: Any) -> str:
    match schema:
        case {"minimum": minimum, "maximum": maximum}:
            return f", {minimum} to {maximum}"
        case {"exclusiveMinimum": minimum, "maximum": maximum}:
            return f" above {minimum}, to {maximum:,}"
        case {"maxLength": int(length)}:
            return f" of at most {length:,} characters"
        case {"maxProperties": length}:
            return f" of at most {length} entries"
        case _:
            return ""


def render_parameters_body(table: str, response_table: str) -> str:
    tool_parameters = ", ".join(f"`{name}`" for name in TOOL_PARAMETERS)
    return f"""
# Parameters

Every parameter of the routes that make images: `POST /v1/images/generations`, `POST /v1/images/edits` and
`POST /v1/jobs`; then those of [`POST /v1/responses`](#responses). The tables are the code itself
(`gateway/api/parameter_table.py`).

- *applied*: the images are made as the parameter says, or the request fails with an error that names it.
- *mapped*: some values of other clients are replaced. *warned*: accepted, but without effect. Both add an entry to
  `warnings` of the response and to its header `x-igw-warnings`; a job shows them in `warnings`, too.
  Each is `code: text`, and the header joins them by `; `. A job also warns of what differs from the request:
  `size_differs`, `ratio_differs`, `resolution_differs`, `format_differs`, `partial_delivery`, and the
  [substitutions](routing.md).
- *refused*: an error names the parameter and says what to do instead. Only null is accepted.

Null equals absent for every parameter, also for an unknown one. Other unknown parameters are refused. Spelling does not
matter where it changes no meaning: `HIGH`, `jpg`, `1024X1024`, `"n": "2"`.

In a form every value is text: `n=2`, `stream=false`. An empty text equals absent. Lists and objects are written with
brackets: `provider[only][]=runapi`, `metadata[campaign]=spring`; a list also by repeating its name, an object also as
JSON: `labels=spring`, `metadata={{"campaign": "spring"}}`.

{table}
## Responses

[What becomes of a request for a response](responses.md). Its one tool, `{{"type": "image_generation"}}`, has these
parameters, as in the table above: {tool_parameters}; besides, `action` (`auto`, `generate` or `edit`) and
`input_image_mask` (an object with `image_url`), which is the `mask`. All others belong to the request:

{response_table}"""
