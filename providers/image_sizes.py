"""Sizes of GPT Image 2: pixels, named ratios and resolution tiers, and the way between them. Pure arithmetic."""

import re
from collections.abc import Iterable
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache

from msgspec import Struct

EDGE_STEP = 16
MAX_EDGE = 3840
MAX_RATIO = Fraction(3)
MIN_PIXELS = 655_360
MAX_PIXELS = 8_294_400
# How far a delivered or offered ratio may be from the one asked for and still count as the same.
RATIO_TOLERANCE = 0.02


class Resolution(StrEnum):
    ONE_K = "1k"
    TWO_K = "2k"
    FOUR_K = "4k"


# The most pixels that each tier holds, in rising order.
MAX_PIXELS_BY_RESOLUTION = {Resolution.ONE_K: 1_572_864, Resolution.TWO_K: 4_194_304, Resolution.FOUR_K: MAX_PIXELS}
# The number of pixels a ratio aims for within its tier: that of the tier's best-known square or screen.
_PREFERRED_PIXELS = {Resolution.ONE_K: 1_048_576, Resolution.TWO_K: 4_194_304, Resolution.FOUR_K: MAX_PIXELS}

RATIOS = ("1:1", "3:2", "2:3", "4:3", "3:4", "5:4", "4:5", "16:9", "9:16", "2:1", "1:2", "3:1", "1:3", "21:9", "9:21")

# Sizes that everybody means by these words, where the aim alone would pick a neighbour.
_STANDARD_SIZES = {
    ("3:2", Resolution.ONE_K): (1536, 1024),
    ("2:3", Resolution.ONE_K): (1024, 1536),
    ("16:9", Resolution.TWO_K): (2048, 1152),
    ("9:16", Resolution.TWO_K): (1152, 2048),
}


class SizeError(ValueError):
    """The size cannot be had from this model; the message says why, in words for the caller."""


class TargetSize(Struct, frozen=True):
    """What a request resolves to before it is priced: exact pixels, and how they are named by ratio and tier."""

    width: int
    height: int
    ratio: str
    resolution: Resolution


def parse_size(text: str) -> tuple[int, int]:
    """'1536x1024' → (1536, 1024); whether the model has that size is another question."""
    if not (match := re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text, re.ASCII)):
        raise SizeError(f"size must look like 1536x1024, not {text[:40]!r}")
    return int(match[1]), int(match[2])


def find_size_error(width: int, height: int) -> str | None:
    """The first rule of the model that these pixels break."""
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
    """The tier that this many pixels belong to; more than the largest tier holds still counts as that tier."""
    return next(
        (tier for tier, max_pixels in MAX_PIXELS_BY_RESOLUTION.items() if width * height <= max_pixels),
        Resolution.FOUR_K,
    )


def parse_ratio(text: str) -> Fraction:
    """'16:9' → 16/9. Refuses what no size of the model can have."""
    if not (match := re.fullmatch(r"([1-9]\d{0,3}):([1-9]\d{0,3})", text, re.ASCII)):
        raise SizeError(f"aspect_ratio must look like 16:9, not {text[:40]!r}")
    ratio = Fraction(int(match[1]), int(match[2]))
    if not 1 / MAX_RATIO <= ratio <= MAX_RATIO:
        raise SizeError(f"aspect_ratio {text} is outside 1:3 to 3:1")
    return ratio


_RATIO_NAMES = {parse_ratio(name): name for name in RATIOS}


def find_nearest_ratio(width: int, height: int, ratio_names: Iterable[str] = RATIOS) -> tuple[str, float]:
    """The named ratio closest to these pixels, and how far off it is (0.02 is 2 %)."""
    ratio = Fraction(width, height)
    return min(
        ((name, compute_ratio_error(ratio, parse_ratio(name))) for name in ratio_names), key=lambda pair: pair[1]
    )


def compute_ratio_error(first: Fraction, second: Fraction) -> float:
    """How far apart two ratios are, the same whichever comes first."""
    return float(max(first / second, second / first) - 1)


def ratio_from_pixels(width: int, height: int) -> str:
    """The named ratio within tolerance of these pixels, or their own in lowest terms."""
    name, error = find_nearest_ratio(width, height)
    return name if error <= RATIO_TOLERANCE else _format_ratio(Fraction(width, height))


def target_from_pixels(width: int, height: int) -> TargetSize:
    """The target that exactly these pixels are; SizeError if the model does not have them."""
    if problem := find_size_error(width, height):
        raise SizeError(f"size {width}x{height} is not possible: {problem}")
    return TargetSize(width, height, ratio_from_pixels(width, height), resolution_from_pixels(width, height))


@lru_cache(maxsize=1024)
def target_from_ratio(ratio: str, resolution: Resolution) -> TargetSize:
    """The best legal pixels for a ratio in a tier: the ratio exactly if that can be, else within tolerance."""
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
    """All legal pixels of about this ratio in this tier, with how far off the ratio each is."""
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
