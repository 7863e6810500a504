"""Sizes of GPT Image 2: pixels, named ratios and resolution tiers, and the way between them. Pure arithmetic."""

import re
from collections.abc import Iterable
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache

from msgspec import Struct

EDGE_STEP = 16
LONGEST_EDGE = 3840
WIDEST = Fraction(3)
FEWEST_PIXELS = 655_360
MOST_PIXELS = 8_294_400
# How far a delivered or offered ratio may be from the one asked for and still count as the same.
RATIO_TOLERANCE = 0.02


class Resolution(StrEnum):
    ONE_K = "1k"
    TWO_K = "2k"
    FOUR_K = "4k"


# The most pixels that each tier holds, in rising order.
CEILINGS = {Resolution.ONE_K: 1_572_864, Resolution.TWO_K: 4_194_304, Resolution.FOUR_K: MOST_PIXELS}
# The number of pixels a ratio aims for within its tier: that of the tier's best-known square or screen.
_AIMS = {Resolution.ONE_K: 1_048_576, Resolution.TWO_K: 4_194_304, Resolution.FOUR_K: MOST_PIXELS}

RATIOS = ("1:1", "3:2", "2:3", "4:3", "3:4", "5:4", "4:5", "16:9", "9:16", "2:1", "1:2", "3:1", "1:3", "21:9", "9:21")

# Sizes that everybody means by these words, where the aim alone would pick a neighbour.
_CUSTOMARY = {
    ("3:2", Resolution.ONE_K): (1536, 1024),
    ("2:3", Resolution.ONE_K): (1024, 1536),
    ("16:9", Resolution.TWO_K): (2048, 1152),
    ("9:16", Resolution.TWO_K): (1152, 2048),
}


class SizeError(ValueError):
    """The size cannot be had from this model; the message says why, in words for the caller."""


class Target(Struct, frozen=True):
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


def why_illegal(width: int, height: int) -> str | None:
    """The first rule of the model that these pixels break."""
    longest, shortest = max(width, height), min(width, height)
    if shortest < 1:
        return "width and height must be positive"
    if width % EDGE_STEP or height % EDGE_STEP:
        return f"width and height must be multiples of {EDGE_STEP}"
    if longest > LONGEST_EDGE:
        return f"the longest edge must not exceed {LONGEST_EDGE} pixels"
    if longest > WIDEST * shortest:
        return "the aspect ratio must lie between 1:3 and 3:1"
    if width * height < FEWEST_PIXELS:
        return f"width x height must be at least {FEWEST_PIXELS:,} pixels"
    if width * height > MOST_PIXELS:
        return f"width x height must not exceed {MOST_PIXELS:,} pixels"
    return None


def resolution_of(width: int, height: int) -> Resolution:
    """The tier that this many pixels belong to; more than the largest tier holds still counts as that tier."""
    return next((tier for tier, most in CEILINGS.items() if width * height <= most), Resolution.FOUR_K)


def parse_ratio(text: str) -> Fraction:
    """'16:9' → 16/9. Refuses what no size of the model can have."""
    if not (match := re.fullmatch(r"([1-9]\d{0,3}):([1-9]\d{0,3})", text, re.ASCII)):
        raise SizeError(f"aspect_ratio must look like 16:9, not {text[:40]!r}")
    ratio = Fraction(int(match[1]), int(match[2]))
    if not 1 / WIDEST <= ratio <= WIDEST:
        raise SizeError(f"aspect_ratio {text} is outside 1:3 to 3:1")
    return ratio


_NAMED = {parse_ratio(name): name for name in RATIOS}


def nearest_ratio(width: int, height: int, among: Iterable[str] = RATIOS) -> tuple[str, float]:
    """The named ratio closest to these pixels, and how far off it is (0.02 is 2 %)."""
    wanted = Fraction(width, height)
    return min(((name, ratio_error(wanted, parse_ratio(name))) for name in among), key=lambda pair: pair[1])


def ratio_error(one: Fraction, other: Fraction) -> float:
    """How far apart two ratios are, the same whichever comes first."""
    return float(max(one / other, other / one) - 1)


def ratio_of(width: int, height: int) -> str:
    """The named ratio within tolerance of these pixels, or their own in lowest terms."""
    name, error = nearest_ratio(width, height)
    return name if error <= RATIO_TOLERANCE else _reduced(Fraction(width, height))


def target_of_pixels(width: int, height: int) -> Target:
    """The target that exactly these pixels are; SizeError if the model does not have them."""
    if problem := why_illegal(width, height):
        raise SizeError(f"size {width}x{height} is not possible: {problem}")
    return Target(width, height, ratio_of(width, height), resolution_of(width, height))


@lru_cache(maxsize=1024)
def target_of_shape(ratio: str, resolution: Resolution) -> Target:
    """The best legal pixels for a ratio in a tier: the ratio exactly if that can be, else within tolerance."""
    wanted = parse_ratio(ratio)
    name = _NAMED.get(wanted) or _reduced(wanted)
    if customary := _CUSTOMARY.get((name, resolution)):
        return Target(*customary, name, resolution)
    candidates = _legal_pixels(wanted, resolution)
    if not candidates:
        raise SizeError(f"no size of ratio {ratio} exists at {resolution}")
    aim = _AIMS[resolution]
    _, _, width, height = min((error, abs(w * h - aim), w, h) for error, w, h in candidates)
    return Target(width, height, name, resolution)


def _legal_pixels(ratio: Fraction, resolution: Resolution) -> list[tuple[float, int, int]]:
    """All legal pixels of about this ratio in this tier, with how far off the ratio each is."""
    found = []
    for height in range(EDGE_STEP, LONGEST_EDGE + 1, EDGE_STEP):
        floor = int(ratio * height) // EDGE_STEP * EDGE_STEP
        for width in (floor, floor + EDGE_STEP):
            if why_illegal(width, height) is None and resolution_of(width, height) is resolution:
                error = ratio_error(ratio, Fraction(width, height))
                if error <= RATIO_TOLERANCE:
                    found.append((error, width, height))
    return found


def _reduced(ratio: Fraction) -> str:
    return f"{ratio.numerator}:{ratio.denominator}"
