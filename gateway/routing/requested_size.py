"""Resolves requested size, resolution and aspect ratio to one target size."""

from fractions import Fraction

from msgspec import Struct

from gateway.catalogue import Model
from gateway.routing.plan import RoutingError
from providers.image_sizes import (
    RATIO_TOLERANCE,
    Resolution,
    SizeError,
    TargetSize,
    compute_ratio_error,
    find_nearest_ratio,
    parse_ratio,
    parse_size,
    target_from_pixels,
    target_from_ratio,
)
from providers.orders import Operation

AUTO = "auto"


class SizeRequest(Struct, frozen=True, kw_only=True):
    """The client's size parameters. `first_input_size` is the size of an edit's first input image."""

    size: str | None = None
    resolution: str | None = None
    aspect_ratio: str | None = None
    first_input_size: tuple[int, int] | None = None


def resolve_target(model: Model, operation: Operation, size_request: SizeRequest) -> tuple[TargetSize, bool]:
    """Returns the target size, and whether the client requested exact pixels."""
    size, ratio = _explicit_value(size_request.size), _explicit_value(size_request.aspect_ratio)
    resolution = _parse_resolution(size_request.resolution)
    if size is not None:
        return _target_from_size(size, ratio, resolution), True
    if ratio is None and resolution is None and not (operation is Operation.EDIT and size_request.first_input_size):
        return target_from_pixels(model.width, model.height), False
    width, height = size_request.first_input_size or (model.width, model.height)
    try:
        target = target_from_ratio(ratio or find_nearest_ratio(width, height)[0], resolution or Resolution.ONE_K)
    except SizeError as error:
        raise RoutingError("aspect_ratio", str(error)) from error
    return target, False


def _explicit_value(text: str | None) -> str | None:
    return None if text is None or text.lower() == AUTO else text


def _parse_resolution(text: str | None) -> Resolution | None:
    if (explicit := _explicit_value(text)) is None:
        return None
    try:
        return Resolution(explicit.lower())
    except ValueError:
        tiers = ", ".join(Resolution)
        raise RoutingError("resolution", f"Invalid resolution {explicit[:40]!r}. Use one of {tiers}") from None


def _target_from_size(size: str, ratio: str | None, resolution: Resolution | None) -> TargetSize:
    try:
        target = target_from_pixels(*parse_size(size))
    except SizeError as error:
        raise RoutingError("size", str(error)) from error
    if resolution not in (None, target.resolution):
        raise RoutingError("resolution", f"size {size} is {target.resolution}, not {resolution}. Send only one of them")
    if ratio is not None and not _has_ratio(target, ratio):
        raise RoutingError("aspect_ratio", f"size {size} is {target.ratio}, not {ratio}. Send only one of them")
    return target


def _has_ratio(target: TargetSize, ratio: str) -> bool:
    try:
        requested = parse_ratio(ratio)
    except SizeError as error:
        raise RoutingError("aspect_ratio", str(error)) from error
    return compute_ratio_error(requested, Fraction(target.width, target.height)) <= RATIO_TOLERANCE
