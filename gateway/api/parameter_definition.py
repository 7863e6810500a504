"""The rows of the parameter table: what becomes of a parameter, its description and an example.

`parameter_table.py` holds the rows: each is the annotation of a struct's field.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import cache
from typing import Any, get_type_hints

from msgspec import Struct

from gateway.catalogue import Model


class Treatment(StrEnum):
    """What becomes of a parameter."""

    APPLIED = "applied"
    # Some values are replaced by other values, with a warning.
    MAPPED = "mapped"
    # Accepted, but without effect: a warning says so.
    WARNED = "warned"
    # Refused by name, except for null.
    REFUSED = "refused"


class Replacement(Struct, frozen=True):
    """The value to use and the warning about it. DALL-E clients get no warning about an `is_dalle_word`."""

    value: Any
    warning: str | None = None
    is_dalle_word: bool = False


class Parameter(Struct, frozen=True):
    """A row of the table.

    `fix_spelling`: reads the other spellings of a value, such as the text of a form. `replace`: returns what replaces a
    value for a model, or None. `note`: what becomes of which values. `refusal`: why a value is refused, and what to do
    instead; by default the error says which values are allowed.
    """

    treatment: Treatment
    description: str
    example: Any
    note: str = ""
    refusal: str = ""
    fix_spelling: Callable[[Any], Any] | None = None
    replace: Callable[[Any, Model | None], Replacement | None] | None = None


APPLIED, MAPPED, WARNED, REFUSED = Treatment


def make_refused_file_row(refusal: str) -> Parameter:
    """Returns the row of `file_id`: no input image is an uploaded file."""
    return Parameter(REFUSED, "The id of an uploaded file.", "file-1", refusal=refusal)


class TranslatedFields(Struct, frozen=True):
    """The fields of another API's request, as fields of this table.

    `warnings`: about what was mapped or ignored. `echoed_params`: what only the responses to the request repeat.
    """

    fields: dict[str, Any]
    warnings: tuple[str, ...] = ()
    echoed_params: Mapping[str, Any] = {}


@cache
def get_parameters(body_type: type[Struct]) -> Mapping[str, Parameter]:
    """Returns the rows of a body, by the names of its parameters: its own, those of its base, and the refused ones."""
    hints = get_type_hints(body_type, include_extras=True)
    base: type[Struct] = body_type.__mro__[body_type.__mro__.index(Struct) - 1]
    rows = [(name, row) for name in body_type.__struct_fields__ if (row := _find_row(hints[name])) is not None]
    return dict(sorted(rows, key=lambda item: (item[1].treatment is REFUSED, item[0] in base.__struct_fields__)))


def _find_row(annotation: Any) -> Parameter | None:
    return next((extra for extra in getattr(annotation, "__metadata__", ()) if isinstance(extra, Parameter)), None)
