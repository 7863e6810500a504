"""Sizes of images: the law of a model, named ratios, resolution tiers, and the conversions between them.

Pure arithmetic. Each model has its own law, which is configuration.
"""

import re
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache

from msgspec import Struct

# The relative difference up to which two ratios count as equal.
RATIO_TOLERANCE = 0.02

RATIOS = ("1:1", "3:2", "2:3", "4:3", "3:4", "5:4", "4:5", "16:9", "9:16", "2:1", "1:2", "3:1", "1:3", "21:9", "9:21")


class SizeError(ValueError):
    """The model does not support the size. The message is for the client."""


class TargetSize(Struct, frozen=True):
    """The size that a request resolves to: exact pixels, with their ratio and resolution."""

    width: int
    height: int
    ratio: str
    resolution: str


class ResolutionTier(Struct, frozen=True):
    """A resolution: the maximum number of its pixels, and the number that a ratio without pixels gets."""

    name: str
    max_pixels: int
    usual_pixels: int


class SizeLaw(Struct, frozen=True, kw_only=True, cache_hash=True):
    """The sizes that a model makes. The defaults are those of GPT Image 2.

    `tiers`: in ascending order. `usual_sizes`: common sizes; the pixel count alone would select a neighbouring one.
    """

    edge_step: int = 16
    max_edge: int = 3840
    max_ratio: float = 3
    min_pixels: int = 655_360
    tiers: tuple[ResolutionTier, ...] = (
        ResolutionTier("1k", 1_572_864, 1_048_576),
        ResolutionTier("2k", 4_194_304, 4_194_304),
        ResolutionTier("4k", 8_294_400, 8_294_400),
    )
    usual_sizes: tuple[tuple[int, int], ...] = ((1536, 1024), (1024, 1536), (2048, 1152), (1152, 2048))

    @property
    def max_pixels(self) -> int:
        return self.tiers[-1].max_pixels

    @property
    def resolutions(self) -> tuple[str, ...]:
        return tuple(tier.name for tier in self.tiers)

    def find_size_error(self, width: int, height: int) -> str | None:
        """Returns an error for the first rule that these pixels violate, or None."""
        longest, shortest = max(width, height), min(width, height)
        if shortest < 1:
            return "width and height must be positive"
        if width % self.edge_step or height % self.edge_step:
            return f"width and height must be multiples of {self.edge_step}"
        if longest > self.max_edge:
            return f"the longest edge must not exceed {self.max_edge} pixels"
        if longest > self.max_ratio * shortest:
            return f"the aspect ratio must lie between 1:{self.max_ratio:g} and {self.max_ratio:g}:1"
        if width * height < self.min_pixels:
            return f"width x height must be at least {self.min_pixels:,} pixels"
        if width * height > self.max_pixels:
            return f"width x height must not exceed {self.max_pixels:,} pixels"
        return None

    def resolution_from_pixels(self, width: int, height: int) -> str:
        """Returns the resolution of this many pixels; the largest one if there are too many."""
        pixels = width * height
        return next((tier for tier in self.tiers if pixels <= tier.max_pixels), self.tiers[-1]).name

    def target_from_pixels(self, width: int, height: int) -> TargetSize:
        """Returns the target of exactly these pixels; SizeError if the model does not support them."""
        return _target_from_pixels(self, width, height)

    def target_from_ratio(self, ratio: str, resolution: str) -> TargetSize:
        """Returns the best valid pixels for a ratio: exactly this ratio if possible, else within tolerance."""
        return _target_from_ratio(self, ratio, resolution)

    def find_nearest_ratio(self, width: int, height: int) -> str:
        """Returns the named ratio of this law that is closest to these pixels."""
        return find_nearest_ratio(width, height, _list_ratio_names(self))[0]

    def find_nearest_size(self, width: int, height: int) -> TargetSize:
        """Returns the size of the model that is closest to these pixels; if they are too few, the usual size of about
        this ratio."""
        if width * height >= self.min_pixels:
            scale = min(1.0, self.max_edge / max(width, height), (self.max_pixels / (width * height)) ** 0.5)
            for rounded in (round, int):
                size = tuple(rounded(edge * scale / self.edge_step) * self.edge_step for edge in (width, height))
                if self.find_size_error(*size) is None:
                    return self.target_from_pixels(*size)
        tier = min(self.tiers, key=lambda tier: abs(tier.usual_pixels - width * height))
        return self.target_from_ratio(self.find_nearest_ratio(width, height), tier.name)


DEFAULT_SIZE_LAW = SizeLaw()


def parse_size(text: str) -> tuple[int, int]:
    """Parses '1536x1024' as (1536, 1024). Does not check whether the model supports the size."""
    if not (match := re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text, re.ASCII)):
        raise SizeError(f"size must look like 1536x1024, not {text[:40]!r}")
    return int(match[1]), int(match[2])


@lru_cache(maxsize=1024)
def parse_ratio(text: str) -> Fraction:
    """Parses '16:9' as 16/9. Does not check whether the model supports the ratio."""
    if not (match := re.fullmatch(r"([1-9]\d{0,3}):([1-9]\d{0,3})", text, re.ASCII)):
        raise SizeError(f"aspect_ratio must look like 16:9, not {text[:40]!r}")
    return Fraction(int(match[1]), int(match[2]))


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
def _target_from_pixels(law: SizeLaw, width: int, height: int) -> TargetSize:
    if problem := law.find_size_error(width, height):
        raise SizeError(f"size {width}x{height} is not possible: {problem}")
    return TargetSize(width, height, ratio_from_pixels(width, height), law.resolution_from_pixels(width, height))


@lru_cache(maxsize=1024)
def _target_from_ratio(law: SizeLaw, ratio: str, resolution: str) -> TargetSize:
    exact_ratio = parse_ratio(ratio)
    if not _allows_ratio(law, exact_ratio):
        raise SizeError(f"aspect_ratio {ratio} is outside 1:{law.max_ratio:g} to {law.max_ratio:g}:1")
    name = _RATIO_NAMES.get(exact_ratio) or _format_ratio(exact_ratio)
    for width, height in law.usual_sizes:
        if (ratio_from_pixels(width, height), law.resolution_from_pixels(width, height)) == (name, resolution):
            return TargetSize(width, height, name, resolution)
    candidates = _list_valid_sizes(law, exact_ratio, resolution)
    if not candidates:
        raise SizeError(f"no size of ratio {ratio} exists at {resolution}")
    usual_pixels = next(tier.usual_pixels for tier in law.tiers if tier.name == resolution)
    _, _, width, height = min((error, abs(w * h - usual_pixels), w, h) for error, w, h in candidates)
    return TargetSize(width, height, name, resolution)


def _allows_ratio(law: SizeLaw, ratio: Fraction) -> bool:
    return max(ratio, 1 / ratio) <= law.max_ratio


@lru_cache(maxsize=64)
def _list_ratio_names(law: SizeLaw) -> tuple[str, ...]:
    return tuple(name for name in RATIOS if _allows_ratio(law, parse_ratio(name)))


def _list_valid_sizes(law: SizeLaw, ratio: Fraction, resolution: str) -> list[tuple[float, int, int]]:
    """Lists all valid pixels of about this ratio in this resolution, each with its ratio error."""
    valid_sizes = []
    for height in range(law.edge_step, law.max_edge + 1, law.edge_step):
        floor = int(ratio * height) // law.edge_step * law.edge_step
        for width in (floor, floor + law.edge_step):
            is_valid = law.find_size_error(width, height) is None
            if is_valid and law.resolution_from_pixels(width, height) == resolution:
                error = compute_ratio_error(ratio, Fraction(width, height))
                if error <= RATIO_TOLERANCE:
                    valid_sizes.append((error, width, height))
    return valid_sizes


def _format_ratio(ratio: Fraction) -> str:
    return f"{ratio.numerator}:{ratio.denominator}"
