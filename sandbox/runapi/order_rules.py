"""RunAPI's rules for orders: which are valid, their price, their pixels. Pure."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from sandbox.charges import parse_usd
from sandbox.runapi.http_helpers import is_blank
from sandbox.switches import RunapiSwitches

MODEL = "gpt-image-2"


class TaskAction(StrEnum):
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
PRICES = {"1k": parse_usd("0.06"), "2k": parse_usd("0.10"), "4k": parse_usd("0.16")}
FLAT_EDIT_PRICE = parse_usd("0.16")
MAX_SOURCES = 16

# The page gives no pixels: these are the usual square sizes of each resolution, within the model's limits.
PIXELS_BY_RESOLUTION = {"1k": 1024 * 1024, "2k": 2048 * 2048, "4k": 3840 * 2160}
EDGE_STEP = 16
MAX_EDGE = 3840
MAX_RATIO = 3.0
RATIO_TOLERANCE = 0.015


@dataclass(frozen=True, slots=True)
class TaskParams:
    """A valid order. `ratio` None means the ratio of the first source image."""

    prompt: str
    ratio: float | None
    resolution: str
    source_urls: tuple[str, ...]
    callback_url: str | None
    is_forbidden: bool


def get_price(action: TaskAction, resolution: str, switches: RunapiSwitches) -> int:
    if action is TaskAction.EDIT_IMAGE and switches.edit_price == "flat":
        return FLAT_EDIT_PRICE
    return PRICES[resolution]


def find_problems(action: TaskAction, fields: Mapping[str, Any], switches: RunapiSwitches) -> dict[str, list[str]]:
    """Returns the problems of an order, by field."""
    checks = dict(FIELD_CHECKS)
    if action is TaskAction.EDIT_IMAGE:
        checks["source_image_urls"] = lambda value: check_sources(value, switches.data_uri_sources)
    problems = {name: [problem] for name, check in checks.items() if (problem := check(fields.get(name)))}
    if switches.unknown_fields == "refused":
        problems |= {name: ["is not permitted"] for name in fields if name not in checks}
    if (
        not problems
        and switches.forbidden_ratio_response == "refused"
        and (problem := find_forbidden_combination(fields))
    ):
        problems["output_resolution"] = [problem]
    return problems


def find_forbidden_combination(fields: Mapping[str, Any]) -> str | None:
    """Returns the problem of a forbidden combination of ratio and resolution, or None. The vendor documents these rules
    in prose only."""
    ratio, resolution = _get_ratio(fields), _get_resolution(fields)
    if ratio == "1:1" and resolution == "4k":
        return "cannot be 4k when aspect_ratio is 1:1"
    if ratio == AUTO and resolution != "1k":
        return f"cannot be {resolution} when aspect_ratio is auto or absent"
    return None


def parse_task_params(action: TaskAction, fields: Mapping[str, Any]) -> TaskParams:
    """Parses fields that `find_problems` has accepted. Their combination may still be forbidden."""
    ratio = RATIOS.get(_get_ratio(fields))
    is_edit = action is TaskAction.EDIT_IMAGE
    return TaskParams(
        prompt=fields["prompt"],
        ratio=ratio or (None if is_edit else 1.0),
        resolution=_get_resolution(fields),
        source_urls=tuple(fields["source_image_urls"]) if is_edit else (),
        callback_url=fields.get("callback_url") or None,
        is_forbidden=find_forbidden_combination(fields) is not None,
    )


def _get_ratio(fields: Mapping[str, Any]) -> str:
    value = fields.get("aspect_ratio")
    return AUTO if is_blank(value) else str(value)


def _get_resolution(fields: Mapping[str, Any]) -> str:
    value = fields.get("output_resolution")
    return "1k" if is_blank(value) else str(value)


def _check_model(value: object) -> str | None:
    return None if value == MODEL else f"must be one of: {MODEL}"


def _check_prompt(value: object) -> str | None:
    if is_blank(value):
        return "is required"
    return None if isinstance(value, str) else "must be a string"


def _make_choice_check(*allowed: str) -> Callable[[object], str | None]:
    def check(value: object) -> str | None:
        return None if is_blank(value) or value in allowed else f"must be one of: {', '.join(allowed)}"

    return check


def _check_callback_url(value: object) -> str | None:
    return None if is_blank(value) or is_http_url(value) else "must be an http or https URL"


def check_sources(value: object, allows_data_uris: bool) -> str | None:
    if is_blank(value):
        return "is required"
    if not isinstance(value, list):
        return "must be an array"
    if len(value) > MAX_SOURCES:
        return f"must contain at most {MAX_SOURCES} items"
    if not all(is_http_url(item) or (allows_data_uris and _is_data_uri(item)) for item in value):
        return "must contain only URLs"
    return None


def is_http_url(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def _is_data_uri(value: object) -> bool:
    return isinstance(value, str) and value.startswith("data:")


FIELD_CHECKS: Mapping[str, Callable[[object], str | None]] = {
    "model": _check_model,
    "prompt": _check_prompt,
    "aspect_ratio": _make_choice_check(AUTO, *RATIOS),
    "output_resolution": _make_choice_check(*PRICES),
    "callback_url": _check_callback_url,
}


@cache
def compute_size(ratio: float, resolution: str) -> tuple[int, int]:
    """Returns the largest valid size of this ratio, or of the nearest possible one, within the resolution's pixels."""
    if ratio < 1:
        height, width = compute_size(1 / ratio, resolution)
        return width, height
    ratio, best = min(MAX_RATIO, ratio), (0, 0)
    for width in range(EDGE_STEP, MAX_EDGE + 1, EDGE_STEP):
        height = max(EDGE_STEP, round(width / ratio / EDGE_STEP) * EDGE_STEP)
        is_valid = width <= MAX_RATIO * height and width * height <= PIXELS_BY_RESOLUTION[resolution]
        if is_valid and abs(width / height / ratio - 1) <= RATIO_TOLERANCE:
            best = max(best, (width, height), key=math.prod)
    return best
