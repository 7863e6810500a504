"""Image rendering at exact sizes with any caption, and careful decoding of clients' images."""

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

from sandbox import image_renderer
from sandbox.image_renderer import ImageRecipe, InvalidImageError, RenderCache, SourceImage


def open_image(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def create_blank_image(width: int, height: int, image_format: str = "PNG", mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, (width, height)).save(out, image_format)
    return out.getvalue()


# Drawing


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
@pytest.mark.parametrize(
    "size", [(1, 1), (2, 3), (16, 16), (16, 3840), (3840, 16), (17, 31), (1024, 1024), (3840, 2160)], ids=str
)
def test_image_has_the_exact_size_and_format(size, kind):
    image = open_image(
        image_renderer.render_image(ImageRecipe(*size, format=kind, caption="a lighthouse at dawn " * 20))
    )
    assert (image.size, image.format) == (size, kind.upper())


@settings(max_examples=150)
@given(caption=st.text(max_size=80), note=st.text(max_size=20), width=st.integers(1, 300), height=st.integers(1, 300))
def test_any_caption_can_be_rendered(caption, note, width, height):
    assert open_image(image_renderer.render_image(ImageRecipe(width, height, "png", caption, note))).size == (
        width,
        height,
    )


@pytest.mark.parametrize("caption", ["", "\0", "a\0b", "\ud800", "\r\n\t\v", "مرحبا", "𝔘" * 50_000, "x" * 32_000])
def test_unusual_captions_are_rendered(caption):
    assert open_image(image_renderer.render_image(ImageRecipe(256, 256, "png", caption))).size == (256, 256)


def test_same_recipe_renders_the_same_bytes_and_another_prompt_others():
    def render_caption(caption: str) -> bytes:
        return image_renderer.render_image(ImageRecipe(64, 64, "png", caption))

    assert render_caption("a") == render_caption("a") != render_caption("b")
    # Long prompts that differ only at the end still render different images.
    assert render_caption("x" * 20_000 + "a") != render_caption("x" * 20_000 + "b")


def test_edit_shows_its_source_image():
    red = io.BytesIO()
    Image.new("RGB", (100, 50), "red").save(red, "PNG")
    edited = open_image(
        image_renderer.render_image(
            ImageRecipe(512, 512, "png", "night", sources=(image_renderer.read_image(red.getvalue()),))
        )
    )
    corner = edited.convert("RGB").crop((0, 400, 200, 512)).getcolors(100_000)
    assert any(count > 500 and r > 240 and g < 16 and b < 16 for count, (r, g, b) in corner)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (3, 200)], ids=str)
def test_many_source_images_fit_on_any_image(size):
    source = image_renderer.read_image(create_blank_image(400, 30))
    assert (
        open_image(
            image_renderer.render_image(ImageRecipe(*size, format="png", caption="x", sources=(source,) * 16))
        ).size
        == size
    )


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_transparent_image_has_clear_corners_and_a_solid_middle(kind):
    image = open_image(image_renderer.render_image(ImageRecipe(200, 100, kind, "x", is_transparent=True)))
    assert image.mode == "RGBA"
    assert [image.getpixel(at)[3] for at in [(0, 0), (199, 99), (100, 50)]] == [0, 0, 255]


def test_recipe_of_a_long_prompt_is_small():
    """Tens of thousands of recipes are kept."""
    assert len(ImageRecipe(64, 64, "png", "x" * 32_000).caption) < 1_000


# Reading


@pytest.mark.parametrize(
    ("data", "source"),
    [
        (create_blank_image(30, 20), (30, 20, "png", False)),
        (create_blank_image(30, 20, mode="RGBA"), (30, 20, "png", True)),
        (create_blank_image(30, 20, mode="LA"), (30, 20, "png", True)),
        (create_blank_image(30, 20, mode="I;16"), (30, 20, "png", False)),
        (create_blank_image(30, 20, "JPEG", "CMYK"), (30, 20, "jpeg", False)),
        (create_blank_image(30, 20, "WEBP", "RGBA"), (30, 20, "webp", True)),
    ],
)
def test_image_properties_are_read_from_its_bytes(data, source):
    source_image = image_renderer.read_image(data)
    assert (source_image.width, source_image.height, source_image.format, source_image.has_alpha) == source


def test_thumbnail_of_a_photograph_is_small():
    noise = io.BytesIO()
    Image.effect_noise((2000, 1500), 200).convert("RGB").save(noise, "JPEG", quality=95)
    assert len(image_renderer.read_image(noise.getvalue()).thumbnail) < 16_000


def test_equal_images_are_shared_and_freed_when_unused():
    data = create_blank_image(31, 17)
    source_image = image_renderer.read_image(data)
    assert image_renderer.read_image(bytes(bytearray(data))) is source_image
    reference = weakref.ref(source_image)
    del source_image
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"not an image",
        create_blank_image(30, 20, "GIF"),
        create_blank_image(30, 20, "BMP"),
        create_blank_image(300, 200)[:80],
    ],
)
def test_data_that_is_not_an_image_is_rejected(data):
    with pytest.raises(InvalidImageError):
        image_renderer.read_image(data)


@settings(max_examples=200)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "WEBP"]),
    cut=st.floats(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8),
)
def test_damaged_image_is_read_or_rejected(kind, cut, changes):
    data = bytearray(image_renderer.render_image(ImageRecipe(40, 30, kind.lower(), "x")))
    for at, value in changes:
        data[int(at * len(data))] = value
    with contextlib.suppress(InvalidImageError):
        assert isinstance(image_renderer.read_image(bytes(data[: int(cut * len(data))])), SourceImage)


def build_png(width: int, height: int, rows: bytes) -> bytes:
    def build_chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + build_chunk(b"IHDR", header)
        + build_chunk(b"IDAT", zlib.compress(rows))
        + build_chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("edge", [7_100, 10_000, 20_000, 2_000_000_000])
def test_decompression_bomb_is_rejected_unopened(edge):
    """Slightly over the limit, over Pillow's limit for a warning, over its limit for an error, and far over all."""
    with pytest.raises(InvalidImageError):
        image_renderer.read_image(build_png(edge, edge, b""))


def test_valid_image_with_too_many_pixels_is_rejected():
    with pytest.raises(InvalidImageError, match="too large"):
        image_renderer.read_image(create_blank_image(7_100, 7_100, mode="1"))


def test_largest_allowed_image_is_read():
    assert image_renderer.read_image(create_blank_image(7_000, 7_000, mode="1")).width == 7_000


@pytest.mark.parametrize(
    "uri",
    ["", "data:", "data:image/png,abc", "data:image/png;base64,a", "data:image/png;base64,ä", "data:;base64,@@@@", "x"],
)
def test_invalid_data_uri_is_rejected(uri):
    with pytest.raises(InvalidImageError):
        image_renderer.decode_data_uri(uri)


@given(st.binary(max_size=200))
def test_data_uris_are_decoded_unchanged(data):
    assert image_renderer.decode_data_uri(image_renderer.encode_data_uri(data, "png")) == data
    assert image_renderer.decode_data_uri(f"data:text/odd;x=y;base64,{base64.b64encode(data).decode()}") == data


# The cache


def test_cache_keeps_its_limit_and_evicts_the_least_recently_used(monkeypatch):
    monkeypatch.setattr(image_renderer, "render_image", lambda recipe: bytes(recipe.width))
    cache = RenderCache(max_bytes=100)
    for width in (40, 50, 40, 60):
        assert len(cache.get_or_render(ImageRecipe(width, 1, "png", "x"))) == width
    rendered_widths = []
    monkeypatch.setattr(
        image_renderer, "render_image", lambda recipe: rendered_widths.append(recipe.width) or bytes(recipe.width)
    )
    for width in (40, 60, 50):
        cache.get_or_render(ImageRecipe(width, 1, "png", "x"))
    # The least recently used image was evicted.
    assert rendered_widths == [50]


def test_image_larger_than_the_cache_is_rendered(monkeypatch):
    monkeypatch.setattr(image_renderer, "render_image", lambda recipe: bytes(recipe.width))
    cache = RenderCache(max_bytes=10)
    assert [len(cache.get_or_render(ImageRecipe(30, 1, "png", "x"))) for _ in range(3)] == [30, 30, 30]


def test_image_rendered_by_two_threads_is_counted_once(monkeypatch):
    """Counted twice, its size would fill the cache without any image in it."""
    barrier = threading.Barrier(2)

    def render_together(recipe: ImageRecipe) -> bytes:
        barrier.wait(5)
        return bytes(recipe.width)

    monkeypatch.setattr(image_renderer, "render_image", render_together)
    cache = RenderCache(max_bytes=100)
    threads = [threading.Thread(target=cache.get_or_render, args=[ImageRecipe(30, 1, "png", "x")]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.size_bytes == sum(map(len, cache.images.values())) == 30
