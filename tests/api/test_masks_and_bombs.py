"""Input images that no seller should be sent: masks that do not fit, and files that are more than they seem."""

import base64
import io
import zlib
from collections.abc import Iterator
from struct import pack
from typing import Any

import pytest
from PIL import Image

from tests.api.answers import JOBS, refused
from tests.assets.pictures import jpeg_frame, png_chunk, png_of, vp8x, webp_of, written
from tests.serving import Serving

SIZE = (96, 64)
WAITING = {"prefer": "wait=30"}


def plain(mode: str = "RGB", size: tuple[int, int] = SIZE, format: str = "PNG", **settings: Any) -> bytes:
    return written(Image.new(mode, size), format, **settings)


def body_of(image: bytes, mask: bytes | None = None) -> dict[str, Any]:
    in_base64 = [{"b64_json": base64.b64encode(data).decode()} for data in (image, mask or b"")]
    masked = {"mask": in_base64[1]} if mask else {}
    return {"prompt": "a lighthouse", "operation": "edit", "image": in_base64[0], **masked}


@pytest.fixture
def bought(gateway: Serving) -> Iterator[list[int]]:
    """How many images the test expects to be bought, in sum."""
    before, expected = len(gateway.vendors.charges()), [0]
    yield expected
    gateway.come_to_rest()
    assert len(gateway.vendors.charges()) - before == sum(expected)


def _palette(transparency: bytes | None) -> bytes:
    image = Image.new("P", SIZE)
    image.putpalette([0, 0, 0, 255, 255, 255])
    return written(image, "PNG", **({} if transparency is None else {"transparency": transparency}))


FITTING = {
    "colours and alpha": plain("RGBA"),
    "grey and alpha": plain("LA"),
    "a palette with a hole": _palette(b"\0\xff"),
    "colours, one of them transparent": plain("RGB", transparency=(0, 0, 0)),
    "grey, one of it transparent": plain("L", transparency=0),
}
WITHOUT_ALPHA = {
    "colours": plain(),
    "grey": plain("L"),
    "black and white": plain("1"),
    "a palette": _palette(None),
    "a jpeg": plain(format="JPEG"),
    "webp": plain(format="WEBP"),
    "lossless webp": plain(format="WEBP", lossless=True),
    "webp with alpha": plain("RGBA", format="WEBP"),
    "lossless webp with alpha": written(Image.new("RGBA", SIZE, (1, 2, 3, 0)), "WEBP", lossless=True),
    "a tRNS of nothing": png_of(*SIZE, png_chunk(b"tRNS", b""), plain()[33:]),
    "a tRNS behind the pixels": plain()[:-12] + png_chunk(b"tRNS", b"\0" * 6) + plain()[-12:],
}


@pytest.mark.parametrize("kind", FITTING)
def test_mask_with_alpha_and_the_size_of_the_first_input_is_bought(
    gateway: Serving, bought: list[int], kind: str
) -> None:
    bought.append(1)
    answer = gateway.http.post(JOBS, json=body_of(plain(), FITTING[kind]), headers=WAITING)
    assert answer.json()["status"] == "completed", answer.text


@pytest.mark.parametrize("kind", WITHOUT_ALPHA)
def test_mask_without_alpha_is_refused_before_anything_is_bought(
    gateway: Serving, bought: list[int], kind: str
) -> None:
    error = refused(gateway.http.post(JOBS, json=body_of(plain(), WITHOUT_ALPHA[kind])), 400, "invalid_image_mode")
    assert error["param"] == "mask"
    assert "no alpha channel" in error["message"]


@pytest.mark.parametrize("size", [(64, 96), (95, 64), (96, 63), (192, 128), (1, 1)])
def test_mask_of_another_size_is_refused_before_anything_is_bought(
    gateway: Serving, bought: list[int], size: tuple[int, int]
) -> None:
    error = refused(gateway.http.post(JOBS, json=body_of(plain(), plain("RGBA", size))), 400, "invalid_image")
    assert error["param"] == "mask"
    assert f"{size[0]}x{size[1]}" in error["message"]
    assert "96x64" in error["message"]


def test_mask_is_compared_with_the_first_of_several_inputs(gateway: Serving, bought: list[int]) -> None:
    bought.append(1)
    other, mask = plain(size=(64, 64)), plain("RGBA")
    first = body_of(plain(), mask) | {"images": [body_of(other)["image"]]}
    answer = gateway.http.post(JOBS, json=first, headers=WAITING)
    assert answer.json()["status"] == "completed", answer.text
    second = body_of(other, mask) | {"images": [body_of(plain())["image"]]}
    assert refused(gateway.http.post(JOBS, json=second), 400, "invalid_image")["param"] == "mask"


def test_mask_of_a_photo_that_lies_on_its_side_has_the_size_that_is_shown(gateway: Serving, bought: list[int]) -> None:
    bought.append(1)
    notes = Image.Exif()
    notes[0x0112] = 6
    photo = plain(format="JPEG", exif=notes.tobytes())
    refused(gateway.http.post(JOBS, json=body_of(photo, plain("RGBA"))), 400, "invalid_image")
    answer = gateway.http.post(JOBS, json=body_of(photo, plain("RGBA", (64, 96))), headers=WAITING)
    assert answer.json()["status"] == "completed", answer.text


def _moving(frames: int) -> bytes:
    out = io.BytesIO()
    pictures = [Image.new("RGB", SIZE, (number, 0, 0)) for number in range(frames)]
    pictures[0].save(out, "PNG", save_all=True, append_images=pictures[1:])
    return out.getvalue()


def _huge(width: int, height: int) -> bytes:
    """A few kilobytes that would become gigabytes."""
    rows = zlib.compress(bytes(1_000_000), 9)
    return png_of(width, height, png_chunk(b"IDAT", rows), png_chunk(b"IEND", b""))


_WEBP = plain(format="WEBP", lossless=True)[20:]
_HUGE_WEBP = b"\x2f" + pack("<I", 16_382 | 16_382 << 14) + _WEBP[5:]
BOMBS = {
    "many pixels": (_huge(10_000, 10_000), "too large"),
    "one row of many": (_huge(1_000_000, 1), "too large"),
    "all there can be": (_huge(2**31 - 1, 2**31 - 1), "too large"),
    "more than there can be": (_huge(2**32 - 1, 2**32 - 1), "too large"),
    "no pixels": (_huge(0, 64), "without any pixels"),
    "three frames": (_moving(3), "a moving png of 3 pictures"),
    "a billion frames": (png_of(*SIZE, png_chunk(b"acTL", pack(">II", 10**9, 0)), plain()[33:]), "1,000,000,000"),
    "frames declared twice": (
        png_of(*SIZE, *(png_chunk(b"acTL", pack(">II", number, 0)) for number in (1, 7)), plain()[33:]),
        "a moving png of 7",
    ),
    "a huge jpeg": (b"\xff\xd8" + jpeg_frame(65_500, 65_500) + b"\xff\xda" + bytes(1000) + b"\xff\xd9", "too large"),
    "a moving webp": (webp_of(vp8x(0x02, *SIZE), (b"ANIM", bytes(6)), (b"ANMF", bytes(40))), "moving"),
    "a huge lossless webp": (webp_of((b"VP8L", _HUGE_WEBP)), "too large"),
    "a huge webp in a small one": (webp_of(vp8x(0, *SIZE), (b"VP8L", _HUGE_WEBP)), "of two minds"),
    "the same behind its notes": (webp_of(vp8x(8, *SIZE), (b"EXIF", bytes(8)), (b"VP8L", _HUGE_WEBP)), "of two minds"),
    "many parts": (png_of(*SIZE, png_chunk(b"tEXt", b"") * 5_000, plain()[33:]), "parts before its pixels"),
}


@pytest.mark.parametrize("param", ["image", "mask"])
@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_are_refused_from_their_headers(gateway: Serving, bought: list[int], kind: str, param: str) -> None:
    bomb, words = BOMBS[kind]
    body = body_of(bomb) if param == "image" else body_of(plain(), bomb)
    error = refused(gateway.http.post(JOBS, json=body), 400, "invalid_image")
    assert error["param"] == param
    assert words in error["message"]


def test_a_png_that_says_it_moves_with_one_picture_is_a_still_one(gateway: Serving, bought: list[int]) -> None:
    bought.append(1)
    still = png_of(*SIZE, png_chunk(b"acTL", pack(">II", 1, 0)), plain()[33:])
    assert gateway.http.post(JOBS, json=body_of(still), headers=WAITING).json()["status"] == "completed"


def test_a_photo_with_a_smaller_one_behind_it_is_taken(gateway: Serving, bought: list[int]) -> None:
    """As phones write them, in the multi-picture format: only the first is shown."""
    bought.append(1)
    out = io.BytesIO()
    Image.new("RGB", SIZE).save(out, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    answer = gateway.http.post(JOBS, json=body_of(out.getvalue()), headers=WAITING)
    assert answer.json()["status"] == "completed", answer.text
