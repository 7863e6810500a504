"""Base class and shared types of the configuration schema."""

from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar

from msgspec import Meta, Struct

PositiveSeconds = Annotated[float, Meta(ge=0.05, le=86_400)]
Count = Annotated[int, Meta(ge=1, le=100)]
NON_EMPTY = Meta(min_length=1)
NonEmptyText = Annotated[str, Meta(min_length=1)]

ItemT = TypeVar("ItemT")
OneOrMore: TypeAlias = ItemT | Annotated[tuple[ItemT, ...], NON_EMPTY]


def option_help(text: str) -> Meta:
    """Help for an option, shown by editors. It names the unit, the default and the consequence."""
    return Meta(description=text)


class ConfigStruct(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all configuration structs. Unknown options are errors."""

    # JSON Schema keywords for constraints between options, as far as JSON Schema can express them.
    EXTRA_CONSTRAINTS: ClassVar[dict[str, Any]] = {}

    # What to do instead of writing these unknown options here.
    MISPLACED_OPTIONS: ClassVar[dict[str, str]] = {}

    def check_consistency(self) -> str | None:
        """Returns a message if options contradict each other. Called only if each option is valid by itself."""
        return None
