"""Real pictures: their headers say what Pillow says, and a file that was cut off is noticed."""

import pytest
from PIL import Image

from gateway.assets import headers
from gateway.assets.headers import Header, NotAPicture, is_whole, read_header
from providers.orders import Format
from tests.assets import pictures
from tests.assets.pictures import HEIGHT, KINDS, WIDTH, exif, opened, quartered, written

ODD_SIZES = [(1, 1), (1, 7), (255, 256), (257, 3), (1023, 1025), (4096, 17), (16_383, 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_format_and_size_are_read(kind: str) -> None:
    format, data = KINDS[kind]
    header = read_header(data)
    assert (header.format, header.width, header.height, header.frames) == (format, WIDTH, HEIGHT, 1)
    assert header.has_alpha is opened(data).has_transparency_data
    assert header.stored_size == opened(data).size
    assert is_whole(data, header)


@pytest.mark.parametrize("format", Format)
@pytest.mark.parametrize("size", ODD_SIZES, ids=str)
def test_any_size_is_read(format: Format, size: tuple[int, int]) -> None:
    data = written(pictures.quartered(*size), format)
    assert read_header(data) == Header(format, *size)


def test_lossless_webp_of_any_size_is_read() -> None:
    for size in ODD_SIZES:
        assert read_header(written(quartered(*size), "WEBP", lossless=True)) == Header(Format.WEBP, *size)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", Format)
def test_a_picture_that_lies_on_its_side_is_as_large_as_it_is_shown(format: Format, orientation: int) -> None:
    data = written(quartered(), format, exif=exif(orientation))
    header = read_header(data)
    shown = (HEIGHT, WIDTH) if orientation >= 5 else (WIDTH, HEIGHT)
    assert (header.width, header.height, header.orientation) == (*shown, orientation)
    assert header.stored_size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_of_exif_are_read(order: str) -> None:
    notes = Image.Exif()
    notes.endian = order
    notes[0x0112] = 6
    assert read_header(written(quartered(), "JPEG", exif=notes.tobytes())).orientation == 6


@pytest.mark.parametrize(
    "notes",
    [
        b"",
        b"II",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0",
        b"II*\0\x08\0\0\0\xff\xff",
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0",
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06",
        b"XX*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0",
    ],
)
def test_broken_exif_turns_nothing(notes: bytes) -> None:
    data = b"\xff\xd8" + pictures.jpeg_segment(0xE1, b"Exif\0\0" + notes) + written(quartered(), "JPEG")[2:]
    assert read_header(data) == Header(Format.JPEG, WIDTH, HEIGHT)


def test_jpeg_may_be_filled_up_and_hold_segments_nobody_knows() -> None:
    plain = written(quartered(), "JPEG")
    for number in (0xE1, 0xE2, 0xEB, 0xEF, 0xFE):
        data = b"\xff\xd8" + b"\xff" * 9 + pictures.jpeg_segment(number, b"\xff\xc0\0\x0b\x08\0\1\0\1" * 9) + plain[2:]
        assert read_header(data) == Header(Format.JPEG, WIDTH, HEIGHT)


def test_only_the_head_is_needed() -> None:
    for kind, (format, data) in KINDS.items():
        if "large" not in kind and format is not Format.PNG:
            assert read_header(data[:4096]) == read_header(data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_off_is_not_whole(kind: str) -> None:
    _, data = KINDS[kind]
    header = read_header(data)
    for length in {*range(max(0, len(data) - 40), len(data)), len(data) // 2, 12, 0}:
        assert not is_whole(data[:length], header), length


@pytest.mark.parametrize("kind", [kind for kind, (format, _) in KINDS.items() if format is not Format.WEBP])
def test_what_hangs_on_behind_does_no_harm(kind: str) -> None:
    _, data = KINDS[kind]
    assert is_whole(data + b"\0" * 5_000, read_header(data))


def test_a_small_picture_inside_does_not_pass_for_the_end() -> None:
    """Cameras put one into a JPEG's notes, and drawing programs into a PNG's."""
    thumbnail = written(quartered(16, 16), "JPEG")
    jpeg = b"\xff\xd8" + pictures.jpeg_segment(0xE1, b"Exif\0\0" + thumbnail) + written(quartered(), "JPEG")[2:]
    plain = written(quartered(), "PNG")
    png = plain[:33] + pictures.png_chunk(b"caBX", plain) + plain[33:]
    for data in (jpeg, png):
        header = read_header(data)
        assert is_whole(data, header)
        assert not is_whole(data[:-4], header)


def test_a_picture_says_its_media_type_in_no_words_but_its_bytes() -> None:
    """A JPEG stays one whatever it was called; there is no other argument to be misled by."""
    assert read_header(KINDS["jpeg"][1]).format is Format.JPEG
    with pytest.raises(NotAPicture, match="an HTML page"):
        read_header(b"<html><body>502 Bad Gateway</body></html>")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("size", range(1, 30))
def test_an_end_is_found_wherever_the_pieces_that_it_is_looked_for_in_are_cut(
    kind: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headers, "_PIECE_BYTES", size)
    data = written(quartered(), kind)
    header = read_header(data)
    assert is_whole(data, header)
    assert is_whole(data + b"trailing", header)
    assert not is_whole(data[:-1], header)
