"""The same types that check the YAML, described as JSON Schema for editors."""

from enum import Enum
from typing import Any

from msgspec import NODEFAULT, Struct, inspect

from gateway.config.help import HELP, TOGETHER

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(kind: type[Struct]) -> Schema:
    """Every option of every block, with its form, its range, its default and what the block is for."""
    blocks: dict[str, Schema] = {}
    top = _described(inspect.type_info(kind), blocks)
    if not blocks[kind.__name__]["required"]:
        # An empty file is one that leaves out everything.
        top = {"anyOf": [top, {"type": "null"}]}
    return {"$schema": DIALECT, **top, "$defs": blocks}


def _described(info: inspect.Type, blocks: dict[str, Schema]) -> Schema:
    match info:
        case inspect.StructType(cls=kind):
            if kind.__name__ not in blocks:
                blocks[kind.__name__] = {}
                blocks[kind.__name__].update(_block(info, blocks))
            return {"$ref": f"#/$defs/{kind.__name__}"}
        case inspect.DictType():
            return _names(info, blocks)
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return {"type": "array", "items": _described(item, blocks), "minItems": info.min_length or 0}
        case inspect.UnionType(types=types):
            return {"anyOf": [_described(one, blocks) for one in types]}
        case inspect.Metadata(type=inner):
            return _described(inner, blocks)
        case inspect.CustomType(cls=written):
            form: Schema = written.SCHEMA  # type: ignore[attr-defined]
            return form
    return _scalar(info)


def _block(info: inspect.StructType, blocks: dict[str, Schema]) -> Schema:
    name = info.cls.__name__
    told = {option: {"description": text} for option, text in HELP.get(name, {}).items()}
    together = {"allOf": [TOGETHER[name]]} if name in TOGETHER else {}
    return together | {
        "description": " ".join((info.cls.__doc__ or "").split()),
        "type": "object",
        "properties": {
            field.encode_name: _option(field, blocks) | told.get(field.encode_name, {}) for field in info.fields
        },
        "required": [field.encode_name for field in info.fields if field.required],
        "additionalProperties": False,
    }


def _option(field: inspect.Field, blocks: dict[str, Schema]) -> Schema:
    described = _described(field.type, blocks)
    if field.required:
        return described
    default = field.default_factory() if field.default is NODEFAULT else field.default
    return described | {"default": plain(default)}


def _names(info: inspect.DictType, blocks: dict[str, Schema]) -> Schema:
    return {
        "type": "object",
        "propertyNames": _described(info.key_type, blocks),
        "additionalProperties": _described(info.value_type, blocks),
        "minProperties": info.min_length or 0,
    }


def _scalar(info: inspect.Type) -> Schema:
    match info:
        case inspect.EnumType(cls=kind):
            return {"enum": [plain(member) for member in kind]}
        case inspect.LiteralType(values=values):
            return {"enum": list(values)}
        case inspect.NoneType():
            return {"type": "null"}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.StrType(min_length=shortest):
            return {"type": "string", "minLength": shortest or 0}
        case inspect.IntType(ge=least, le=most):
            return {"type": "integer", **_range(least, most)}
        case inspect.FloatType(ge=least, le=most):
            return {"type": "number", **_range(least, most)}
    raise TypeError(f"no way to describe {info}")


def _range(least: float | None, most: float | None) -> Schema:
    limits = {"minimum": least, "maximum": most}
    return {name: limit for name, limit in limits.items() if limit is not None}


def plain(value: Any) -> Any:
    """A default as it would stand in a file."""
    if isinstance(value, Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return str(value) if hasattr(value, "SCHEMA") else value
