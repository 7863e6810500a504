"""Compares responses with the OpenAPI document."""

from typing import Any

import httpx
import jsonschema


def make_strict(schema: Any) -> Any:
    """Forbids fields that the schema does not name."""
    if isinstance(schema, list):
        return [make_strict(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: make_strict(value) for name, value in schema.items()}
    return strict | ({"additionalProperties": False} if isinstance(schema.get("properties"), dict) else {})


def check_response(document: dict[str, Any], operation: dict[str, Any], answer: httpx.Response) -> None:
    """Checks the status and the body of a response, and that the body has no field beyond its schema."""
    description = operation["responses"].get(str(answer.status_code), operation["responses"]["default"])
    media_type = answer.headers["content-type"].partition(";")[0]
    schema = description["content"][media_type].get("schema")
    if schema is not None and media_type != "text/event-stream":
        components = {"components": make_strict(document["components"])}
        jsonschema.validate(answer.json(), {**schema, **components}, cls=jsonschema.Draft202012Validator)
