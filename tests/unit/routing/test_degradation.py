"""The steps in which a request is lowered that exceeds a budget."""

from gateway.catalogue import InputLimits, Model
from gateway.routing.degradation import describe_degradation, list_degraded_requests
from gateway.routing.routing_request import RequestedParams, RoutingRequest
from providers.image_sizes import DEFAULT_SIZE_LAW
from providers.orders import Format, Operation

MODEL = Model(
    name="m",
    width=1024,
    height=1024,
    quality="high",
    output_format=Format.PNG,
    background="opaque",
    qualities=("low", "medium", "high"),
    formats=(Format.PNG,),
    backgrounds=("opaque",),
    size_law=DEFAULT_SIZE_LAW,
    inputs=InputLimits(max_images=1, max_bytes=1, has_mask=False),
    max_images=1,
)
REQUEST = RoutingRequest(
    operation=Operation.GENERATE,
    model="m",
    n=3,
    target=DEFAULT_SIZE_LAW.target_from_ratio("16:9", "4k"),
    quality="high",
    output_format=Format.PNG,
)


def list_steps(requested: RequestedParams) -> list[tuple[str, str]]:
    steps = list(list_degraded_requests(MODEL, REQUEST, requested))
    assert {(step.n, step.target.ratio) for step in steps} <= {(3, "16:9")}
    return [(step.quality, step.target.resolution) for step in steps]


def test_quality_is_lowered_before_resolution() -> None:
    steps = list_steps(RequestedParams(resolution="4k", quality="high"))
    assert steps == [("medium", "4k"), ("low", "4k"), ("low", "2k"), ("low", "1k")]


def test_size_in_pixels_stays() -> None:
    assert list_steps(RequestedParams(size="3840x2160")) == [("medium", "4k"), ("low", "4k")]


def test_warning_names_what_changed() -> None:
    *_, last = list_degraded_requests(MODEL, REQUEST, RequestedParams())
    text = "quality low instead of high, resolution 1k instead of 4k, since the budget does not suffice for more"
    assert describe_degradation(REQUEST, last) == f"degraded_for_budget: {text}"
