"""Makes the JSON Schema (2020-12, as in OpenAPI 3.1) of the request bodies from the parameter table."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from gateway.api.parameter_definition import Parameter, Treatment, get_parameters
from gateway.api.parameter_table import BODY_TYPES, ImageParams

Schema = dict[str, Any]
COMPONENTS_PREFIX = "#/components/schemas/"


def build_body_schemas(body_types: Mapping[str, type[Struct]] = BODY_TYPES) -> Schema:
    """Returns the schemas by name, for `components.schemas` of an OpenAPI document: those of the bodies, such as
    `GenerationRequest`, and of the objects within them."""
    _, components = msgspec.json.schema_components(body_types.values(), ref_template=COMPONENTS_PREFIX + "{name}")
    for body_type in body_types.values():
        _add_rows(components[body_type.__name__], body_type)
    return components


def build_body_schema(body_type: type[ImageParams]) -> Schema:
    """Returns the schema of one body. It refers to the components of `build_body_schemas`."""
    schema: Schema = build_body_schemas({"body": body_type})[body_type.__name__]
    return schema


def build_example(body_type: type[ImageParams]) -> dict[str, Any]:
    """Returns an example of a body: the parameters of most requests."""
    names = ("model", "prompt", "size", "quality", "output_format", "n")
    parameters = get_parameters(body_type)
    example = {name: parameters[name].example for name in names}
    return example | ({"image": parameters["image"].example} if _is_applied(parameters["image"]) else {})


def describe_treatment(parameter: Parameter) -> str:
    """Describes what becomes of a parameter: `mapped: …`."""
    refusal = f"{parameter.refusal[:1].upper()}{parameter.refusal[1:]}."
    details = (parameter.note, refusal if parameter.refusal else "")
    return ": ".join(filter(None, (parameter.treatment.value, " ".join(filter(None, details)))))


def _add_rows(schema: Schema, body_type: type[Struct]) -> None:
    """Adds descriptions and examples in the order of the rows, and that each optional parameter may be null."""
    for name, parameter in get_parameters(body_type).items():
        field_schema = schema["properties"].pop(name)
        default = field_schema.pop("default", None)
        if name not in schema["required"] and not _allows_null(field_schema):
            field_schema = {"anyOf": [field_schema, {"type": "null"}]}
        treatment = "" if _is_applied(parameter) and not parameter.note else f" *{describe_treatment(parameter)}*"
        schema["properties"][name] = {
            **field_schema,
            "description": f"{parameter.description}{treatment}",
            **({} if default is None else {"default": default}),
            **({} if parameter.treatment is Treatment.REFUSED else {"examples": [parameter.example]}),
        }


def _is_applied(parameter: Parameter) -> bool:
    return parameter.treatment is Treatment.APPLIED


def _allows_null(schema: Schema) -> bool:
    return schema.get("type") == "null" or {"type": "null"} in schema.get("anyOf", ())
