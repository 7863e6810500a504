"""Input images that no seller should receive: masks that do not fit, and decompression bombs."""

import base64
import io
import zlib
from collections.abc import Iterator
from struct import pack
from typing import Any

import pytest
from PIL import Image

from tests.api.error_responses import JOBS_PATH, expect_final_error
from tests.harness.gateway_runner import RunningGateway
from tests.harness.image_bytes import (
    encode_image,
    make_jpeg_frame,
    make_png,
    make_png_chunk,
    make_vp8x_chunk,
    make_webp,
)

SIZE = (96, 64)
WAIT_HEADERS = {"prefer": "wait=30"}


def make_image(mode: str = "RGB", size: tuple[int, int] = SIZE, format: str = "PNG", **settings: Any) -> bytes:
    return encode_image(Image.new(mode, size), format, **settings)


def make_edit_body(image: bytes, mask: bytes | None = None) -> dict[str, Any]:
    in_base64 = [{"b64_json": base64.b64encode(data).decode()} for data in (image, mask or b"")]
    masked = {"mask": in_base64[1]} if mask else {}
    return {"prompt": "a lighthouse", "operation": "edit", "image": in_base64[0], **masked}


@pytest.fixture
def expected_purchases(gateway: RunningGateway) -> Iterator[list[int]]:
    """How many images the test expects to be ordered."""
    before, expected = len(gateway.sandbox.list_charges()), [0]
    yield expected
    gateway.wait_until_idle()
    assert len(gateway.sandbox.list_charges()) - before == sum(expected)


def _make_palette_image(transparency: bytes | None) -> bytes:
    image = Image.new("P", SIZE)
    image.putpalette([0, 0, 0, 255, 255, 255])
    return encode_image(image, "PNG", **({} if transparency is None else {"transparency": transparency}))


VALID_MASKS = {
    "colours and alpha": make_image("RGBA"),
    "grey and alpha": make_image("LA"),
    "a palette with a transparent colour": _make_palette_image(b"\0\xff"),
    "colours, one of them transparent": make_image("RGB", transparency=(0, 0, 0)),
    "grey, one of it transparent": make_image("L", transparency=0),
}
MASKS_WITHOUT_ALPHA = {
    "colours": make_image(),
    "grey": make_image("L"),
    "black and white": make_image("1"),
    "a palette": _make_palette_image(None),
    "a jpeg": make_image(format="JPEG"),
    "webp": make_image(format="WEBP"),
    "lossless webp": make_image(format="WEBP", lossless=True),
    "webp with alpha": make_image("RGBA", format="WEBP"),
    "lossless webp with alpha": encode_image(Image.new("RGBA", SIZE, (1, 2, 3, 0)), "WEBP", lossless=True),
    "an empty tRNS": make_png(*SIZE, make_png_chunk(b"tRNS", b""), make_image()[33:]),
    "a tRNS after the pixels": make_image()[:-12] + make_png_chunk(b"tRNS", b"\0" * 6) + make_image()[-12:],
}


@pytest.mark.parametrize("kind", VALID_MASKS)
def test_mask_with_alpha_and_the_size_of_the_first_input_is_accepted(
    gateway: RunningGateway, expected_purchases: list[int], kind: str
) -> None:
    expected_purchases.append(1)
    answer = gateway.http.post(JOBS_PATH, json=make_edit_body(make_image(), VALID_MASKS[kind]), headers=WAIT_HEADERS)
    assert answer.json()["status"] == "completed", answer.text


@pytest.mark.parametrize("kind", MASKS_WITHOUT_ALPHA)
def test_mask_without_alpha_is_rejected_before_any_order(
    gateway: RunningGateway, expected_purchases: list[int], kind: str
) -> None:
    error = expect_final_error(
        gateway.http.post(JOBS_PATH, json=make_edit_body(make_image(), MASKS_WITHOUT_ALPHA[kind])),
        400,
        "invalid_image_mode",
    )
    assert error["param"] == "mask"
    assert "must be a PNG with an alpha channel" in error["message"]


@pytest.mark.parametrize("size", [(64, 96), (95, 64), (96, 63), (192, 128), (1, 1)])
def test_mask_of_another_size_is_rejected_before_any_order(
    gateway: RunningGateway, expected_purchases: list[int], size: tuple[int, int]
) -> None:
    error = expect_final_error(
        gateway.http.post(JOBS_PATH, json=make_edit_body(make_image(), make_image("RGBA", size))), 400, "invalid_image"
    )
    assert error["param"] == "mask"
    assert f"{size[0]}x{size[1]}" in error["message"]
    assert "96x64" in error["message"]


def test_mask_is_compared_with_the_first_of_several_inputs(
    gateway: RunningGateway, expected_purchases: list[int]
) -> None:
    expected_purchases.append(1)
    other, mask = make_image(size=(64, 64)), make_image("RGBA")
    matching_body = make_edit_body(make_image(), mask) | {"images": [make_edit_body(other)["image"]]}
    answer = gateway.http.post(JOBS_PATH, json=matching_body, headers=WAIT_HEADERS)
    assert answer.json()["status"] == "completed", answer.text
    mismatched_body = make_edit_body(other, mask) | {"images": [make_edit_body(make_image())["image"]]}
    assert (
        expect_final_error(gateway.http.post(JOBS_PATH, json=mismatched_body), 400, "invalid_image")["param"] == "mask"
    )


def test_mask_of_a_rotated_photo_needs_the_upright_size(gateway: RunningGateway, expected_purchases: list[int]) -> None:
    expected_purchases.append(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = make_image(format="JPEG", exif=exif.tobytes())
    expect_final_error(
        gateway.http.post(JOBS_PATH, json=make_edit_body(photo, make_image("RGBA"))), 400, "invalid_image"
    )
    answer = gateway.http.post(
        JOBS_PATH, json=make_edit_body(photo, make_image("RGBA", (64, 96))), headers=WAIT_HEADERS
    )
    assert answer.json()["status"] == "completed", answer.text


def _make_animation(frames: int) -> bytes:
    out = io.BytesIO()
    still_images = [Image.new("RGB", SIZE, (number, 0, 0)) for number in range(frames)]
    still_images[0].save(out, "PNG", save_all=True, append_images=still_images[1:])
    return out.getvalue()


def _make_huge_png(width: int, height: int) -> bytes:
    """A few kilobytes that decode to gigabytes."""
    rows = zlib.compress(bytes(1_000_000), 9)
    return make_png(width, height, make_png_chunk(b"IDAT", rows), make_png_chunk(b"IEND", b""))


_WEBP = make_image(format="WEBP", lossless=True)[20:]
_HUGE_WEBP = b"\x2f" + pack("<I", 16_382 | 16_382 << 14) + _WEBP[5:]
BOMBS = {
    "many pixels": (_make_huge_png(10_000, 10_000), "too large"),
    "one row of a million pixels": (_make_huge_png(1_000_000, 1), "too large"),
    "the largest valid size": (_make_huge_png(2**31 - 1, 2**31 - 1), "too large"),
    "a size beyond the largest valid one": (_make_huge_png(2**32 - 1, 2**32 - 1), "too large"),
    "no pixels": (_make_huge_png(0, 64), "without any pixels"),
    "three frames": (_make_animation(3), "an animated png with 3 frames"),
    "a billion frames": (
        make_png(*SIZE, make_png_chunk(b"acTL", pack(">II", 10**9, 0)), make_image()[33:]),
        "1,000,000,000",
    ),
    "frames declared twice": (
        make_png(*SIZE, *(make_png_chunk(b"acTL", pack(">II", number, 0)) for number in (1, 7)), make_image()[33:]),
        "an animated png with 7 frames",
    ),
    "a huge jpeg": (
        b"\xff\xd8" + make_jpeg_frame(65_500, 65_500) + b"\xff\xda" + bytes(1000) + b"\xff\xd9",
        "too large",
    ),
    "an animated webp": (
        make_webp(make_vp8x_chunk(0x02, *SIZE), (b"ANIM", bytes(6)), (b"ANMF", bytes(40))),
        "animated",
    ),
    "a huge lossless webp": (make_webp((b"VP8L", _HUGE_WEBP)), "too large"),
    "a huge webp in a small canvas": (
        make_webp(make_vp8x_chunk(0, *SIZE), (b"VP8L", _HUGE_WEBP)),
        "contradicting sizes",
    ),
    "a huge webp after Exif data": (
        make_webp(make_vp8x_chunk(8, *SIZE), (b"EXIF", bytes(8)), (b"VP8L", _HUGE_WEBP)),
        "contradicting sizes",
    ),
    "many chunks": (
        make_png(*SIZE, make_png_chunk(b"tEXt", b"") * 5_000, make_image()[33:]),
        "chunks before its pixels",
    ),
}


@pytest.mark.parametrize("param", ["image", "mask"])
@pytest.mark.parametrize("kind", BOMBS)
def test_decompression_bombs_are_rejected_from_their_headers(
    gateway: RunningGateway, expected_purchases: list[int], kind: str, param: str
) -> None:
    bomb, words = BOMBS[kind]
    body = make_edit_body(bomb) if param == "image" else make_edit_body(make_image(), bomb)
    code = "image_too_large" if words == "too large" else "invalid_image"
    error = expect_final_error(gateway.http.post(JOBS_PATH, json=body), 400, code)
    assert error["param"] == param
    assert words in error["message"]


def test_animated_png_with_one_frame_is_accepted(gateway: RunningGateway, expected_purchases: list[int]) -> None:
    expected_purchases.append(1)
    still = make_png(*SIZE, make_png_chunk(b"acTL", pack(">II", 1, 0)), make_image()[33:])
    assert (
        gateway.http.post(JOBS_PATH, json=make_edit_body(still), headers=WAIT_HEADERS).json()["status"] == "completed"
    )


def test_photo_in_multi_picture_format_is_accepted(gateway: RunningGateway, expected_purchases: list[int]) -> None:
    """Phones write this format; only the first image is shown."""
    expected_purchases.append(1)
    out = io.BytesIO()
    Image.new("RGB", SIZE).save(out, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    answer = gateway.http.post(JOBS_PATH, json=make_edit_body(out.getvalue()), headers=WAIT_HEADERS)
    assert answer.json()["status"] == "completed", answer.text
