"""Generates JSON Schema for editors from the configuration structs."""

from enum import Enum
from typing import Any

from msgspec import NODEFAULT, Struct, inspect

from gateway.config.schema_base import ConfigStruct

Schema = dict[str, Any]
SCHEMA_URI = "https://json-schema.org/draft/2020-12/schema"


def build_json_schema(struct_type: type[Struct]) -> Schema:
    """Returns the JSON Schema of one file: every option with type, range, default and description."""
    definitions: dict[str, Schema] = {}
    root = _describe_type(inspect.type_info(struct_type), definitions)
    if not definitions[struct_type.__name__]["required"]:
        # An empty file sets no option.
        root = {"anyOf": [root, {"type": "null"}]}
    return {"$schema": SCHEMA_URI, **root, "$defs": definitions}


def _describe_type(info: inspect.Type, definitions: dict[str, Schema]) -> Schema:
    match info:
        case inspect.StructType(cls=struct_type):
            if struct_type.__name__ not in definitions:
                definitions[struct_type.__name__] = {}
                definitions[struct_type.__name__].update(_describe_struct(info, definitions))
            return {"$ref": f"#/$defs/{struct_type.__name__}"}
        case inspect.DictType():
            return _describe_dict(info, definitions)
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return {"type": "array", "items": _describe_type(item, definitions), "minItems": info.min_length or 0}
        case inspect.UnionType(types=types):
            return {"anyOf": [_describe_type(alternative, definitions) for alternative in types]}
        case inspect.Metadata(type=inner):
            return _describe_type(inner, definitions)
        case inspect.CustomType(cls=text_type):
            text_schema: Schema = text_type.SCHEMA  # type: ignore[attr-defined]
            return text_schema
    return _describe_scalar(info)


def _describe_struct(info: inspect.StructType, definitions: dict[str, Schema]) -> Schema:
    constraints = info.cls.EXTRA_CONSTRAINTS if issubclass(info.cls, ConfigStruct) else {}
    extra_constraints: Schema = {"allOf": [constraints]} if constraints else {}
    return extra_constraints | {
        "description": " ".join((info.cls.__doc__ or "").split()),
        "type": "object",
        "properties": {
            field.encode_name: _describe_field(field, definitions) | _get_help(field) for field in info.fields
        },
        "required": [field.encode_name for field in info.fields if field.required],
        "additionalProperties": False,
    }


def _describe_field(field: inspect.Field, definitions: dict[str, Schema]) -> Schema:
    field_schema = _describe_type(field.type, definitions)
    if field.required:
        return field_schema
    default = field.default_factory() if field.default is NODEFAULT else field.default
    return field_schema | {"default": to_plain(default)}


def _get_help(field: inspect.Field) -> Schema:
    return (field.type.extra_json_schema or {}) if isinstance(field.type, inspect.Metadata) else {}


def _describe_dict(info: inspect.DictType, definitions: dict[str, Schema]) -> Schema:
    return {
        "type": "object",
        "propertyNames": _describe_type(info.key_type, definitions),
        "additionalProperties": _describe_type(info.value_type, definitions),
        "minProperties": info.min_length or 0,
    }


def _describe_scalar(info: inspect.Type) -> Schema:
    match info:
        case inspect.EnumType(cls=enum_type):
            return {"enum": [to_plain(member) for member in enum_type]}
        case inspect.LiteralType(values=values):
            return {"enum": list(values)}
        case inspect.NoneType():
            return {"type": "null"}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.StrType(min_length=min_length):
            return {"type": "string", "minLength": min_length or 0}
        case inspect.IntType(ge=minimum, le=maximum):
            return {"type": "integer", **_describe_range(minimum, maximum)}
        case inspect.FloatType(ge=minimum, le=maximum):
            return {"type": "number", **_describe_range(minimum, maximum)}
    raise TypeError(f"unsupported type {info}")


def _describe_range(minimum: float | None, maximum: float | None) -> Schema:
    limits = {"minimum": minimum, "maximum": maximum}
    return {name: limit for name, limit in limits.items() if limit is not None}


def to_plain(value: Any) -> Any:
    """Converts a default to the form in which YAML files contain it."""
    if isinstance(value, Struct):
        return {name: to_plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(name): to_plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return str(value) if hasattr(value, "SCHEMA") else value
