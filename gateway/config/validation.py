"""Validates YAML nodes against the schema and collects all problems, each with its location and a suggestion."""

from functools import cache
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

from msgspec import Struct, inspect

from gateway.config.yaml_nodes import Problem, SourceLocation, YamlNode
from gateway.suggestions import did_you_mean


@runtime_checkable
class TextValue(Protocol):
    """A value written as text in a form of its own, such as an amount or a secret reference. `parse` reads it."""

    EXAMPLE: ClassVar[str]

    @classmethod
    def parse(cls, text: str) -> Any:
        """Parses the text. ValueError says why it is invalid."""
        ...


@cache
def describe_struct(struct_type: type[Struct]) -> inspect.StructType:
    """Returns the fields of a struct with their types: msgspec takes tens of milliseconds to find them."""
    return cast(inspect.StructType, inspect.type_info(struct_type))


class Validator:
    """Builds typed values from YAML nodes and collects problems instead of stopping at the first.

    An invalid value becomes None. A struct that contains one is not built, so nothing is checked that depends on it.
    """

    def __init__(self) -> None:
        self.hide_values = False
        self.problems: list[Problem] = []

    def add_problem(self, location: SourceLocation, message: str) -> Any:
        self.problems.append(Problem(location, message))
        return None

    def _build_value(self, node: YamlNode, info: inspect.Type) -> Any:
        match info:
            case inspect.StructType():
                return self._build_struct(node, info)
            case inspect.DictType():
                return self._build_dict(node, info)
            case inspect.ListType() | inspect.VarTupleType():
                return self._build_list(node, info)
            case inspect.UnionType():
                return self._build_union(node, info)
            case inspect.Metadata(type=inner):
                return self._build_value(node, inner)
            case inspect.CustomType(cls=text_type):
                return self._build_text_value(node, text_type)
            case _:
                return self._build_scalar(node, info)

    def build_file(self, node: YamlNode, struct_type: type[Struct], hide_values: bool = False) -> Any:
        """Builds the content of one file; None if it has problems.

        `hide_values`: messages do not repeat invalid values, which may be secrets in the wrong place.
        """
        self.hide_values = hide_values
        return self._build_struct(node, describe_struct(struct_type))

    def _build_struct(self, node: YamlNode, info: inspect.StructType) -> Any:
        problems_before = len(self.problems)
        fields = self._find_present_fields(node, info)
        values = {field.name: self._build_value(inner, field.type) for field, inner in fields}
        if len(self.problems) > problems_before:
            return None
        built: Any = info.cls(**values)
        return self.add_problem(node.location, reason) if (reason := built.check_consistency()) else built

    def _find_present_fields(self, node: YamlNode, info: inspect.StructType) -> list[tuple[inspect.Field, YamlNode]]:
        """Returns the fields that are present. Reports missing and unknown options."""
        names = [field.encode_name for field in info.fields]
        if not isinstance(node.value, dict):
            self.add_problem(node.location, f"Invalid value. Write a mapping with: {', '.join(names)}")
            return []
        for name, inner in node.value.items():
            if name not in names:
                hint = getattr(info.cls, "MISPLACED_OPTIONS", {}).get(name)
                self.add_problem(inner.location, f"Unknown option{f'. {hint}' if hint else did_you_mean(name, names)}")
        for field in info.fields:
            if field.required and field.encode_name not in node.value:
                self.add_problem(node.location, f"Missing option '{field.encode_name}'")
        return [(field, node.value[field.encode_name]) for field in info.fields if field.encode_name in node.value]

    def _build_dict(self, node: YamlNode, info: inspect.DictType) -> Any:
        if not isinstance(node.value, dict):
            return self.add_problem(node.location, "Invalid value. Write a mapping of names to values")
        if len(node.value) < (info.min_length or 0):
            return self.add_problem(node.location, "Empty mapping. Add at least one entry")
        return {
            self._build_value(YamlNode(name, inner.location, name), info.key_type): self._build_value(
                inner, info.value_type
            )
            for name, inner in node.value.items()
        }

    def _build_list(self, node: YamlNode, info: inspect.ListType | inspect.VarTupleType) -> Any:
        if not isinstance(node.value, list):
            return self.add_problem(node.location, "Invalid value. Write a list, like [a, b]")
        if len(node.value) < (info.min_length or 0):
            return self.add_problem(node.location, "Empty list. Add at least one entry")
        built = [self._build_value(item, info.item_type) for item in node.value]
        return tuple(built) if isinstance(info, inspect.VarTupleType) else built

    def _build_union(self, node: YamlNode, info: inspect.UnionType) -> Any:
        """Builds the alternative that matches the form of the node, and reports that alternative's problems."""
        if node.value is None and any(isinstance(candidate, inspect.NoneType) for candidate in info.types):
            return None
        types = [candidate for candidate in info.types if not isinstance(candidate, inspect.NoneType)]
        return self._build_value(
            node, next((candidate for candidate in types if _looks_like(node, candidate)), types[0])
        )

    def _build_text_value(self, node: YamlNode, text_type: Any) -> Any:
        if not isinstance(node.value, str):
            # The message does not repeat the value, which may be a secret.
            return self.add_problem(node.location, f"Invalid value. Write text like {text_type.EXAMPLE}")
        try:
            return text_type.parse(node.value)
        except ValueError as error:
            return self.add_problem(node.location, str(error))

    def _build_scalar(self, node: YamlNode, info: inspect.Type) -> Any:
        if (type_error := _find_type_error(node, info, self.hide_values)) is not None:
            return self.add_problem(node.location, type_error)
        if isinstance(info, inspect.EnumType):
            return info.cls(node.value)
        return float(node.value) if isinstance(info, inspect.FloatType) else node.value  # type: ignore[arg-type]


def _looks_like(node: YamlNode, candidate: inspect.Type) -> bool:
    match candidate:
        case inspect.StructType(fields=fields) if isinstance(node.value, dict):
            return bool(node.value.keys() & {field.encode_name for field in fields})
        case inspect.ListType() | inspect.VarTupleType():
            return isinstance(node.value, list)
        case inspect.DictType():
            return isinstance(node.value, dict)
        case inspect.CustomType():
            return isinstance(node.value, str)
        case inspect.StructType():
            return False
    return _find_type_error(node, candidate, hide_values=True) is None


def _find_type_error(node: YamlNode, info: inspect.Type, hide_values: bool) -> str | None:
    """Returns why a scalar is not of this type, None if it is."""
    value = node.value
    actual = "" if hide_values else _describe_actual(node)
    match info:
        case inspect.EnumType(cls=enum_type):
            return _find_choice_error(value, [str(member) for member in enum_type], hide_values)
        case inspect.LiteralType(values=values):
            return _find_choice_error(value, [str(choice) for choice in values], hide_values)
        case inspect.BoolType():
            return None if isinstance(value, bool) else f"must be true or false{actual}"
        case inspect.IntType(ge=minimum, le=maximum):
            is_valid = type(value) is int and _is_in_range(value, minimum, maximum)
            return None if is_valid else f"must be a whole number{_format_range(minimum, maximum)}{actual}"
        case inspect.FloatType(ge=minimum, le=maximum):
            is_valid = type(value) in (int, float) and _is_in_range(value, minimum, maximum)  # type: ignore[arg-type]
            return None if is_valid else f"must be a number{_format_range(minimum, maximum)}{actual}"
        case inspect.StrType(min_length=min_length):
            is_valid = isinstance(value, str) and len(value) >= (min_length or 0)
            return None if is_valid else f"must be text{actual}"
    raise TypeError(f"unsupported type {info}")


def _describe_actual(node: YamlNode) -> str:
    """Returns ", not …" with the actual value. Text is quoted, so that "10" is seen to be text."""
    if isinstance(node.value, dict | list):
        return ""
    quote = '"' if isinstance(node.value, str) else ""
    return f", not {quote}{node.text[:40]}{quote}" if node.text else ", but it is empty"


def _find_choice_error(value: object, choices: list[str], hide_values: bool) -> str | None:
    if isinstance(value, str) and value in choices:
        return None
    if hide_values or not isinstance(value, str):
        return f"must be one of {', '.join(choices)}"
    return f"Invalid value '{value[:40]}'{did_you_mean(value, choices)}"


def _is_in_range(value: float, minimum: float | None, maximum: float | None) -> bool:
    return (minimum is None or value >= minimum) and (maximum is None or value <= maximum)


def _format_range(minimum: float | None, maximum: float | None) -> str:
    if minimum is not None and maximum is not None:
        return f" from {minimum:.9g} to {maximum:.9g}"
    if minimum is not None:
        return f" of at least {minimum:.9g}"
    return f" of at most {maximum:.9g}" if maximum is not None else ""
