"""Input images with a valid header and damaged image data: refused by name before anything is ordered."""

import base64
import os
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.api.error_responses import EDITS_PATH, JOBS_PATH, expect_final_error
from tests.harness.gateway_runner import RunningGateway
from tests.harness.image_bytes import encode_image, make_png, make_png_chunk

SIZE = (64, 64)
VALID = encode_image(Image.new("RGB", SIZE), "PNG")
NO_DATA = make_png(*SIZE, make_png_chunk(b"IDAT", b"notzlib" * 10), make_png_chunk(b"IEND", b""))
TRUNCATED = make_png(
    *SIZE, make_png_chunk(b"IDAT", zlib.compress(os.urandom(64 * 193))[:-900]), make_png_chunk(b"IEND", b"")
)
JPEG = encode_image(Image.new("RGB", SIZE), "JPEG")
WEBP = encode_image(Image.new("RGB", SIZE, (9, 8, 7)), "WEBP", lossless=True)
DAMAGED_IMAGES = {
    "a png without zlib data": NO_DATA,
    "a png whose zlib stream is truncated": TRUNCATED,
    "a jpeg without its tables": JPEG.replace(b"\xff\xdb", b"\xff\xfe"),
    "a lossless webp of zeros": WEBP[:30] + bytes(len(WEBP) - 30),
}


@pytest.fixture(autouse=True)
def nothing_is_ordered(gateway: RunningGateway) -> Iterator[None]:
    before = len(gateway.sandbox.list_charges())
    yield
    gateway.wait_until_idle()
    assert len(gateway.sandbox.list_charges()) == before
    gateway.expect_no_problem()


def to_ref(data: bytes) -> dict[str, str]:
    return {"b64_json": base64.b64encode(data).decode()}


def expect_damaged(answer: httpx.Response, param: str) -> None:
    error = expect_final_error(answer, 400, "invalid_image")
    assert error["param"] == param
    assert f"'{param}'" in error["message"]
    assert "damaged" in error["message"]


@pytest.mark.parametrize("kind", DAMAGED_IMAGES)
def test_damaged_image_is_rejected(gateway: RunningGateway, kind: str) -> None:
    data = DAMAGED_IMAGES[kind]
    form = {"prompt": "a lighthouse"}
    answers = (
        gateway.http.post(EDITS_PATH, json=form | {"image": to_ref(data)}),
        gateway.http.post(EDITS_PATH, data=form, files={"image": data}),
        gateway.http.post(JOBS_PATH, json=form | {"operation": "edit", "image": to_ref(data)}),
        gateway.http.post("/v1/quotes", json=form | {"operation": "edit", "image": to_ref(data)}),
    )
    for answer in answers:
        expect_damaged(answer, "image")


def test_damaged_image_among_several_is_named(gateway: RunningGateway) -> None:
    body: dict[str, Any] = {"prompt": "a lighthouse", "image": [to_ref(VALID), to_ref(NO_DATA), to_ref(TRUNCATED)]}
    expect_damaged(gateway.http.post(EDITS_PATH, json=body), "image[1]")
    body = {"prompt": "a lighthouse", "image": to_ref(VALID), "images": [to_ref(VALID), to_ref(NO_DATA)]}
    expect_damaged(gateway.http.post(EDITS_PATH, json=body), "images[1]")
    files = [("image[]", ("upload", data)) for data in (VALID, TRUNCATED)]
    expect_damaged(gateway.http.post(EDITS_PATH, data={"prompt": "a lighthouse"}, files=files), "image[1]")


def test_damaged_mask_is_rejected(gateway: RunningGateway) -> None:
    mask = make_png(*SIZE)[:25] + b"\6" + make_png(*SIZE)[26:29]
    mask += zlib.crc32(mask[12:]).to_bytes(4) + NO_DATA[33:]
    answer = gateway.http.post(
        EDITS_PATH, json={"prompt": "a lighthouse", "image": to_ref(VALID), "mask": to_ref(mask)}
    )
    expect_damaged(answer, "mask")


def test_damaged_image_of_a_response_is_rejected(gateway: RunningGateway) -> None:
    url = f"data:image/png;base64,{base64.b64encode(NO_DATA).decode()}"
    content = [{"type": "input_text", "text": "a lighthouse"}, {"type": "input_image", "image_url": url}]
    body = {
        "model": "gpt-image-2",
        "input": [{"role": "user", "content": content}],
        "tools": [{"type": "image_generation"}],
    }
    error = expect_final_error(gateway.http.post("/v1/responses", json=body), 400, "invalid_image")
    assert "damaged" in error["message"]


def test_large_damaged_file_is_checked_on_the_disk(gateway: RunningGateway) -> None:
    """The check needs no memory for the whole image."""
    image = encode_image(Image.frombytes("RGB", (2_400, 2_400), os.urandom(17_280_000)), "PNG", compress_level=0)
    damaged = image[:-10_000_000] + bytes(10_000_000 - 12) + image[-12:]
    before = gateway.get_resident_bytes()
    answer = gateway.http.post(EDITS_PATH, data={"prompt": "a lighthouse"}, files={"image": damaged})
    expect_final_error(answer, 400, "invalid_image")
    assert gateway.get_resident_bytes() - before < 40 << 20
