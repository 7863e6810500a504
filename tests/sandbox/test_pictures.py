"""Pictures: drawn at exactly the asked pixels whatever is written on them, read with suspicion."""

import base64
import contextlib
import gc
import io
import struct
import threading
import weakref
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sandbox import pictures
from sandbox.pictures import DrawnCache, NotAPictureError, Picture, Source


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def plain(width: int, height: int, kind: str = "PNG", mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, (width, height)).save(out, kind)
    return out.getvalue()


# Drawing


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
@pytest.mark.parametrize(
    "size", [(1, 1), (2, 3), (16, 16), (16, 3840), (3840, 16), (17, 31), (1024, 1024), (3840, 2160)], ids=str
)
def test_a_picture_has_exactly_its_pixels_and_format(size, kind):
    image = opened(pictures.draw(Picture(*size, format=kind, caption="a lighthouse at dawn " * 20)))
    assert (image.size, image.format) == (size, kind.upper())


@settings(max_examples=150, deadline=None)
@given(caption=st.text(max_size=80), note=st.text(max_size=20), width=st.integers(1, 300), height=st.integers(1, 300))
def test_any_text_can_be_written_on_a_picture(caption, note, width, height):
    assert opened(pictures.draw(Picture(width, height, "png", caption, note))).size == (width, height)


@pytest.mark.parametrize("caption", ["", "\0", "a\0b", "\ud800", "\r\n\t\v", "مرحبا", "𝔘" * 50_000, "x" * 32_000])
def test_odd_captions_are_drawn_too(caption):
    assert opened(pictures.draw(Picture(256, 256, "png", caption))).size == (256, 256)


def test_the_same_recipe_draws_the_same_bytes_and_another_prompt_others():
    def draw(caption: str) -> bytes:
        return pictures.draw(Picture(64, 64, "png", caption))

    assert draw("a") == draw("a") != draw("b")
    # Long prompts that differ only at the end are still different pictures.
    assert draw("x" * 20_000 + "a") != draw("x" * 20_000 + "b")


def test_an_edit_shows_what_it_was_made_from():
    red = io.BytesIO()
    Image.new("RGB", (100, 50), "red").save(red, "PNG")
    edited = opened(pictures.draw(Picture(512, 512, "png", "night", sources=(pictures.read(red.getvalue()),))))
    corner = edited.convert("RGB").crop((0, 400, 200, 512)).getcolors(100_000)
    assert any(count > 500 and r > 240 and g < 16 and b < 16 for count, (r, g, b) in corner)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (3, 200)], ids=str)
def test_many_sources_fit_on_any_picture(size):
    source = pictures.read(plain(400, 30))
    assert opened(pictures.draw(Picture(*size, format="png", caption="x", sources=(source,) * 16))).size == size


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_a_transparent_picture_has_open_corners_and_a_solid_middle(kind):
    image = opened(pictures.draw(Picture(200, 100, kind, "x", transparent=True)))
    assert image.mode == "RGBA"
    assert [image.getpixel(at)[3] for at in [(0, 0), (199, 99), (100, 50)]] == [0, 0, 255]


def test_a_recipe_is_small_however_long_its_prompt():
    """Recipes are kept by the ten thousand."""
    assert len(Picture(64, 64, "png", "x" * 32_000).caption) < 1_000


# Reading


@pytest.mark.parametrize(
    ("data", "source"),
    [
        (plain(30, 20), (30, 20, "png", False)),
        (plain(30, 20, mode="RGBA"), (30, 20, "png", True)),
        (plain(30, 20, mode="LA"), (30, 20, "png", True)),
        (plain(30, 20, mode="I;16"), (30, 20, "png", False)),
        (plain(30, 20, "JPEG", "CMYK"), (30, 20, "jpeg", False)),
        (plain(30, 20, "WEBP", "RGBA"), (30, 20, "webp", True)),
    ],
)
def test_a_picture_is_known_by_its_bytes(data, source):
    read = pictures.read(data)
    assert (read.width, read.height, read.format, read.alpha) == source


def test_what_is_kept_of_a_photograph_is_small():
    noise = io.BytesIO()
    Image.effect_noise((2000, 1500), 200).convert("RGB").save(noise, "JPEG", quality=95)
    assert len(pictures.read(noise.getvalue()).thumbnail) < 16_000


def test_the_same_picture_is_kept_once_and_not_for_ever():
    data = plain(31, 17)
    kept = pictures.read(data)
    assert pictures.read(bytes(bytearray(data))) is kept
    gone = weakref.ref(kept)
    del kept
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"no picture", plain(30, 20, "GIF"), plain(30, 20, "BMP"), plain(300, 200)[:80]]
)
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(NotAPictureError):
        pictures.read(data)


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "WEBP"]),
    cut=st.floats(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8),
)
def test_broken_pictures_are_read_or_refused_and_nothing_else(kind, cut, changes):
    data = bytearray(pictures.draw(Picture(40, 30, kind.lower(), "x")))
    for at, value in changes:
        data[int(at * len(data))] = value
    with contextlib.suppress(NotAPictureError):
        assert isinstance(pictures.read(bytes(data[: int(cut * len(data))])), Source)


def png_claiming(width: int, height: int, rows: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("edge", [7_100, 10_000, 20_000, 2_000_000_000])
def test_a_decompression_bomb_is_refused_unopened(edge):
    """Just over the limit, over Pillow's limit for a warning, over its limit for an error, absurd."""
    with pytest.raises(NotAPictureError):
        pictures.read(png_claiming(edge, edge, b""))


def test_a_sound_picture_with_too_many_pixels_is_refused():
    with pytest.raises(NotAPictureError, match="too large"):
        pictures.read(plain(7_100, 7_100, mode="1"))


def test_the_largest_picture_a_vendor_takes_is_read():
    assert pictures.read(plain(7_000, 7_000, mode="1")).width == 7_000


@pytest.mark.parametrize(
    "uri",
    ["", "data:", "data:image/png,abc", "data:image/png;base64,a", "data:image/png;base64,ä", "data:;base64,@@@@", "x"],
)
def test_a_broken_data_uri_is_refused(uri):
    with pytest.raises(NotAPictureError):
        pictures.from_data_uri(uri)


@given(st.binary(max_size=200))
def test_data_uris_come_back_as_they_were(data):
    assert pictures.from_data_uri(pictures.to_data_uri(data, "png")) == data
    assert pictures.from_data_uri(f"data:text/odd;x=y;base64,{base64.b64encode(data).decode()}") == data


# The cache


def test_the_cache_keeps_to_its_limit_and_gives_what_was_drawn(monkeypatch):
    monkeypatch.setattr(pictures, "draw", lambda picture: bytes(picture.width))
    cache = DrawnCache(limit=100)
    for width in (40, 50, 40, 60):
        assert len(cache.get(Picture(width, 1, "png", "x"))) == width
    drawn = []
    monkeypatch.setattr(pictures, "draw", lambda picture: drawn.append(picture.width) or bytes(picture.width))
    for width in (40, 60, 50):
        cache.get(Picture(width, 1, "png", "x"))
    # The one that had not been asked for the longest had to go.
    assert drawn == [50]


def test_a_picture_larger_than_the_cache_is_drawn_all_the_same(monkeypatch):
    monkeypatch.setattr(pictures, "draw", lambda picture: bytes(picture.width))
    cache = DrawnCache(limit=10)
    assert [len(cache.get(Picture(30, 1, "png", "x"))) for _ in range(3)] == [30, 30, 30]


def test_a_picture_drawn_by_two_threads_at_once_counts_once(monkeypatch):
    """Counted twice, the cache would believe itself fuller and fuller, until nothing was kept in it."""
    both_draw = threading.Barrier(2)

    def draw(picture: Picture) -> bytes:
        both_draw.wait(5)
        return bytes(picture.width)

    monkeypatch.setattr(pictures, "draw", draw)
    cache = DrawnCache(limit=100)
    threads = [threading.Thread(target=cache.get, args=[Picture(30, 1, "png", "x")]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.size == sum(map(len, cache.drawn.values())) == 30
