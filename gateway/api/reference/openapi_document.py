"""Builds the OpenAPI 3.1 document from the routes, their scopes, the parameter table, the types of the responses, the
error table and the configured models. `route_documentation_table.py` adds what the code does not say."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from gateway.api.access_control import get_declared_scope, list_accepted_scopes
from gateway.api.api_errors import OPENAI_ROUTE_PREFIXES
from gateway.api.parameter_schema import COMPONENTS_PREFIX, Schema, build_body_schemas
from gateway.api.parameter_table import BODY_TYPES
from gateway.api.reference.code_examples import PATH_PARAMETER, PYTHON_SETUP, SHELL_SETUP, build_code_examples
from gateway.api.reference.configured_model_schemas import add_model_choices
from gateway.api.reference.route_documentation import (
    ExampleRequest,
    RequestParameter,
    ResponseDocumentation,
    RouteDocumentation,
)
from gateway.api.reference.route_documentation_table import (
    AUTHENTICATION_ERRORS,
    BODY_ERRORS,
    PATH_PARAMETERS,
    RESPONSE_HEADERS,
    ROUTE_DOCUMENTATION,
    TAGS,
)
from gateway.api.response_types import ErrorResponseBody, ProblemBody
from gateway.api.responses_api.image_tool_schema import add_tool_schema
from gateway.api.responses_api.response_parameter_table import CreateResponseRequest
from gateway.catalogue import Catalogue

TYPE_SUFFIX = "Body"
# The bodies whose parameters are rows of the parameter table.
BODIES_WITH_ROWS: dict[str, type[Struct]] = {**BODY_TYPES, "responses": CreateResponseRequest}
INTRODUCTION = f"""One API for images, in front of several sellers of the same models.

Send your team's key as `Authorization: Bearer igw_…`; `api-key` and `x-api-key` work, too. OpenAI's SDKs work with \
`base_url` set to this gateway's address and `/v1`. Parameters that OpenAI's API does not have are sent beside its own \
(`extra_body` in the SDK). Null equals absent, and letter case does not matter. Each response has an `x-request-id`.

The examples need, with the address of this gateway and your key:

```bash
{SHELL_SETUP}
```

```python
{PYTHON_SETUP}
```
"""
FILE_SCHEMA = {"type": "string", "contentMediaType": "application/octet-stream"}


def build_openapi_document(handlers: Iterable[HTTPRouteHandler], catalogue: Catalogue) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for handler in handlers:
        documentation = ROUTE_DOCUMENTATION.get(handler.handler_name)
        if documentation is not None and not documentation.hidden_because:
            path = get_main_path(handler)
            paths[path][_get_method(handler).lower()] = _build_operation(handler, path, documentation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "image-gateway", "version": version("image-gateway"), "description": INTRODUCTION},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": description} for name, description in TAGS.items()],
        "paths": dict(paths),
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": "A key of your team."}},
            "headers": {name: _build_header(text) for name, text in RESPONSE_HEADERS.items()},
            "schemas": _build_schemas(catalogue),
        },
        "x-error-codes": load_error_table(),
    }


def list_undocumented_routes(handlers: Iterable[HTTPRouteHandler]) -> list[str]:
    return sorted(handler.handler_name for handler in handlers if handler.handler_name not in ROUTE_DOCUMENTATION)


@cache
def load_error_table() -> dict[str, dict[str, Any]]:
    """Returns the statuses of each error code, and what to do. `docs/generate.py` writes the table."""
    table: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("error_table.json").read_text())
    return table


def get_main_path(handler: HTTPRouteHandler) -> str:
    """Returns the path that the documentation shows: that of OpenAI's API, as a template such as /v1/jobs/{job_id}."""
    return _list_paths(handler)[0]


def _list_paths(handler: HTTPRouteHandler) -> list[str]:
    paths = sorted(handler.paths, key=lambda path: (not path.startswith("/v1/"), path))
    return [re.sub(r"\{(\w+):\w+\}", r"{\1}", path) for path in paths]


def _get_method(handler: HTTPRouteHandler) -> str:
    [method] = handler.http_methods
    return str(method)


def _build_header(description: str) -> Schema:
    return {"description": description, "schema": {"type": "string"}}


# --- operations


def _build_operation(handler: HTTPRouteHandler, path: str, documentation: RouteDocumentation) -> dict[str, Any]:
    scope = get_declared_scope(handler)
    aliases = ", ".join(f"`{alias}`" for alias in _list_paths(handler)[1:])
    texts = (documentation.description, f"Also at {aliases}." if aliases else "")
    parameters = [*_list_path_parameters(path), *documentation.parameters]
    operation = {
        "operationId": handler.handler_name,
        "tags": [documentation.tag],
        "summary": documentation.summary,
        "description": " ".join(filter(None, texts)),
        "security": [{"bearer": [str(accepted)]} for accepted in list_accepted_scopes(handler)],
        "parameters": [_build_parameter(parameter) for parameter in parameters],
        "requestBody": _build_request_body(documentation),
        "responses": _build_responses(path, documentation, is_public=scope is None),
        "x-codeSamples": _build_code_samples(handler, path, documentation),
    }
    return {name: value for name, value in operation.items() if value or name == "security"}


def _list_path_parameters(path: str) -> Iterator[RequestParameter]:
    for name in PATH_PARAMETER.findall(path):
        yield RequestParameter(name=name, location="path", description=PATH_PARAMETERS.get(name, ""))


def _build_parameter(parameter: RequestParameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.location,
        "description": parameter.description,
        "required": parameter.location == "path",
        "schema": dict(parameter.schema),
        **({} if parameter.example is None else {"example": parameter.example}),
    }


def _build_request_body(documentation: RouteDocumentation) -> dict[str, Any] | None:
    if documentation.form is not None:
        return {"required": True, "content": {"multipart/form-data": {"schema": dict(documentation.form)}}}
    if documentation.body is None:
        return None
    examples = {name: {"value": example.body} for name, example in _list_json_examples(documentation)}
    reference = {"$ref": COMPONENTS_PREFIX + documentation.body.__name__}
    content: dict[str, Any] = {"application/json": {"schema": reference, "examples": examples}}
    if documentation.accepts_forms:
        content["multipart/form-data"] = {"schema": _build_form_schema(documentation.body.__name__)}
    required = [field for field in msgspec.structs.fields(documentation.body) if field.required]
    return {"required": bool(required), "content": content}


def _list_json_examples(documentation: RouteDocumentation) -> Iterator[tuple[str, ExampleRequest]]:
    for name, example in documentation.examples.items():
        if example.body is not None and not example.files:
            yield name, example


def _build_form_schema(body_name: str) -> Schema:
    return {
        "type": "object",
        "description": f"The parameters of `{body_name}` as text, and images as files.",
        "properties": {
            "prompt": {"type": "string", "minLength": 1},
            "image": {"type": "array", "items": FILE_SCHEMA, "description": "Also as `image[]` or `image[0]`."},
            "mask": FILE_SCHEMA,
        },
        "required": ["prompt"],
    }


def _build_code_samples(
    handler: HTTPRouteHandler, path: str, documentation: RouteDocumentation
) -> list[dict[str, str]]:
    if not documentation.examples:
        return []
    example = next(iter(documentation.examples.values()))
    codes = build_code_examples(_get_method(handler), path, get_declared_scope(handler), example)
    return [{"lang": code.language, "label": code.label, "source": code.source} for code in codes]


# --- responses


def _build_responses(path: str, documentation: RouteDocumentation, is_public: bool) -> dict[str, Any]:
    responses = {str(status): _build_response(response) for status, response in documentation.responses.items()}
    for status, codes in sorted(_group_errors(documentation, is_public).items()):
        # A documented response takes precedence: the 503 of /readyz has the same body as its 200.
        responses.setdefault(str(status), _build_error_response(path, ", ".join(f"`{code}`" for code in codes)))
    responses["default"] = _build_error_response(path, "Any other error.")
    return responses


def _build_response(response: ResponseDocumentation) -> dict[str, Any]:
    result: dict[str, Any] = {"description": response.description}
    if isinstance(response.content, str):
        result["content"] = {response.content: {}}
    elif response.content is not None:
        name = response.content.__name__.removesuffix(TYPE_SUFFIX)
        result["content"] = {"application/json": {"schema": {"$ref": COMPONENTS_PREFIX + name}}}
    if response.events is not None:
        result["content"]["text/event-stream"] = {"schema": _build_event_schema(response.events)}
    if response.headers:
        result["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in response.headers}
    return result


def _build_event_schema(data_type: Any) -> Schema:
    """Builds the schema of one event: before OpenAPI 3.2, tools take the schema of a stream as that of each event."""
    data = {"$ref": COMPONENTS_PREFIX + data_type.__name__.removesuffix(TYPE_SUFFIX)}
    error = {"$ref": f"{COMPONENTS_PREFIX}ErrorResponse"}
    content = {"type": "string", "contentMediaType": "application/json", "contentSchema": {"anyOf": [data, error]}}
    return {
        "type": "object",
        "description": "One event. After an event `error` no other follows.",
        "properties": {"event": {"type": "string"}, "data": content},
        "required": ["event", "data"],
    }


def _group_errors(documentation: RouteDocumentation, is_public: bool) -> dict[int, list[str]]:
    codes = {
        *documentation.errors,
        *(() if is_public else AUTHENTICATION_ERRORS),
        *(() if documentation.body is None else BODY_ERRORS),
    }
    groups: dict[int, list[str]] = defaultdict(list)
    for code in sorted(codes):
        for status in load_error_table()[code]["statuses"]:
            groups[status].append(code)
    return groups


def _build_error_response(path: str, description: str) -> dict[str, Any]:
    is_openai_route = path.startswith(OPENAI_ROUTE_PREFIXES)
    media_type, name = (
        ("application/json", "ErrorResponse") if is_openai_route else ("application/problem+json", "Problem")
    )
    return {"description": description, "content": {media_type: {"schema": {"$ref": COMPONENTS_PREFIX + name}}}}


# --- schemas


def _build_schemas(catalogue: Catalogue) -> Schema:
    types = [ErrorResponseBody, ProblemBody, *_list_documented_types()]
    _, components = msgspec.json.schema_components(types, ref_template=COMPONENTS_PREFIX + "{name}")
    schemas = {name.removesuffix(TYPE_SUFFIX): _remove_type_suffix(schema) for name, schema in components.items()}
    for schema in schemas.values():
        schema.pop("title", None)
        if "enum" in schema:
            schema.pop("description", None)
    schemas |= add_tool_schema(add_model_choices(build_body_schemas(BODIES_WITH_ROWS), catalogue))
    return dict(sorted(schemas.items()))


def _list_documented_types() -> Iterator[Any]:
    for documentation in ROUTE_DOCUMENTATION.values():
        if documentation.body is not None and documentation.body not in BODIES_WITH_ROWS.values():
            yield documentation.body
        contents = (
            content for response in documentation.responses.values() for content in (response.content, response.events)
        )
        yield from (content for content in contents if content is not None and not isinstance(content, str))


def _remove_type_suffix(schema: Any) -> Any:
    """Shortens the references of a schema: to `Job`, not to `JobBody`."""
    if isinstance(schema, dict):
        return {
            name: value.removesuffix(TYPE_SUFFIX) if name == "$ref" else _remove_type_suffix(value)
            for name, value in schema.items()
        }
    return [_remove_type_suffix(entry) for entry in schema] if isinstance(schema, list) else schema
