"""Validates YAML nodes against the schema and collects all problems, each with its location and a suggestion."""

from typing import Any, ClassVar, Protocol, cast, runtime_checkable

from msgspec import Struct, inspect

from gateway.config.yaml_nodes import Problem, SourceLocation, YamlNode
from gateway.suggestions import did_you_mean

INVALID: Any = object()


@runtime_checkable
class TextValue(Protocol):
    """A value written as text in a form of its own, such as an amount or a secret reference. `parse` reads it."""

    EXAMPLE: ClassVar[str]

    @classmethod
    def parse(cls, text: str) -> Any:
        """Parses the text. ValueError says why it is invalid."""
        ...


class Validator:
    """Builds typed values from YAML nodes and collects problems instead of stopping at the first.

    An invalid value is replaced by a placeholder, so that the rest can be validated. Checks must ignore values that
    depend on a placeholder: its location is among the problems' locations, or it is listed in `unreliable` (options
    that are missing, or that may be present under a misspelled name).
    """

    def __init__(self) -> None:
        self.hide_values = False
        self.problems: list[Problem] = []
        self.unreliable: set[tuple[SourceLocation, str]] = set()

    def add_problem(self, location: SourceLocation, message: str) -> Any:
        self.problems.append(Problem(location, message))
        return INVALID

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

    def build_file(self, node: YamlNode, struct_type: type[Struct], hide_values: bool = False) -> dict[str, Any]:
        """Builds the valid options of one file.

        `hide_values`: messages do not repeat invalid values, which may be secrets in the wrong place.
        """
        self.hide_values = hide_values
        return self._build_fields(node, cast(inspect.StructType, inspect.type_info(struct_type)))

    def _build_fields(self, node: YamlNode, info: inspect.StructType) -> dict[str, Any]:
        values = {
            field.name: self._build_value(inner, field.type) for field, inner in self._find_present_fields(node, info)
        }
        return {name: value for name, value in values.items() if value is not INVALID}

    def _build_struct(self, node: YamlNode, info: inspect.StructType) -> Any:
        problems_before = len(self.problems)
        values = self._build_fields(node, info)
        if not isinstance(node.value, dict):
            return INVALID
        placeholders = {field.name: make_placeholder(field.type) for field in info.fields if field.required}
        built: Any = info.cls(**placeholders | values)
        if len(self.problems) == problems_before and (reason := built.check_consistency()):
            self.add_problem(node.location, reason)
        return built

    def _find_present_fields(self, node: YamlNode, info: inspect.StructType) -> list[tuple[inspect.Field, YamlNode]]:
        """Returns the fields that are present. Reports missing and unknown options."""
        names = [field.encode_name for field in info.fields]
        if not isinstance(node.value, dict):
            self.add_problem(node.location, f"Invalid value. Write a block with {', '.join(names)}")
            return []
        unknown = [name for name in node.value if name not in names]
        for name in unknown:
            self.add_problem(node.value[name].location, f"Unknown option{did_you_mean(name, names)}")
        for field in info.fields:
            if field.encode_name in node.value:
                continue
            if field.required:
                self.add_problem(node.location, f"Missing option '{field.encode_name}'")
            if field.required or unknown:
                self.unreliable.add((node.location, field.encode_name))
        return [(field, node.value[field.encode_name]) for field in info.fields if field.encode_name in node.value]

    def _build_dict(self, node: YamlNode, info: inspect.DictType) -> Any:
        """Builds a dict without the entries whose key or value is invalid."""
        if not isinstance(node.value, dict):
            return self.add_problem(node.location, "Invalid value. Write a block of names and values")
        if len(node.value) < (info.min_length or 0):
            return self.add_problem(node.location, "Empty block. Add at least one entry")
        built = {
            self._build_value(YamlNode(name, inner.location, name), info.key_type): self._build_entry(
                inner, info.value_type
            )
            for name, inner in node.value.items()
        }
        return {name: value for name, value in built.items() if name is not INVALID and value is not INVALID}

    def _build_entry(self, node: YamlNode, info: inspect.Type) -> Any:
        built = self._build_value(node, info)
        return make_placeholder(info) if built is INVALID and not isinstance(info, inspect.StructType) else built

    def _build_list(self, node: YamlNode, info: inspect.ListType | inspect.VarTupleType) -> Any:
        """Builds a list of the same length, so that each item keeps its index."""
        if not isinstance(node.value, list):
            return self.add_problem(node.location, "Invalid value. Write a list, like [a, b]")
        built = [self._build_value(item, info.item_type) for item in node.value]
        items = [make_placeholder(info.item_type) if item is INVALID else item for item in built]
        return tuple(items) if isinstance(info, inspect.VarTupleType) else items

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


def make_placeholder(info: inspect.Type) -> Any:
    """Returns a valid value of this type. Text is empty, which no file can contain."""
    match info:
        case inspect.StructType(cls=struct_type, fields=fields):
            return struct_type(**{field.name: make_placeholder(field.type) for field in fields if field.required})
        case inspect.Metadata(type=inner):
            return make_placeholder(inner)
        case inspect.UnionType(types=types):
            return (
                None
                if any(isinstance(struct_type, inspect.NoneType) for struct_type in types)
                else make_placeholder(types[0])
            )
        case inspect.EnumType(cls=enum_type):
            return next(iter(enum_type))
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.CustomType(cls=text_type):
            return text_type()
    empty_values = {inspect.DictType: {}, inspect.VarTupleType: (), inspect.ListType: [], inspect.StrType: ""}
    return empty_values.get(type(info), 0)


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
    return f", not {quote}{node.text[:40]}{quote}" if node.text else ", not nothing"


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
