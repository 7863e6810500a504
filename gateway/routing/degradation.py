"""The steps in which a request is lowered that exceeds a budget: quality first, then resolution."""

from collections.abc import Iterator
from contextlib import suppress

from msgspec.structs import replace

from gateway.catalogue import Model
from gateway.routing.routing_request import RequestedParams, RoutingRequest
from providers.image_sizes import SizeError


def list_degraded_requests(
    model: Model, request: RoutingRequest, requested: RequestedParams
) -> Iterator[RoutingRequest]:
    """Yields the request with lower and lower quality, and then, at the lowest one, with lower and lower resolution.

    A size in pixels that the client named stays, and so does the ratio.
    """
    for quality in _list_lower(model.qualities, request.quality):
        request = replace(request, quality=quality)
        yield request
    if requested.size is None:
        law = model.size_law
        for resolution in _list_lower(law.resolutions, request.target.resolution):
            # The ratio may have no size at this resolution.
            with suppress(SizeError):
                target = law.target_from_ratio(request.target.ratio, resolution)
                yield replace(request, target=target)


def _list_lower(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Lists what is lower, the highest first. The names are in ascending order."""
    return names[: names.index(name)][::-1] if name in names else ()


def describe_degradation(asked: RoutingRequest, ordered: RoutingRequest) -> str:
    """Describes the difference as a warning."""
    changes = (
        ("quality", asked.quality, ordered.quality),
        ("resolution", asked.target.resolution, ordered.target.resolution),
    )
    text = ", ".join(f"{name} {after} instead of {before}" for name, before, after in changes if before != after)
    return f"degraded_for_budget: {text}, since the budget does not suffice for more"
