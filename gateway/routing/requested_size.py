"""Resolves requested size, resolution and aspect ratio to one target size."""

from fractions import Fraction

from msgspec import Struct

from gateway.catalogue import Model
from gateway.routing.plan import RoutingError
from providers.image_sizes import (
    RATIO_TOLERANCE,
    SizeError,
    SizeLaw,
    TargetSize,
    compute_ratio_error,
    parse_ratio,
    parse_size,
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
    law = model.size_law
    resolution = _parse_resolution(law, size_request.resolution)
    if size is not None:
        return _target_from_size(law, size, ratio, resolution), True
    if ratio is None and resolution is None and not (operation is Operation.EDIT and size_request.first_input_size):
        return law.target_from_pixels(model.width, model.height), False
    width, height = size_request.first_input_size or (model.width, model.height)
    try:
        target = law.target_from_ratio(ratio or law.find_nearest_ratio(width, height), resolution or law.tiers[0].name)
    except SizeError as error:
        raise RoutingError("aspect_ratio", str(error)) from error
    return target, False


def describe_ratio_change(size_request: SizeRequest, target: TargetSize) -> str | None:
    """Describes how the ratio of an edit without a requested size differs from that of its first input image. None if
    they are equal, or if the client chose the ratio."""
    has_choice = _explicit_value(size_request.size) or _explicit_value(size_request.aspect_ratio)
    if size_request.first_input_size is None or has_choice:
        return None
    width, height = size_request.first_input_size
    if compute_ratio_error(Fraction(width, height), Fraction(target.width, target.height)) <= RATIO_TOLERANCE:
        return None
    return f"ratio_nearest: ordered as {target.ratio}, the nearest ratio to the first image's {width}x{height}"


def _explicit_value(text: str | None) -> str | None:
    return None if text is None or text.lower() == AUTO else text


def _parse_resolution(law: SizeLaw, text: str | None) -> str | None:
    if (explicit := _explicit_value(text)) is None:
        return None
    if (resolution := explicit.lower()) not in law.resolutions:
        tiers = ", ".join(law.resolutions)
        raise RoutingError("resolution", f"Invalid resolution {explicit[:40]!r}. Use one of {tiers}")
    return resolution


def _target_from_size(law: SizeLaw, size: str, ratio: str | None, resolution: str | None) -> TargetSize:
    try:
        target = law.target_from_pixels(*parse_size(size))
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
