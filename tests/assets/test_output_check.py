"""Delivered images against their orders, for every way of ordering a size."""

import pytest

from gateway.assets.image_header import ImageHeader
from gateway.assets.output_check import ExpectedOutput, OutputCheck, check_output
from providers.image_sizes import RATIOS, SizeError, TargetSize
from providers.orders import Format, PixelSize, PresetSize, RatioSize, SizeSpec
from tests.harness.image_model import RESOLUTIONS, SIZE_LAW, target_from_pixels, target_from_ratio

LANDSCAPE = target_from_pixels(1536, 1024)
BY_RATIO = RatioSize("3:2", "1k")


def check_size(size: tuple[int, int], ordered_size: SizeSpec, target: TargetSize = LANDSCAPE) -> OutputCheck:
    return check_output(ImageHeader(Format.PNG, *size), ExpectedOutput(target, ordered_size, SIZE_LAW), Format.PNG)


@pytest.mark.parametrize("ordered_size", [PixelSize(1536, 1024), PresetSize("landscape")])
def test_pixel_and_preset_sizes_must_match_exactly(ordered_size: SizeSpec) -> None:
    assert check_size((1536, 1024), ordered_size) == OutputCheck(True)
    for size in ((1024, 1024), (1024, 1536), (1535, 1024), (1536, 1025), (3072, 2048)):
        warning = f"size_differs: delivered {size[0]}x{size[1]}, requested 1536x1024"
        assert check_size(size, ordered_size) == OutputCheck(False, (warning,))


@pytest.mark.parametrize("size", [(1536, 1024), (1248, 832), (1254, 836), (1250, 832), (1008, 672)])
def test_ratio_size_accepts_any_pixels_of_ratio_and_resolution(size: tuple[int, int]) -> None:
    assert check_size(size, BY_RATIO) == OutputCheck(True)


@pytest.mark.parametrize(
    ("size", "warnings"),
    [
        ((1024, 1024), ("ratio_differs: delivered 1:1 (1024x1024), requested 3:2",)),
        ((1024, 1536), ("ratio_differs: delivered 2:3 (1024x1536), requested 3:2",)),
        ((1200, 1000), ("ratio_differs: delivered 6:5 (1200x1000), requested 3:2",)),
        ((2304, 1536), ("resolution_differs: delivered 2k (2304x1536), requested 1k",)),
        ((600, 400), ("resolution_differs: delivered less than 1k (600x400), requested 1k",)),
        (
            (3840, 2160),
            (
                "ratio_differs: delivered 16:9 (3840x2160), requested 3:2",
                "resolution_differs: delivered 4k (3840x2160), requested 1k",
            ),
        ),
        (
            (1, 1),
            (
                "ratio_differs: delivered 1:1 (1x1), requested 3:2",
                "resolution_differs: delivered less than 1k (1x1), requested 1k",
            ),
        ),
    ],
)
def test_other_ratio_or_resolution_fails_the_check(size: tuple[int, int], warnings: tuple[str, ...]) -> None:
    assert check_size(size, BY_RATIO) == OutputCheck(False, warnings)


def test_ratio_may_deviate_by_two_percent() -> None:
    assert check_size((1500, 1020), BY_RATIO).matches_order
    assert check_size((1500, 981), BY_RATIO).matches_order
    assert not check_size((1500, 1021), BY_RATIO).matches_order
    assert not check_size((1500, 980), BY_RATIO).matches_order


def test_ordered_ratio_is_checked_instead_of_requested_one() -> None:
    """If only the nearest ratio could be ordered, the plan says so: the image is compared with the order."""
    target = target_from_pixels(1536, 1040)
    assert check_size((1536, 1024), RatioSize("3:2", "1k"), target) == OutputCheck(True)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("ratio", RATIOS)
def test_standard_size_of_every_ratio_passes(ratio: str, resolution: str) -> None:
    try:
        target = target_from_ratio(ratio, resolution)
    except SizeError:
        pytest.skip("no such size")
    assert check_size((target.width, target.height), RatioSize(ratio, resolution), target) == OutputCheck(True)


def test_other_format_gives_warning_but_passes() -> None:
    expected = ExpectedOutput(LANDSCAPE, PixelSize(1536, 1024), SIZE_LAW)
    warnings = ("format_differs: delivered as png, converted to webp",)
    assert check_output(ImageHeader(Format.PNG, 1536, 1024), expected, Format.WEBP) == OutputCheck(True, warnings)
    both = check_output(ImageHeader(Format.PNG, 1024, 1024), expected, Format.JPEG)
    assert both == OutputCheck(
        False,
        (
            "size_differs: delivered 1024x1024, requested 1536x1024",
            "format_differs: delivered as png, converted to jpeg",
        ),
    )


def test_rotated_image_is_checked_by_displayed_size() -> None:
    rotated = ImageHeader(Format.JPEG, 1536, 1024, orientation=6)
    assert check_output(
        rotated, ExpectedOutput(LANDSCAPE, PixelSize(1536, 1024), SIZE_LAW), Format.JPEG
    ) == OutputCheck(True)
