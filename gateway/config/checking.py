"""Located data into strict structs: every problem of every file in one run, each with its place and what was meant."""

import difflib
from collections.abc import Iterable
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

from msgspec import Struct, inspect

from gateway.config.located import Node, Place, Problem

MISSING: Any = object()


@runtime_checkable
class Written(Protocol):
    """A value with a form of its own, like an amount or a secret's address: written as text, read by `parse`."""

    LOOKS_LIKE: ClassVar[str]

    @classmethod
    def parse(cls, text: str) -> Any:
        """The value; ValueError says why there is none."""
        ...


class Checker:
    """Builds values of a type out of nodes, and collects what is wrong instead of stopping at it.

    A value that is wrong is stood in for, so that everything beside it can still be judged. What rests on a stand-in
    must not be judged: its place is among the problems' places, or it is one of the `unsure` options of a block, which
    are absent and should not be, or may only be misspelt.
    """

    def __init__(self) -> None:
        self.is_quiet = False
        self.problems: list[Problem] = []
        self.unsure: set[tuple[Place, str]] = set()

    def wrong(self, place: Place, message: str) -> Any:
        self.problems.append(Problem(place, message))
        return MISSING

    def build(self, node: Node, type_: Any) -> Any:
        """A value of this type, or MISSING if the node does not hold one."""
        return self._built(node, inspect.type_info(type_))

    def _built(self, node: Node, info: inspect.Type) -> Any:
        match info:
            case inspect.StructType():
                return self._struct(node, info)
            case inspect.DictType():
                return self._dict(node, info)
            case inspect.ListType() | inspect.VarTupleType():
                return self._list(node, info)
            case inspect.UnionType():
                return self._union(node, info)
            case inspect.Metadata(type=inner):
                return self._built(node, inner)
            case inspect.CustomType(cls=written):
                return self._written(node, written)
            case _:
                return self._scalar(node, info)

    def build_file(self, node: Node, kind: type[Struct], is_quiet: bool = False) -> dict[str, Any]:
        """As much of a file as is right: what is wrong with one thing hides nothing about the others.

        Quiet: no value that is wrong is repeated, since it may be a secret in the wrong place.
        """
        self.is_quiet = is_quiet
        return self._options(node, cast(inspect.StructType, inspect.type_info(kind)))

    def _options(self, node: Node, info: inspect.StructType) -> dict[str, Any]:
        built = {field.name: self._built(inner, field.type) for field, inner in self._given(node, info)}
        return {name: value for name, value in built.items() if value is not MISSING}

    def _struct(self, node: Node, info: inspect.StructType) -> Any:
        told = len(self.problems)
        values = self._options(node, info)
        if not isinstance(node.value, dict):
            return MISSING
        absent = {field.name: stand_in(field.type) for field in info.fields if field.required}
        made: Any = info.cls(**absent | values)
        if len(self.problems) == told and (reason := made.contradiction()):
            self.wrong(node.place, reason)
        return made

    def _given(self, node: Node, info: inspect.StructType) -> list[tuple[inspect.Field, Node]]:
        """The fields that stand here. Tells what is missing or unknown."""
        names = [field.encode_name for field in info.fields]
        if not isinstance(node.value, dict):
            self.wrong(node.place, f"must be a block with {', '.join(names)}")
            return []
        unknown = [name for name in node.value if name not in names]
        for name in unknown:
            self.wrong(node.value[name].place, f"there is no such option{did_you_mean(name, names)}")
        for field in info.fields:
            if field.encode_name in node.value:
                continue
            if field.required:
                self.wrong(node.place, f"'{field.encode_name}' is missing")
            if field.required or unknown:
                self.unsure.add((node.place, field.encode_name))
        return [(field, node.value[field.encode_name]) for field in info.fields if field.encode_name in node.value]

    def _dict(self, node: Node, info: inspect.DictType) -> Any:
        """Without those entries that nothing can be said about."""
        if not isinstance(node.value, dict):
            return self.wrong(node.place, "must be a block of names and their values")
        if len(node.value) < (info.min_length or 0):
            return self.wrong(node.place, "must name at least one")
        built = {
            self._built(Node(name, inner.place, name), info.key_type): self._entry(inner, info.value_type)
            for name, inner in node.value.items()
        }
        return {name: value for name, value in built.items() if name is not MISSING and value is not MISSING}

    def _entry(self, node: Node, info: inspect.Type) -> Any:
        built = self._built(node, info)
        return stand_in(info) if built is MISSING and not isinstance(info, inspect.StructType) else built

    def _list(self, node: Node, info: inspect.ListType | inspect.VarTupleType) -> Any:
        """As long as it was written, so that each item is found by its number."""
        if not isinstance(node.value, list):
            return self.wrong(node.place, "must be a list, like [a, b]")
        built = [self._built(item, info.item_type) for item in node.value]
        whole = [stand_in(info.item_type) if item is MISSING else item for item in built]
        return tuple(whole) if isinstance(info, inspect.VarTupleType) else whole

    def _union(self, node: Node, info: inspect.UnionType) -> Any:
        """The alternative that the node's own form speaks for; its problems are those that are told."""
        if node.value is None and any(isinstance(kind, inspect.NoneType) for kind in info.types):
            return None
        kinds = [kind for kind in info.types if not isinstance(kind, inspect.NoneType)]
        return self._built(node, next((kind for kind in kinds if _speaks_for(node, kind)), kinds[0]))

    def _written(self, node: Node, written: Any) -> Any:
        if not isinstance(node.value, str):
            # What was given instead is not repeated: it may be a secret.
            return self.wrong(node.place, f"must be text like {written.LOOKS_LIKE}")
        try:
            return written.parse(node.value)
        except ValueError as error:
            return self.wrong(node.place, str(error))

    def _scalar(self, node: Node, info: inspect.Type) -> Any:
        if (expected := _why_not(node, info, self.is_quiet)) is not None:
            return self.wrong(node.place, expected)
        if isinstance(info, inspect.EnumType):
            return info.cls(node.value)
        return float(node.value) if isinstance(info, inspect.FloatType) else node.value  # type: ignore[arg-type]


def stand_in(info: inspect.Type) -> Any:
    """Something of this type in place of what is wrong. A text is empty then, as none in a file can be."""
    match info:
        case inspect.StructType(cls=kind, fields=fields):
            return kind(**{field.name: stand_in(field.type) for field in fields if field.required})
        case inspect.Metadata(type=inner):
            return stand_in(inner)
        case inspect.UnionType(types=types):
            return None if any(isinstance(kind, inspect.NoneType) for kind in types) else stand_in(types[0])
        case inspect.EnumType(cls=words):
            return next(iter(words))
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.CustomType(cls=written):
            return written()
    empty = {inspect.DictType: {}, inspect.VarTupleType: (), inspect.ListType: [], inspect.StrType: ""}
    return empty.get(type(info), 0)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """'; did you mean …?', or what there is."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; there is {', '.join(known)}" if known else ""


def _speaks_for(node: Node, kind: inspect.Type) -> bool:
    match kind:
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
    return _why_not(node, kind, is_quiet=True) is None


def _why_not(node: Node, info: inspect.Type, is_quiet: bool) -> str | None:
    """Why a scalar is not of this type, or None if it is."""
    value = node.value
    given = "" if is_quiet else _given(node)
    match info:
        case inspect.EnumType(cls=kind):
            return _not_among(value, [str(member) for member in kind], is_quiet)
        case inspect.LiteralType(values=values):
            return _not_among(value, [str(one) for one in values], is_quiet)
        case inspect.BoolType():
            return None if isinstance(value, bool) else f"must be true or false{given}"
        case inspect.IntType(ge=least, le=most):
            fits = type(value) is int and _within(value, least, most)
            return None if fits else f"must be a whole number{_range(least, most)}{given}"
        case inspect.FloatType(ge=least, le=most):
            fits = type(value) in (int, float) and _within(value, least, most)  # type: ignore[arg-type]
            return None if fits else f"must be a number{_range(least, most)}{given}"
        case inspect.StrType(min_length=shortest):
            fits = isinstance(value, str) and len(value) >= (shortest or 0)
            return None if fits else f"must be text{given}"
    raise TypeError(f"no way to check {info}")


def _given(node: Node) -> str:
    """', not …': text in quotes, so that a number in quotes is seen to be text."""
    if isinstance(node.value, dict | list):
        return ""
    quote = '"' if isinstance(node.value, str) else ""
    return f", not {quote}{node.text[:40]}{quote}" if node.text else ", not nothing"


def _not_among(value: object, words: list[str], is_quiet: bool) -> str | None:
    if isinstance(value, str) and value in words:
        return None
    if is_quiet or not isinstance(value, str):
        return f"must be one of {', '.join(words)}"
    return f"'{value[:40]}' is not possible here{did_you_mean(value, words)}"


def _within(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


def _range(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f" from {least:.9g} to {most:.9g}"
    if least is not None:
        return f" of at least {least:.9g}"
    return f" of at most {most:.9g}" if most is not None else ""
