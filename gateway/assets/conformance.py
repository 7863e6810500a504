"""Whether what was delivered is what was ordered: told from the picture's own header. Pure."""

from collections.abc import Iterator
from fractions import Fraction

from msgspec import Struct

from gateway.assets.headers import Header
from providers.orders import Addressing, Format, Pixels, Preset, Shape
from providers.sizes import (
    FEWEST_PIXELS,
    RATIO_TOLERANCE,
    Resolution,
    Target,
    parse_ratio,
    ratio_error,
    ratio_of,
    resolution_of,
)


class Ordered(Struct, frozen=True):
    """What size was to come, and how the seller was told."""

    target: Target
    size: Addressing


class Conformance(Struct, frozen=True):
    """`as_ordered` is what the seller is judged by; a warning is for the team, and need not be the seller's fault."""

    as_ordered: bool
    warnings: tuple[str, ...] = ()


def judge(header: Header, ordered: Ordered, output_format: Format) -> Conformance:
    """Every pixel counts where pixels or their name were ordered; else ratio and tier, which are what was paid for."""
    about_size = tuple(_about_size(header, ordered))
    return Conformance(not about_size, (*about_size, *_about_format(header, output_format)))


def _about_size(header: Header, ordered: Ordered) -> Iterator[str]:
    match ordered.size:
        case Pixels(width, height):
            yield from _about_pixels(header, width, height)
        case Preset():
            yield from _about_pixels(header, ordered.target.width, ordered.target.height)
        case Shape(ratio, resolution):
            yield from _about_shape(header, ratio, resolution)
        case _:
            # Taken from the inputs, whose ratio the target has, and paid for as a picture of the target's tier.
            yield from _about_shape(header, ordered.target.ratio, ordered.target.resolution)


def _about_pixels(header: Header, width: int, height: int) -> Iterator[str]:
    if (header.width, header.height) != (width, height):
        yield f"delivered {header.width}x{header.height}, asked for {width}x{height}"


def _about_shape(header: Header, ratio: str, resolution: Resolution) -> Iterator[str]:
    pixels = f"{header.width}x{header.height}"
    if ratio_error(parse_ratio(ratio), Fraction(header.width, header.height)) > RATIO_TOLERANCE:
        yield f"delivered {ratio_of(header.width, header.height)} ({pixels}), asked for {ratio}"
    tier = _tier(header)
    if tier != resolution:
        yield f"delivered {tier} ({pixels}), asked for {resolution}"


def _tier(header: Header) -> str:
    """Fewer pixels than the model can make belong to no tier: somebody has shrunk the picture."""
    if header.width * header.height < FEWEST_PIXELS:
        return f"less than {Resolution.ONE_K}"
    return resolution_of(header.width, header.height)


def _about_format(header: Header, output_format: Format) -> Iterator[str]:
    if header.format is not output_format:
        yield f"delivered as {header.format}, converted to {output_format}"
