"""Image sizes: every valid target has a valid size, invalid ones an error, ratios and resolutions round-trip."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import image_sizes
from providers.image_sizes import DEFAULT_SIZE_LAW, RATIOS, ResolutionTier, SizeError, SizeLaw, TargetSize
from providers.runapi import adapter
from tests.harness.image_model import RESOLUTIONS, target_from_pixels, target_from_ratio

RESOLUTIONS = RESOLUTIONS
VALID_EDGES = st.integers(1, 260).map(lambda steps: steps * 16)
RATIO_SIDES = st.integers(1, 9_999)


def is_valid_size(width: int, height: int) -> bool:
    """The model's rules, written independently of the code."""
    is_on_grid = width % 16 == 0 and height % 16 == 0 and min(width, height) > 0
    return (
        is_on_grid
        and max(width, height) <= 3840
        and 655_360 <= width * height <= 8_294_400
        and max(width, height) / min(width, height) <= 3
    )


@given(width=st.integers(-16, 4_200), height=st.integers(-16, 4_200))
def test_pixel_sizes_are_valid_or_say_why(width: int, height: int) -> None:
    if is_valid_size(width, height):
        target = target_from_pixels(width, height)
        assert (target.width, target.height) == (width, height)
    else:
        with pytest.raises(SizeError, match=f"size {width}x{height} is not possible: \\w+"):
            target_from_pixels(width, height)


@given(width=VALID_EDGES, height=VALID_EDGES)
def test_every_valid_size_has_one_resolution(width: int, height: int) -> None:
    if is_valid_size(width, height):
        pixels = width * height
        resolution = "1k" if pixels <= 1_572_864 else "2k" if pixels <= 4_194_304 else "4k"
        assert target_from_pixels(width, height).resolution == resolution


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_named_ratios_round_trip_through_pixels(ratio: str, resolution: str) -> None:
    target = target_from_ratio(ratio, resolution)
    assert is_valid_size(target.width, target.height)
    assert (target.ratio, target.resolution) == (ratio, resolution)
    assert target_from_pixels(target.width, target.height) == target


@given(ratio_width=RATIO_SIDES, ratio_height=RATIO_SIDES, resolution=st.sampled_from(RESOLUTIONS))
def test_any_ratio_yields_valid_size_or_says_why(ratio_width: int, ratio_height: int, resolution: str) -> None:
    text = f"{ratio_width}:{ratio_height}"
    if not Fraction(1, 3) <= Fraction(ratio_width, ratio_height) <= 3:
        with pytest.raises(SizeError, match="outside 1:3 to 3:1"):
            target_from_ratio(text, resolution)
        return
    target = target_from_ratio(text, resolution)
    assert is_valid_size(target.width, target.height)
    assert target.resolution == resolution
    assert abs(target.width / target.height / (ratio_width / ratio_height) - 1) <= 0.0201
    assert target_from_pixels(target.width, target.height).resolution == resolution


@pytest.mark.parametrize(
    ("ratio", "resolution", "size"),
    [
        ("1:1", "1k", (1024, 1024)),
        ("1:1", "2k", (2048, 2048)),
        ("1:1", "4k", (2880, 2880)),
        ("3:2", "1k", (1536, 1024)),
        ("2:3", "1k", (1024, 1536)),
        ("16:9", "1k", (1280, 720)),
        ("16:9", "2k", (2048, 1152)),
        ("16:9", "4k", (3840, 2160)),
        ("9:16", "4k", (2160, 3840)),
        ("3:1", "4k", (3840, 1280)),
        ("1920:1080", "4k", (3840, 2160)),
    ],
)
def test_well_known_ratios_have_expected_sizes(ratio: str, resolution: str, size: tuple[int, int]) -> None:
    target = target_from_ratio(ratio, resolution)
    assert (target.width, target.height) == size


@pytest.mark.parametrize(
    "text",
    ["", "1024", "1024x", "x1024", "1024X1024", "01024x1024", "-1x1", "1e3x1", "٣x٣", "1024x1024\n", "9" * 50 + "x1"],
)
def test_invalid_size_text_is_rejected(text: str) -> None:
    with pytest.raises(SizeError, match="must look like"):
        image_sizes.parse_size(text)


def test_size_text_is_parsed() -> None:
    assert image_sizes.parse_size("1536x1024") == (1536, 1024)


SMALL_LAW = SizeLaw(
    edge_step=10,
    max_edge=2_000,
    min_pixels=40_000,
    tiers=(ResolutionTier("xs", 250_000, 250_000), ResolutionTier("xl", 4_000_000, 4_000_000)),
    usual_sizes=(),
)


@pytest.mark.parametrize(
    ("law", "requested", "nearest"),
    [
        (SMALL_LAW, (1024, 1024), (1020, 1020)),
        (SMALL_LAW, (1792, 1024), (1790, 1020)),
        (SMALL_LAW, (1536, 1024), (1540, 1020)),
        (SMALL_LAW, (256, 256), (260, 260)),
        (SizeLaw(edge_step=16, max_edge=1_024, min_pixels=65_536), (1792, 1024), (1024, 592)),
        (DEFAULT_SIZE_LAW, (1024, 1024), (1024, 1024)),
        # Fewer pixels than the model makes.
        (DEFAULT_SIZE_LAW, (256, 256), (1024, 1024)),
    ],
)
def test_nearest_size_is_the_nearest_of_the_law(
    law: SizeLaw, requested: tuple[int, int], nearest: tuple[int, int]
) -> None:
    target = law.find_nearest_size(*requested)
    assert (target.width, target.height) == nearest


@pytest.mark.parametrize("text", ["", "auto", "16/9", "16:0", "0:9", "16:9:1", "1.5:1", " 1:1", "1:1 ", "٣:٣"])
def test_invalid_ratio_text_is_rejected(text: str) -> None:
    with pytest.raises(SizeError, match="must look like"):
        image_sizes.parse_ratio(text)


@given(*[RATIO_SIDES] * 4)
def test_ratio_error_is_that_of_exact_fractions(width: int, height: int, other_width: int, other_height: int) -> None:
    first, second = Fraction(width, height), Fraction(other_width, other_height)
    error = float(max(first / second, second / first) - 1)
    assert image_sizes.compute_ratio_error(first, second) == error


@pytest.mark.parametrize(
    ("size", "ratio_name", "exact"),
    [
        ((1024, 1024), "1:1", True),
        ((1536, 864), "16:9", True),
        ((1040, 1024), "1:1", False),
        ((1536, 1040), "3:2", False),
    ],
)
def test_pixels_near_named_ratio_count_as_it(size: tuple[int, int], ratio_name: str, exact: bool) -> None:
    assert target_from_pixels(*size).ratio == ratio_name
    name, error = image_sizes.find_nearest_ratio(*size)
    assert name == ratio_name
    assert (error == 0) == exact


def test_pixels_far_from_named_ratios_keep_their_own() -> None:
    assert target_from_pixels(1360, 800) == TargetSize(1360, 800, "17:10", "1k")


@given(width=VALID_EDGES, height=VALID_EDGES)
def test_nearest_ratio_is_the_nearest(width: int, height: int) -> None:
    name, error = image_sizes.find_nearest_ratio(width, height)
    exact_ratio = Fraction(width, height)
    assert error == min(
        image_sizes.compute_ratio_error(exact_ratio, image_sizes.parse_ratio(other)) for other in RATIOS
    )
    assert error == image_sizes.compute_ratio_error(exact_ratio, image_sizes.parse_ratio(name))


def test_runapi_supports_every_ratio_but_documented_exceptions() -> None:
    """16 words for a ratio, three tiers: 1:1 has no 4k, and without a ratio there is only 1k."""
    assert set(RATIOS) | {"auto"} == {
        *("auto", "1:1", "3:2", "2:3", "4:3", "3:4", "5:4", "4:5", "16:9"),
        *("9:16", "2:1", "1:2", "3:1", "1:3", "21:9", "9:21"),
    }
    assert {("1:1", "4k")} == adapter.UNSUPPORTED_SIZES
