"""Located data into strict structs: every problem of every file in one run, each with its place and what was meant."""

from typing import Any, ClassVar, Protocol, cast, runtime_checkable

from msgspec import Struct, inspect

from gateway.config.yaml_nodes import Problem, SourceLocation, YamlNode
from gateway.suggestions import did_you_mean

INVALID: Any = object()


@runtime_checkable
class TextValue(Protocol):
    """A value with a form of its own, like an amount or a secret's address: written as text, read by `parse`."""

    EXAMPLE: ClassVar[str]

    @classmethod
    def parse(cls, text: str) -> Any:
        """The value; ValueError says why there is none."""
        ...


class Validator:
    """Builds values of a type out of nodes, and collects what is wrong instead of stopping at it.

    A value that is wrong is stood in for, so that everything beside it can still be judged. What rests on a stand-in
    must not be judged: its place is among the problems' places, or it is one of the `unreliable` options of a block, which
    are absent and should not be, or may only be misspelt.
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
        """As much of a file as is right: what is wrong with one thing hides nothing about the others.

        Quiet: no value that is wrong is repeated, since it may be a secret in the wrong place.
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
        """The fields that stand here. Tells what is missing or unknown."""
        names = [field.encode_name for field in info.fields]
        if not isinstance(node.value, dict):
            self.add_problem(node.location, f"must be a block with {', '.join(names)}")
            return []
        unknown = [name for name in node.value if name not in names]
        for name in unknown:
            self.add_problem(node.value[name].location, f"there is no such option{did_you_mean(name, names)}")
        for field in info.fields:
            if field.encode_name in node.value:
                continue
            if field.required:
                self.add_problem(node.location, f"'{field.encode_name}' is missing")
            if field.required or unknown:
                self.unreliable.add((node.location, field.encode_name))
        return [(field, node.value[field.encode_name]) for field in info.fields if field.encode_name in node.value]

    def _build_dict(self, node: YamlNode, info: inspect.DictType) -> Any:
        """Without those entries that nothing can be said about."""
        if not isinstance(node.value, dict):
            return self.add_problem(node.location, "must be a block of names and their values")
        if len(node.value) < (info.min_length or 0):
            return self.add_problem(node.location, "must name at least one")
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
        """As long as it was written, so that each item is found by its number."""
        if not isinstance(node.value, list):
            return self.add_problem(node.location, "must be a list, like [a, b]")
        built = [self._build_value(item, info.item_type) for item in node.value]
        items = [make_placeholder(info.item_type) if item is INVALID else item for item in built]
        return tuple(items) if isinstance(info, inspect.VarTupleType) else items

    def _build_union(self, node: YamlNode, info: inspect.UnionType) -> Any:
        """The alternative that the node's own form speaks for; its problems are those that are told."""
        if node.value is None and any(isinstance(candidate, inspect.NoneType) for candidate in info.types):
            return None
        types = [candidate for candidate in info.types if not isinstance(candidate, inspect.NoneType)]
        return self._build_value(
            node, next((candidate for candidate in types if _looks_like(node, candidate)), types[0])
        )

    def _build_text_value(self, node: YamlNode, text_type: Any) -> Any:
        if not isinstance(node.value, str):
            # What was given instead is not repeated: it may be a secret.
            return self.add_problem(node.location, f"must be text like {text_type.EXAMPLE}")
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
    """Something of this type in place of what is wrong. A text is empty then, as none in a file can be."""
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
    """Why a scalar is not of this type, or None if it is."""
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
    raise TypeError(f"no way to check {info}")


def _describe_actual(node: YamlNode) -> str:
    """', not …': text in quotes, so that a number in quotes is seen to be text."""
    if isinstance(node.value, dict | list):
        return ""
    quote = '"' if isinstance(node.value, str) else ""
    return f", not {quote}{node.text[:40]}{quote}" if node.text else ", not nothing"


def _find_choice_error(value: object, choices: list[str], hide_values: bool) -> str | None:
    if isinstance(value, str) and value in choices:
        return None
    if hide_values or not isinstance(value, str):
        return f"must be one of {', '.join(choices)}"
    return f"'{value[:40]}' is not possible here{did_you_mean(value, choices)}"


def _is_in_range(value: float, minimum: float | None, maximum: float | None) -> bool:
    return (minimum is None or value >= minimum) and (maximum is None or value <= maximum)


def _format_range(minimum: float | None, maximum: float | None) -> str:
    if minimum is not None and maximum is not None:
        return f" from {minimum:.9g} to {maximum:.9g}"
    if minimum is not None:
        return f" of at least {minimum:.9g}"
    return f" of at most {maximum:.9g}" if maximum is not None else ""
