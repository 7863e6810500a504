"""Sizes: every legal target yields a legal size, every illegal one says why, ratios and tiers round-trip."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import runapi, sizes
from providers.sizes import RATIOS, Resolution, SizeError, Target, target_of_pixels, target_of_shape

TIERS = list(Resolution)
EDGES = st.integers(1, 260).map(lambda steps: steps * 16)
SIDES = st.integers(1, 9_999)


def obeys_the_model(width: int, height: int) -> bool:
    """The model's law, written again and differently."""
    whole = width % 16 == 0 and height % 16 == 0 and min(width, height) > 0
    return (
        whole
        and max(width, height) <= 3840
        and 655_360 <= width * height <= 8_294_400
        and max(width, height) / min(width, height) <= 3
    )


@given(width=st.integers(-16, 4_200), height=st.integers(-16, 4_200))
def test_pixels_are_legal_or_say_why(width: int, height: int) -> None:
    if obeys_the_model(width, height):
        target = target_of_pixels(width, height)
        assert (target.width, target.height) == (width, height)
    else:
        with pytest.raises(SizeError, match=f"size {width}x{height} is not possible: \\w+"):
            target_of_pixels(width, height)


@given(width=EDGES, height=EDGES)
def test_every_legal_size_falls_into_one_tier(width: int, height: int) -> None:
    if obeys_the_model(width, height):
        pixels = width * height
        tier = "1k" if pixels <= 1_572_864 else "2k" if pixels <= 4_194_304 else "4k"
        assert target_of_pixels(width, height).resolution == tier


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("tier", TIERS)
def test_named_ratios_round_trip_through_pixels(ratio: str, tier: Resolution) -> None:
    target = target_of_shape(ratio, tier)
    assert obeys_the_model(target.width, target.height)
    assert (target.ratio, target.resolution) == (ratio, tier)
    assert target_of_pixels(target.width, target.height) == target


@given(wide=SIDES, high=SIDES, tier=st.sampled_from(TIERS))
def test_any_ratio_yields_a_legal_size_or_says_why(wide: int, high: int, tier: Resolution) -> None:
    text = f"{wide}:{high}"
    if not Fraction(1, 3) <= Fraction(wide, high) <= 3:
        with pytest.raises(SizeError, match="outside 1:3 to 3:1"):
            target_of_shape(text, tier)
        return
    target = target_of_shape(text, tier)
    assert obeys_the_model(target.width, target.height)
    assert target.resolution is tier
    assert abs(target.width / target.height / (wide / high) - 1) <= 0.0201
    assert target_of_pixels(target.width, target.height).resolution is tier


@pytest.mark.parametrize(
    ("ratio", "tier", "size"),
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
def test_well_known_sizes_are_what_people_expect(ratio: str, tier: str, size: tuple[int, int]) -> None:
    target = target_of_shape(ratio, Resolution(tier))
    assert (target.width, target.height) == size


@pytest.mark.parametrize(
    "text",
    ["", "1024", "1024x", "x1024", "1024X1024", "01024x1024", "-1x1", "1e3x1", "٣x٣", "1024x1024\n", "9" * 50 + "x1"],
)
def test_a_size_that_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(SizeError, match="must look like"):
        sizes.parse_size(text)


def test_a_size_is_read() -> None:
    assert sizes.parse_size("1536x1024") == (1536, 1024)


@pytest.mark.parametrize("text", ["", "auto", "16/9", "16:0", "0:9", "16:9:1", "1.5:1", " 1:1", "1:1 ", "٣:٣"])
def test_a_ratio_that_is_no_ratio_is_refused(text: str) -> None:
    with pytest.raises(SizeError, match="must look like"):
        sizes.parse_ratio(text)


@pytest.mark.parametrize(
    ("size", "named", "exact"),
    [
        ((1024, 1024), "1:1", True),
        ((1536, 864), "16:9", True),
        ((1040, 1024), "1:1", False),
        ((1536, 1040), "3:2", False),
    ],
)
def test_pixels_near_a_named_ratio_count_as_it(size: tuple[int, int], named: str, exact: bool) -> None:
    assert target_of_pixels(*size).ratio == named
    name, error = sizes.nearest_ratio(*size)
    assert name == named
    assert (error == 0) == exact


def test_pixels_far_from_every_named_ratio_keep_their_own() -> None:
    assert target_of_pixels(1360, 800) == Target(1360, 800, "17:10", Resolution.ONE_K)


@given(width=EDGES, height=EDGES)
def test_nearest_ratio_is_the_nearest(width: int, height: int) -> None:
    name, error = sizes.nearest_ratio(width, height)
    wanted = Fraction(width, height)
    assert error == min(sizes.ratio_error(wanted, sizes.parse_ratio(other)) for other in RATIOS)
    assert error == sizes.ratio_error(wanted, sizes.parse_ratio(name))


def test_runapi_sells_every_shape_but_those_it_forbids() -> None:
    """16 words for a ratio, three tiers: 1:1 has no 4k, and without a ratio there is only 1k."""
    assert set(RATIOS) | {"auto"} == {
        *("auto", "1:1", "3:2", "2:3", "4:3", "3:4", "5:4", "4:5", "16:9"),
        *("9:16", "2:1", "1:2", "3:1", "1:3", "21:9", "9:21"),
    }
    assert {("1:1", Resolution.FOUR_K)} == runapi.NOT_SOLD
