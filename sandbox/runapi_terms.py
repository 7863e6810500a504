"""What RunAPI sells: which orders it takes, at which price, in which pixels. Pure."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from sandbox.charges import micros
from sandbox.runapi_wire import blank
from sandbox.switches import RunapiSwitches

MODEL = "gpt-image-2"


class Action(StrEnum):
    TEXT_TO_IMAGE = "text_to_image"
    EDIT_IMAGE = "edit_image"


AUTO = "auto"
RATIOS = {
    "1:1": 1.0,
    "3:2": 3 / 2,
    "2:3": 2 / 3,
    "4:3": 4 / 3,
    "3:4": 3 / 4,
    "5:4": 5 / 4,
    "4:5": 4 / 5,
    "16:9": 16 / 9,
    "9:16": 9 / 16,
    "2:1": 2.0,
    "1:2": 1 / 2,
    "3:1": 3.0,
    "1:3": 1 / 3,
    "21:9": 21 / 9,
    "9:21": 9 / 21,
}
PRICES = {"1k": micros("0.06"), "2k": micros("0.10"), "4k": micros("0.16")}
FLAT_EDIT_PRICE = micros("0.16")
MAX_SOURCES = 16

# The page gives no pixels; these are what the model can make, the usual square of each tier in mind.
PIXELS = {"1k": 1024 * 1024, "2k": 2048 * 2048, "4k": 3840 * 2160}
GRID = 16
LONGEST_EDGE = 3840
WIDEST = 3.0
RATIO_TOLERANCE = 0.015


@dataclass(frozen=True, slots=True)
class Wanted:
    """A valid order. `ratio` None: whatever the first source has."""

    prompt: str
    ratio: float | None
    resolution: str
    sources: tuple[str, ...]
    callback_url: str | None
    forbidden: bool


def price(action: Action, resolution: str, switches: RunapiSwitches) -> int:
    if action is Action.EDIT_IMAGE and switches.edit_price == "flat":
        return FLAT_EDIT_PRICE
    return PRICES[resolution]


def problems(action: Action, fields: Mapping[str, Any], switches: RunapiSwitches) -> dict[str, list[str]]:
    """What is wrong with an order's fields, each under its name."""
    checks = dict(CHECKS)
    if action is Action.EDIT_IMAGE:
        checks["source_image_urls"] = lambda value: sources_problem(value, switches.data_uri_sources)
    found = {name: [problem] for name, check in checks.items() if (problem := check(fields.get(name)))}
    if switches.unknown_fields == "refused":
        found |= {name: ["is not permitted"] for name in fields if name not in checks}
    if not found and switches.forbidden_ratio == "refused" and (problem := forbidden(fields)):
        found["output_resolution"] = [problem]
    return found


def forbidden(fields: Mapping[str, Any]) -> str | None:
    """The combinations that the vendor's types forbid in prose and no machine rule does."""
    ratio, resolution = _ratio(fields), _resolution(fields)
    if ratio == "1:1" and resolution == "4k":
        return "cannot be 4k when aspect_ratio is 1:1"
    if ratio == AUTO and resolution != "1k":
        return f"cannot be {resolution} when aspect_ratio is auto or absent"
    return None


def wanted(action: Action, fields: Mapping[str, Any]) -> Wanted:
    """An order whose fields have no problems, except perhaps a forbidden combination."""
    ratio = RATIOS.get(_ratio(fields))
    editing = action is Action.EDIT_IMAGE
    return Wanted(
        prompt=fields["prompt"],
        ratio=ratio or (None if editing else 1.0),
        resolution=_resolution(fields),
        sources=tuple(fields["source_image_urls"]) if editing else (),
        callback_url=fields.get("callback_url") or None,
        forbidden=forbidden(fields) is not None,
    )


def _ratio(fields: Mapping[str, Any]) -> str:
    value = fields.get("aspect_ratio")
    return AUTO if blank(value) else str(value)


def _resolution(fields: Mapping[str, Any]) -> str:
    value = fields.get("output_resolution")
    return "1k" if blank(value) else str(value)


def _model_problem(value: object) -> str | None:
    return None if value == MODEL else f"must be one of: {MODEL}"


def _prompt_problem(value: object) -> str | None:
    if blank(value):
        return "is required"
    return None if isinstance(value, str) else "must be a string"


def _one_of(*allowed: str) -> Callable[[object], str | None]:
    def problem(value: object) -> str | None:
        return None if blank(value) or value in allowed else f"must be one of: {', '.join(allowed)}"

    return problem


def _callback_problem(value: object) -> str | None:
    return None if blank(value) or is_http_url(value) else "must be an http or https URL"


def sources_problem(value: object, data_uris: bool) -> str | None:
    if blank(value):
        return "is required"
    if not isinstance(value, list):
        return "must be an array"
    if len(value) > MAX_SOURCES:
        return f"must contain at most {MAX_SOURCES} items"
    if not all(is_http_url(item) or (data_uris and _is_data_uri(item)) for item in value):
        return "must contain only URLs"
    return None


def is_http_url(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def _is_data_uri(value: object) -> bool:
    return isinstance(value, str) and value.startswith("data:")


CHECKS: Mapping[str, Callable[[object], str | None]] = {
    "model": _model_problem,
    "prompt": _prompt_problem,
    "aspect_ratio": _one_of(AUTO, *RATIOS),
    "output_resolution": _one_of(*PRICES),
    "callback_url": _callback_problem,
}


@cache
def size(ratio: float, resolution: str) -> tuple[int, int]:
    """The largest legal picture of this ratio (or the nearest that the model can make) within the tier's pixels."""
    if ratio < 1:
        height, width = size(1 / ratio, resolution)
        return width, height
    ratio, best = min(WIDEST, ratio), (0, 0)
    for width in range(GRID, LONGEST_EDGE + 1, GRID):
        height = max(GRID, round(width / ratio / GRID) * GRID)
        legal = width <= WIDEST * height and width * height <= PIXELS[resolution]
        if legal and abs(width / height / ratio - 1) <= RATIO_TOLERANCE:
            best = max(best, (width, height), key=math.prod)
    return best
