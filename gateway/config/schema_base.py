"""What all blocks have in common, and the numbers and texts that several of them hold."""

from typing import Annotated

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(ge=0, le=86_400)]
PositiveSeconds = Annotated[float, Meta(ge=0.05, le=86_400)]
Count = Annotated[int, Meta(ge=1, le=100)]
NON_EMPTY = Meta(min_length=1)
NonEmptyText = Annotated[str, Meta(min_length=1)]


class ConfigStruct(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every block refuses what it does not know."""

    def check_consistency(self) -> str | None:
        """What is wrong with options that are right each by itself. Only asked where all of them are."""
        return None
