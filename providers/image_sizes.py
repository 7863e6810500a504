"""Sizes of GPT Image 2: pixels, named ratios, resolutions, and the conversions between them. Pure arithmetic."""

import re
from collections.abc import Iterable
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache

from msgspec import Struct

EDGE_STEP = 16
MAX_EDGE = 3840
MAX_RATIO = 3
MIN_PIXELS = 655_360
MAX_PIXELS = 8_294_400
# The relative difference up to which two ratios count as equal.
RATIO_TOLERANCE = 0.02


class Resolution(StrEnum):
    ONE_K = "1k"
    TWO_K = "2k"
    FOUR_K = "4k"


# The maximum number of pixels of each resolution, in ascending order.
MAX_PIXELS_BY_RESOLUTION = {Resolution.ONE_K: 1_572_864, Resolution.TWO_K: 4_194_304, Resolution.FOUR_K: MAX_PIXELS}
# The preferred number of pixels of each resolution: that of its best-known square or screen size.
_PREFERRED_PIXELS = {Resolution.ONE_K: 1_048_576, Resolution.TWO_K: 4_194_304, Resolution.FOUR_K: MAX_PIXELS}

RATIOS = ("1:1", "3:2", "2:3", "4:3", "3:4", "5:4", "4:5", "16:9", "9:16", "2:1", "1:2", "3:1", "1:3", "21:9", "9:21")

# Common sizes; the pixel count alone would select a neighbouring size.
_STANDARD_SIZES = {
    ("3:2", Resolution.ONE_K): (1536, 1024),
    ("2:3", Resolution.ONE_K): (1024, 1536),
    ("16:9", Resolution.TWO_K): (2048, 1152),
    ("9:16", Resolution.TWO_K): (1152, 2048),
}


class SizeError(ValueError):
    """The model does not support the size. The message is for the client."""


class TargetSize(Struct, frozen=True):
    """The size that a request resolves to: exact pixels, with their ratio and resolution."""

    width: int
    height: int
    ratio: str
    resolution: Resolution


def parse_size(text: str) -> tuple[int, int]:
    """Parses '1536x1024' as (1536, 1024). Does not check whether the model supports the size."""
    if not (match := re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text, re.ASCII)):
        raise SizeError(f"size must look like 1536x1024, not {text[:40]!r}")
    return int(match[1]), int(match[2])


def find_size_error(width: int, height: int) -> str | None:
    """Returns an error for the first size rule of the model that these pixels violate, or None."""
    longest, shortest = max(width, height), min(width, height)
    if shortest < 1:
        return "width and height must be positive"
    if width % EDGE_STEP or height % EDGE_STEP:
        return f"width and height must be multiples of {EDGE_STEP}"
    if longest > MAX_EDGE:
        return f"the longest edge must not exceed {MAX_EDGE} pixels"
    if longest > MAX_RATIO * shortest:
        return "the aspect ratio must lie between 1:3 and 3:1"
    if width * height < MIN_PIXELS:
        return f"width x height must be at least {MIN_PIXELS:,} pixels"
    if width * height > MAX_PIXELS:
        return f"width x height must not exceed {MAX_PIXELS:,} pixels"
    return None


def resolution_from_pixels(width: int, height: int) -> Resolution:
    """Returns the resolution of this many pixels; the largest one if there are too many."""
    return next(
        (tier for tier, max_pixels in MAX_PIXELS_BY_RESOLUTION.items() if width * height <= max_pixels),
        Resolution.FOUR_K,
    )


@lru_cache(maxsize=1024)
def parse_ratio(text: str) -> Fraction:
    """Parses '16:9' as 16/9. Raises SizeError for ratios that no size of the model has."""
    if not (match := re.fullmatch(r"([1-9]\d{0,3}):([1-9]\d{0,3})", text, re.ASCII)):
        raise SizeError(f"aspect_ratio must look like 16:9, not {text[:40]!r}")
    ratio = Fraction(int(match[1]), int(match[2]))
    if not Fraction(1, MAX_RATIO) <= ratio <= MAX_RATIO:
        raise SizeError(f"aspect_ratio {text} is outside 1:3 to 3:1")
    return ratio


_RATIO_NAMES = {parse_ratio(name): name for name in RATIOS}


def find_nearest_ratio(width: int, height: int, ratio_names: Iterable[str] = RATIOS) -> tuple[str, float]:
    """Returns the named ratio closest to these pixels, and its relative error (0.02 is 2 %)."""
    ratio = Fraction(width, height)
    return min(
        ((name, compute_ratio_error(ratio, parse_ratio(name))) for name in ratio_names), key=lambda pair: pair[1]
    )


def compute_ratio_error(first: Fraction, second: Fraction) -> float:
    """Returns the relative difference of two ratios, independent of their order.

    In integers, since every request needs it for many ratios, and arithmetic with fractions is 20 times slower.
    """
    products = first.numerator * second.denominator, second.numerator * first.denominator
    smaller = min(products)
    return (max(products) - smaller) / smaller


def ratio_from_pixels(width: int, height: int) -> str:
    """Returns the named ratio within tolerance of these pixels, else their exact ratio in lowest terms."""
    name, error = find_nearest_ratio(width, height)
    return name if error <= RATIO_TOLERANCE else _format_ratio(Fraction(width, height))


@lru_cache(maxsize=1024)
def target_from_pixels(width: int, height: int) -> TargetSize:
    """Returns the target of exactly these pixels; SizeError if the model does not support them."""
    if problem := find_size_error(width, height):
        raise SizeError(f"size {width}x{height} is not possible: {problem}")
    return TargetSize(width, height, ratio_from_pixels(width, height), resolution_from_pixels(width, height))


@lru_cache(maxsize=1024)
def target_from_ratio(ratio: str, resolution: Resolution) -> TargetSize:
    """Returns the best valid pixels for a ratio: exactly this ratio if possible, else within tolerance."""
    exact_ratio = parse_ratio(ratio)
    name = _RATIO_NAMES.get(exact_ratio) or _format_ratio(exact_ratio)
    if standard_size := _STANDARD_SIZES.get((name, resolution)):
        return TargetSize(*standard_size, name, resolution)
    candidates = _list_valid_sizes(exact_ratio, resolution)
    if not candidates:
        raise SizeError(f"no size of ratio {ratio} exists at {resolution}")
    preferred_pixels = _PREFERRED_PIXELS[resolution]
    _, _, width, height = min((error, abs(w * h - preferred_pixels), w, h) for error, w, h in candidates)
    return TargetSize(width, height, name, resolution)


def _list_valid_sizes(ratio: Fraction, resolution: Resolution) -> list[tuple[float, int, int]]:
    """Lists all valid pixels of about this ratio in this resolution, each with its ratio error."""
    valid_sizes = []
    for height in range(EDGE_STEP, MAX_EDGE + 1, EDGE_STEP):
        floor = int(ratio * height) // EDGE_STEP * EDGE_STEP
        for width in (floor, floor + EDGE_STEP):
            if find_size_error(width, height) is None and resolution_from_pixels(width, height) is resolution:
                error = compute_ratio_error(ratio, Fraction(width, height))
                if error <= RATIO_TOLERANCE:
                    valid_sizes.append((error, width, height))
    return valid_sizes


def _format_ratio(ratio: Fraction) -> str:
    return f"{ratio.numerator}:{ratio.denominator}"
