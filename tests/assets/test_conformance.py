"""What was delivered against what was ordered, by every way of ordering a size."""

import pytest

from gateway.assets.conformance import Conformance, Ordered, judge
from gateway.assets.headers import Header
from providers.orders import Addressing, AutoSize, Format, Pixels, Preset, Shape
from providers.sizes import RATIOS, Resolution, SizeError, Target, target_of_pixels, target_of_shape

LANDSCAPE = target_of_pixels(1536, 1024)
BY_RATIO = Shape("3:2", Resolution.ONE_K)


def judged(size: tuple[int, int], addressed: Addressing, target: Target = LANDSCAPE) -> Conformance:
    return judge(Header(Format.PNG, *size), Ordered(target, addressed), Format.PNG)


@pytest.mark.parametrize("addressed", [Pixels(1536, 1024), Preset("landscape")])
def test_pixels_and_presets_are_to_be_met_exactly(addressed: Addressing) -> None:
    assert judged((1536, 1024), addressed) == Conformance(True)
    for size in ((1024, 1024), (1024, 1536), (1535, 1024), (1536, 1025), (3072, 2048)):
        said = f"delivered {size[0]}x{size[1]}, asked for 1536x1024"
        assert judged(size, addressed) == Conformance(False, (said,))


@pytest.mark.parametrize("addressed", [BY_RATIO, AutoSize()])
@pytest.mark.parametrize("size", [(1536, 1024), (1248, 832), (1254, 836), (1250, 832), (1008, 672)])
def test_of_a_shape_any_pixels_of_its_ratio_and_tier_will_do(addressed: Addressing, size: tuple[int, int]) -> None:
    assert judged(size, addressed) == Conformance(True)


@pytest.mark.parametrize("addressed", [BY_RATIO, AutoSize()])
@pytest.mark.parametrize(
    ("size", "warnings"),
    [
        ((1024, 1024), ("delivered 1:1 (1024x1024), asked for 3:2",)),
        ((1024, 1536), ("delivered 2:3 (1024x1536), asked for 3:2",)),
        ((1200, 1000), ("delivered 6:5 (1200x1000), asked for 3:2",)),
        ((2304, 1536), ("delivered 2k (2304x1536), asked for 1k",)),
        ((600, 400), ("delivered less than 1k (600x400), asked for 1k",)),
        ((3840, 2160), ("delivered 16:9 (3840x2160), asked for 3:2", "delivered 4k (3840x2160), asked for 1k")),
        ((1, 1), ("delivered 1:1 (1x1), asked for 3:2", "delivered less than 1k (1x1), asked for 1k")),
    ],
)
def test_another_ratio_or_tier_is_not_what_was_ordered(
    addressed: Addressing, size: tuple[int, int], warnings: tuple[str, ...]
) -> None:
    assert judged(size, addressed) == Conformance(False, warnings)


def test_two_percent_of_ratio_are_allowed_and_not_more() -> None:
    assert judged((1500, 1020), BY_RATIO).as_ordered
    assert judged((1500, 981), BY_RATIO).as_ordered
    assert not judged((1500, 1021), BY_RATIO).as_ordered
    assert not judged((1500, 980), BY_RATIO).as_ordered


def test_the_shape_that_was_ordered_counts_not_the_one_asked_for() -> None:
    """Where only the nearest ratio could be ordered, the plan has said so: the seller is judged by its order."""
    target = target_of_pixels(1536, 1040)
    assert judged((1536, 1024), Shape("3:2", Resolution.ONE_K), target) == Conformance(True)


@pytest.mark.parametrize("resolution", Resolution)
@pytest.mark.parametrize("ratio", RATIOS)
def test_the_models_own_size_for_a_shape_is_always_right(ratio: str, resolution: Resolution) -> None:
    try:
        target = target_of_shape(ratio, resolution)
    except SizeError:
        pytest.skip("no such size")
    assert judged((target.width, target.height), Shape(ratio, resolution), target) == Conformance(True)


def test_another_format_is_worth_a_word_and_no_fault() -> None:
    ordered = Ordered(LANDSCAPE, Pixels(1536, 1024))
    said = ("delivered as png, converted to webp",)
    assert judge(Header(Format.PNG, 1536, 1024), ordered, Format.WEBP) == Conformance(True, said)
    both = judge(Header(Format.PNG, 1024, 1024), ordered, Format.JPEG)
    assert both == Conformance(
        False, ("delivered 1024x1024, asked for 1536x1024", "delivered as png, converted to jpeg")
    )


def test_a_picture_on_its_side_is_judged_as_it_is_shown() -> None:
    turned = Header(Format.JPEG, 1536, 1024, orientation=6)
    assert judge(turned, Ordered(LANDSCAPE, Pixels(1536, 1024)), Format.JPEG) == Conformance(True)
