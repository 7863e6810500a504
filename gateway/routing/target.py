"""From what a caller says about size to one target: pixels, ratio and tier. Also what nothing, or `auto`, means."""

from fractions import Fraction

from msgspec import Struct

from gateway.catalogue import Model
from gateway.routing.plan import RoutingError
from providers.orders import Operation
from providers.sizes import (
    RATIO_TOLERANCE,
    Resolution,
    SizeError,
    Target,
    nearest_ratio,
    parse_ratio,
    parse_size,
    ratio_error,
    target_of_pixels,
    target_of_shape,
)

AUTO = "auto"


class SizeWish(Struct, frozen=True, kw_only=True):
    """A caller's words. `first_input` is the size of an edit's first image, where there is one."""

    size: str | None = None
    resolution: str | None = None
    aspect_ratio: str | None = None
    first_input: tuple[int, int] | None = None


def target_of(model: Model, operation: Operation, wish: SizeWish) -> tuple[Target, bool]:
    """The target, and whether its very pixels were asked for."""
    size, ratio = _said(wish.size), _said(wish.aspect_ratio)
    resolution = _resolution(wish.resolution)
    if size is not None:
        return _by_size(size, ratio, resolution), True
    if ratio is None and resolution is None and not (operation is Operation.EDIT and wish.first_input):
        return target_of_pixels(model.width, model.height), False
    width, height = wish.first_input or (model.width, model.height)
    try:
        target = target_of_shape(ratio or nearest_ratio(width, height)[0], resolution or Resolution.ONE_K)
    except SizeError as error:
        raise RoutingError("aspect_ratio", str(error)) from error
    return target, False


def _said(text: str | None) -> str | None:
    return None if text is None or text.lower() == AUTO else text


def _resolution(text: str | None) -> Resolution | None:
    if (said := _said(text)) is None:
        return None
    try:
        return Resolution(said.lower())
    except ValueError:
        tiers = ", ".join(Resolution)
        raise RoutingError("resolution", f"resolution must be one of {tiers}, not {said[:40]!r}") from None


def _by_size(size: str, ratio: str | None, resolution: Resolution | None) -> Target:
    try:
        target = target_of_pixels(*parse_size(size))
    except SizeError as error:
        raise RoutingError("size", str(error)) from error
    if resolution not in (None, target.resolution):
        raise RoutingError("resolution", f"size {size} is {target.resolution}, not {resolution}: give one of the two")
    if ratio is not None and not _is_of_ratio(target, ratio):
        raise RoutingError("aspect_ratio", f"size {size} is {target.ratio}, not {ratio}: give one of the two")
    return target


def _is_of_ratio(target: Target, ratio: str) -> bool:
    try:
        wanted = parse_ratio(ratio)
    except SizeError as error:
        raise RoutingError("aspect_ratio", str(error)) from error
    return ratio_error(wanted, Fraction(target.width, target.height)) <= RATIO_TOLERANCE
