"""Checks a delivered image against its order, by the image's own header. Pure."""

from collections.abc import Iterator
from fractions import Fraction

from msgspec import Struct

from gateway.assets.image_header import ImageHeader
from providers.image_sizes import (
    RATIO_TOLERANCE,
    SizeLaw,
    TargetSize,
    compute_ratio_error,
    parse_ratio,
    ratio_from_pixels,
)
from providers.orders import Format, PixelSize, PresetSize, RatioSize, SizeSpec


class ExpectedOutput(Struct, frozen=True):
    """The size to deliver, the form in which the order stated it, and the law of the model."""

    target: TargetSize
    size: SizeSpec
    size_law: SizeLaw


class OutputCheck(Struct, frozen=True):
    """The result: `matches_order` counts for the seller's conformance, warnings are shown to the team.

    A warning need not be the seller's fault.
    """

    matches_order: bool
    warnings: tuple[str, ...] = ()


def check_output(header: ImageHeader, expected: ExpectedOutput, output_format: Format) -> OutputCheck:
    """Compares exact pixels if the order named pixels or a preset, otherwise ratio and resolution."""
    size_warnings = tuple(_find_size_warnings(header, expected))
    return OutputCheck(not size_warnings, (*size_warnings, *_find_format_warnings(header, output_format)))


def _find_size_warnings(header: ImageHeader, expected: ExpectedOutput) -> Iterator[str]:
    match expected.size:
        case PixelSize(width, height):
            yield from _find_pixel_warnings(header, width, height)
        case PresetSize():
            yield from _find_pixel_warnings(header, expected.target.width, expected.target.height)
        case RatioSize(ratio, resolution):
            yield from _find_ratio_warnings(header, ratio, resolution, expected.size_law)


def _find_pixel_warnings(header: ImageHeader, width: int, height: int) -> Iterator[str]:
    if (header.width, header.height) != (width, height):
        yield f"size_differs: delivered {header.width}x{header.height}, requested {width}x{height}"


def _find_ratio_warnings(header: ImageHeader, ratio: str, resolution: str, law: SizeLaw) -> Iterator[str]:
    pixels = f"{header.width}x{header.height}"
    if compute_ratio_error(parse_ratio(ratio), Fraction(header.width, header.height)) > RATIO_TOLERANCE:
        delivered_ratio = ratio_from_pixels(header.width, header.height)
        yield f"ratio_differs: delivered {delivered_ratio} ({pixels}), requested {ratio}"
    delivered_resolution = _name_resolution(header, law)
    if delivered_resolution != resolution:
        yield f"resolution_differs: delivered {delivered_resolution} ({pixels}), requested {resolution}"


def _name_resolution(header: ImageHeader, law: SizeLaw) -> str:
    """Names the delivered resolution. With fewer pixels than the model makes at any resolution, the image was shrunk
    and has none."""
    if header.width * header.height < law.min_pixels:
        return f"less than {law.tiers[0].name}"
    return law.resolution_from_pixels(header.width, header.height)


def _find_format_warnings(header: ImageHeader, output_format: Format) -> Iterator[str]:
    if header.format is not output_format:
        consequence = "converted to" if output_format.is_convertible else "requested"
        yield f"format_differs: delivered as {header.format}, {consequence} {output_format}"
