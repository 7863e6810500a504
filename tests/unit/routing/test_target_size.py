"""Size parameters of a request resolve to one target size."""

import pytest

from gateway.routing.plan import RoutingError
from gateway.routing.requested_size import SizeRequest, resolve_target
from providers.image_sizes import TargetSize
from providers.orders import Operation
from tests.harness.image_model import make_model

MODEL = make_model("gpt-image-2")


def resolve_size(operation: str = "generate", **size_params: object) -> tuple[TargetSize, bool]:
    return resolve_target(MODEL, Operation(operation), SizeRequest(**size_params))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size_params", "size", "has_explicit_size"),
    [
        ({}, (1024, 1024), False),
        ({"size": "auto"}, (1024, 1024), False),
        ({"size": "1536x1024"}, (1536, 1024), True),
        ({"size": "1536x1024", "resolution": "1k", "aspect_ratio": "3:2"}, (1536, 1024), True),
        ({"resolution": "2k"}, (2048, 2048), False),
        ({"resolution": "4K"}, (2880, 2880), False),
        ({"size": "1792x1024", "aspect_ratio": "7:4"}, (1792, 1024), True),
        ({"size": "AUTO", "aspect_ratio": "Auto"}, (1024, 1024), False),
        ({"aspect_ratio": "16:9"}, (1280, 720), False),
        ({"aspect_ratio": "16:9", "resolution": "4k"}, (3840, 2160), False),
        ({"aspect_ratio": "auto", "resolution": "auto", "size": "auto"}, (1024, 1024), False),
    ],
)
def test_size_params_become_pixels(
    size_params: dict[str, object], size: tuple[int, int], has_explicit_size: bool
) -> None:
    target, is_explicit = resolve_size(**size_params)
    assert ((target.width, target.height), is_explicit) == (size, has_explicit_size)


def test_edit_without_size_takes_ratio_of_first_input_at_1k() -> None:
    target, is_explicit = resolve_size("edit", first_input_size=(3000, 2000))
    assert ((target.width, target.height), is_explicit) == ((1536, 1024), False)
    assert resolve_size("edit", first_input_size=(3000, 2000), resolution="2k")[0].ratio == "3:2"
    assert resolve_size("edit", first_input_size=(3000, 2000), aspect_ratio="1:1")[0].ratio == "1:1"
    assert resolve_size("edit")[0] == resolve_size()[0]
    assert resolve_size("edit", first_input_size=(10_000, 100))[0].ratio == "3:1"


@pytest.mark.parametrize(
    ("size_params", "param", "message"),
    [
        ({"size": "1024"}, "size", "must look like"),
        ({"size": "1000x1000"}, "size", "multiples of 16"),
        ({"size": "512x512"}, "size", "at least 655,360"),
        ({"resolution": "8k"}, "resolution", "Use one of 1k, 2k, 4k"),
        ({"resolution": "8k\n" * 100}, "resolution", "Use one of"),
        ({"aspect_ratio": "4:1"}, "aspect_ratio", "outside 1:3 to 3:1"),
        ({"aspect_ratio": "wide"}, "aspect_ratio", "must look like"),
        ({"size": "1024x1024", "aspect_ratio": "99:1"}, "aspect_ratio", "size 1024x1024 is 1:1, not 99:1"),
        ({"size": "1536x1024", "resolution": "4k"}, "resolution", "size 1536x1024 is 1k, not 4k"),
        ({"size": "1536x1024", "aspect_ratio": "16:9"}, "aspect_ratio", "size 1536x1024 is 3:2, not 16:9"),
    ],
)
def test_invalid_size_params_say_why(size_params: dict[str, object], param: str, message: str) -> None:
    with pytest.raises(RoutingError, match=message) as caught:
        resolve_size(**size_params)
    assert caught.value.param == param
