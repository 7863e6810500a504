"""Every kind of picture into every format: the same to the eye, upright, and broken ones refused."""

import asyncio
import threading
import time
import zlib

import pytest
from PIL import Image, ImageOps

from gateway.assets import converting
from gateway.assets.converting import MOST_AT_ONCE, converted
from gateway.assets.headers import Header, NotAPicture, is_whole, read_header
from providers.orders import Format
from tests.assets import pictures
from tests.assets.pictures import (
    HEIGHT,
    KINDS,
    SRGB,
    WIDTH,
    corners,
    exif,
    near,
    opened,
    quartered,
    see_through,
    written,
)

WHITE, BLUE = (255, 255, 255), (0, 0, 255)
HOLED = ["png, palette with a hole", "webp, alpha", "webp, lossless alpha"]


def convert(data: bytes, wanted: Format, header: Header | None = None) -> bytes:
    return asyncio.run(converted(data, header or read_header(data), wanted))


@pytest.mark.parametrize("wanted", Format)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in HOLED])
def test_every_kind_becomes_every_format_and_looks_the_same(kind: str, wanted: Format) -> None:
    data = KINDS[kind][1]
    result = convert(data, wanted)
    header = read_header(result)
    assert (header.format, header.width, header.height) == (wanted, WIDTH, HEIGHT)
    assert is_whole(result, header)
    image = opened(result)
    assert image.format == wanted.upper()
    # What Pillow shows of 16 bits is all white.
    expected = KINDS["png, grey"][1] if "16 bits" in kind and wanted is not Format.PNG else data
    assert near(corners(image), corners(opened(expected)))


@pytest.mark.parametrize("format", Format)
def test_what_is_in_its_format_already_is_not_touched(format: Format) -> None:
    data = written(quartered(), format, exif=exif(6))
    assert convert(data, format) is data
    rubbish = b"not even looked at"
    assert convert(rubbish, format, Header(format, 1, 1)) is rubbish


@pytest.mark.parametrize("kind", [*HOLED, "png, alpha"])
def test_what_is_transparent_lies_on_white_in_a_jpeg(kind: str) -> None:
    data = written(see_through(), "PNG") if kind == "png, alpha" else KINDS[kind][1]
    image = opened(convert(data, Format.JPEG))
    assert image.mode == "RGB"
    assert near(corners(image), [WHITE, BLUE, WHITE, BLUE])


@pytest.mark.parametrize("kind", HOLED)
def test_what_is_transparent_stays_so_where_it_can(kind: str) -> None:
    format, data = KINDS[kind]
    image = opened(convert(data, Format.WEBP if format is Format.PNG else Format.PNG))
    assert image.mode == "RGBA"
    assert [image.getpixel((4, 4))[3], image.getpixel((WIDTH - 5, 4))[3]] == [0, 255]  # type: ignore[index]


def test_half_transparent_grey_is_lightened() -> None:
    image = Image.new("LA", (32, 32), (0, 128))
    shown = corners(opened(convert(written(image, "PNG"), Format.JPEG)))
    assert near(shown, [(127, 127, 127)] * 4)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", Format)
def test_a_picture_that_lies_on_its_side_is_stood_up(format: Format, orientation: int) -> None:
    data = written(quartered(), format, exif=exif(orientation), **({"quality": 95} if format is Format.JPEG else {}))
    expected = ImageOps.exif_transpose(opened(data))
    for wanted in set(Format) - {format}:
        result = convert(data, wanted)
        image = opened(result)
        assert image.size == expected.size
        assert near(corners(image), corners(expected))
        assert read_header(result).orientation == 1


@pytest.mark.parametrize("note", ["exif", "xmp"])
def test_no_note_is_left_that_would_turn_it_again(note: str) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    data = written(quartered(), "JPEG", **({"exif": exif(6)} if note == "exif" else {"xmp": xmp}))
    for wanted in (Format.PNG, Format.WEBP):
        image = opened(convert(data, wanted))
        assert not {"exif", "xmp", "XML:com.adobe.xmp"} & image.info.keys()
        assert image.size == ((HEIGHT, WIDTH) if note == "exif" else (WIDTH, HEIGHT))


@pytest.mark.parametrize("wanted", Format)
@pytest.mark.parametrize("format", Format)
def test_the_profile_of_its_colours_goes_along(format: Format, wanted: Format) -> None:
    data = written(quartered(), format, icc_profile=SRGB)
    assert opened(convert(data, wanted)).info["icc_profile"] == SRGB


def test_a_profile_of_other_colours_does_not() -> None:
    """What describes inks would turn the screen's colours into something else."""
    inks = SRGB[:16] + b"CMYK" + SRGB[20:]
    data = written(quartered(mode="CMYK"), "JPEG", icc_profile=inks)
    assert "icc_profile" not in opened(convert(data, Format.PNG)).info


def test_small_writing_keeps_its_colours_in_a_jpeg() -> None:
    """Red dots on blue: gone, had the colours half the resolution."""
    image = Image.new("RGB", (64, 64), BLUE)
    for x in range(0, 64, 2):
        for y in range(64):
            image.putpixel((x, y), (255, 0, 0))
    result = opened(convert(written(image, "PNG"), Format.JPEG))
    assert near([result.getpixel((32, 32)), result.getpixel((33, 32))], [(255, 0, 0), BLUE], within=40)  # type: ignore[list-item]


def test_png_is_exact() -> None:
    data = written(quartered(), "WEBP", lossless=True)
    assert opened(convert(data, Format.PNG)).tobytes() == quartered().tobytes()


# More than Pillow unpacks, and far more than fits into anybody's memory unnoticed.
MUCH = zlib.compress(bytes(100_000_000))
SWOLLEN = {
    "packed text": pictures.png_chunk(b"zTXt", b"prompt\0\0" + MUCH),
    "packed text in any tongue": pictures.png_chunk(b"iTXt", b"prompt\0\1\0\0\0" + MUCH),
    "plain text": pictures.png_chunk(b"tEXt", b"prompt\0" + b"x" * 70_000_000),
    "a profile": pictures.png_chunk(b"iCCP", b"colours\0\0" + MUCH),
    "text with a wrong checksum": pictures.png_chunk(b"tEXt", b"prompt\0x")[:-1] + b"?",
}
PNG_HEAD, PNG_END = 33, 12


@pytest.mark.parametrize("is_before", [True, False], ids=["before the pixels", "behind them"])
@pytest.mark.parametrize("note", SWOLLEN)
def test_a_picture_may_say_much_about_itself(note: str, is_before: bool) -> None:
    """Sellers write prompts, workflows and signatures into what they make; the pixels are none the worse for it."""
    plain = written(quartered(), "PNG")
    place = PNG_HEAD if is_before else len(plain) - PNG_END
    data = plain[:place] + SWOLLEN[note] + plain[place:]
    for wanted in (Format.JPEG, Format.WEBP):
        assert convert(data, wanted) == convert(plain, wanted)


def test_a_note_that_is_cut_off_leaves_no_picture() -> None:
    plain = written(quartered(), "PNG")
    with pytest.raises(NotAPicture):
        convert(plain[:PNG_HEAD] + SWOLLEN["plain text"][:1_000], Format.JPEG, read_header(plain))


def broken() -> dict[str, tuple[Header, bytes]]:
    cases = {}
    for kind, (_, data) in KINDS.items():
        header = read_header(data)
        cases[f"{kind}, cut in half"] = header, data[: len(data) * 6 // 10]
    pixels = pictures.png_chunk(b"IDAT", zlib.compress(b"\0" * 97))
    claims = pictures.png_of(6_000, 6_000, pixels, pictures.png_chunk(b"IEND", b""))
    return cases | {
        "png with too few pixels": (read_header(claims), claims),
        "jpeg called png": (Header(Format.PNG, WIDTH, HEIGHT), KINDS["jpeg"][1]),
        "gif called png": (Header(Format.PNG, WIDTH, HEIGHT), written(quartered(), "GIF")),
        "postscript called jpeg": (Header(Format.JPEG, WIDTH, HEIGHT), b"%!PS-Adobe-3.0 EPSF-3.0\n"),
        "another size than the header's": (Header(Format.PNG, 5, 5), KINDS["png"][1]),
        "larger than is ever handled": (Header(Format.PNG, 5, 5), pictures.png_of(50_000, 50_000, pixels)),
        "nothing": (Header(Format.WEBP, 5, 5), b""),
    }


BROKEN = broken()


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_picture_is_refused_in_words_of_ours(name: str) -> None:
    header, data = BROKEN[name]
    wanted = Format.PNG if header.format is not Format.PNG else Format.JPEG
    with pytest.raises(NotAPicture) as refused:
        convert(data, wanted, header)
    assert refused.value.__cause__ is None
    assert "object at 0x" not in str(refused.value)


def test_no_more_than_two_at_once_and_the_loop_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def slow(data: bytes, header: Header, wanted: Format) -> bytes:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1
        return data

    monkeypatch.setattr(converting, "_converted", slow)

    async def many() -> int:
        work = asyncio.gather(*(converted(b"", Header(Format.PNG, 1, 1), Format.JPEG) for _ in range(6)))
        ticks = 0
        while not work.done():
            await asyncio.sleep(0.005)
            ticks += 1
        await work
        return ticks

    assert asyncio.run(many()) > 10
    assert most == MOST_AT_ONCE
