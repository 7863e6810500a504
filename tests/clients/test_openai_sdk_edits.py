"""OpenAI's Python SDK edits images at the simulated OpenAI, as forms and as JSON."""

import base64
import io

import openai
import pytest
from openai.types import ImagesResponse

from tests.clients.openai_sdk import MODEL, compute_cost_micros, sum_openai_charges
from tests.harness.sample_images import decode_image, make_image


def test_edit_with_two_images_and_a_mask_is_delivered(sandbox, openai_client):
    images = [make_image(900, 300, "JPEG"), make_image(64, 64, "WEBP")]
    answer = openai_client.images.edit(
        model=MODEL, prompt="night", image=images, mask=make_image(900, 300, mode="RGBA"), size="1536x1024", n=2
    )
    assert [decode_image(image.b64_json).size for image in answer.data] == [(1536, 1024)] * 2
    # Two tiles across one high, and one tile; the mask is not counted.
    assert answer.usage.input_tokens_details.image_tokens == 3 * 256
    assert sum_openai_charges(sandbox) == compute_cost_micros(answer.usage)


def test_image_type_comes_from_the_bytes_only(sandbox, openai_client):
    mislabelled_file = ("notes.txt", io.BytesIO(make_image(64, 64)), "text/plain")
    assert len(openai_client.images.edit(model=MODEL, prompt="night", image=mislabelled_file).data) == 1
    assert 'filename="notes.txt"' in sandbox.list_requests("openai", "submit")[-1]["body"]


@pytest.mark.parametrize(
    ("width", "height", "size"), [(900, 300, "1536x1024"), (300, 900, "1024x1536"), (500, 490, "1024x1024")]
)
def test_edit_without_a_size_keeps_the_aspect_ratio_of_its_first_image(openai_client, width, height, size):
    assert openai_client.images.edit(model=MODEL, prompt="night", image=make_image(width, height)).size == size


def test_edit_accepts_sixteen_images_and_rejects_seventeen(openai_client):
    images = [make_image(64, 64)] * 17
    assert openai_client.images.edit(model=MODEL, prompt="night", image=images[:16]).usage.input_tokens == 2 + 16 * 256
    with pytest.raises(openai.BadRequestError) as raised:
        openai_client.images.edit(model=MODEL, prompt="night", image=images)
    assert (raised.value.code, raised.value.param) == ("array_above_max_length", "image")


def test_images_just_under_50_mb_are_accepted(openai_client):
    """Valid images with padding after the last chunk."""
    large = make_image(64, 64) + bytes(49 << 20)
    assert openai_client.images.edit(model=MODEL, prompt="night", image=[large, large]).data


def test_image_over_50_mb_is_rejected(openai_client):
    with pytest.raises(openai.BadRequestError) as raised:
        openai_client.images.edit(model=MODEL, prompt="night", image=make_image(64, 64) + bytes(50 << 20))
    assert raised.value.code == "image_file_too_large"


@pytest.mark.parametrize(
    ("mask", "code"),
    [
        (make_image(64, 64, "JPEG"), "invalid_image_format"),
        (make_image(64, 64), "invalid_image_mode"),
        (make_image(64, 65, mode="RGBA"), "invalid_image"),
        (b"", "empty_image_file"),
    ],
)
def test_invalid_mask_is_rejected(sandbox, openai_client, mask, code):
    with pytest.raises(openai.BadRequestError) as raised:
        openai_client.images.edit(model=MODEL, prompt="night", image=make_image(64, 64), mask=mask)
    assert (raised.value.code, raised.value.param) == (code, "mask")
    assert sandbox.list_charges() == []


@pytest.mark.parametrize(
    ("image", "code"), [(b"GIF89a" + bytes(50), "invalid_image_format"), (make_image(64, 64)[:60], "image_parse_error")]
)
def test_unreadable_image_is_rejected(openai_client, image, code):
    with pytest.raises(openai.BadRequestError) as raised:
        openai_client.images.edit(model=MODEL, prompt="night", image=image)
    assert (raised.value.code, raised.value.param) == (code, "image")


def post_json_edit(openai_client: openai.OpenAI, **body: object) -> ImagesResponse:
    """Posts the body with the SDK's plain `post`, since it has no method for it."""
    return openai_client.post("/images/edits", body={"model": MODEL, "prompt": "night", **body}, cast_to=ImagesResponse)


def encode_data_url(data: bytes) -> str:
    return f"data:application/octet-stream;base64,{base64.b64encode(data).decode()}"


def test_json_edit_accepts_urls_and_data_urls(sandbox, openai_client):
    image_refs = [
        {"image_url": f"{sandbox.url}/_/sample.png?w=300&h=900"},
        {"image_url": encode_data_url(make_image(64, 64, "WEBP"))},
    ]
    mask = {"image_url": encode_data_url(make_image(300, 900, mode="RGBA")), "file_id": None}
    answer = post_json_edit(openai_client, images=image_refs, mask=mask, moderation="low")
    assert decode_image(answer.data[0].b64_json).size == (1024, 1536)
    assert sum_openai_charges(sandbox) == compute_cost_micros(answer.usage)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_required_parameter", "images"),
        ({"images": "x"}, "invalid_type", "images"),
        ({"images": ["x"]}, "invalid_value", "images[0]"),
        ({"images": [{"image_url": "x"}]}, "invalid_image_url", "images[0]"),
        ({"images": [{"image_url": "data:" + "x" * 20_971_515}]}, "invalid_base64_image", "images[0]"),
        ({"images": [{"image_url": "data:" + "x" * 20_971_516}]}, "string_above_max_length", "images[0]"),
        ({"images": [{"image_url": "data:image/png;base64,äö"}]}, "invalid_base64_image", "images[0]"),
        ({"images": [{"image_url": "http://127.0.0.1:9/x.png"}]}, "failed_to_download_image", "images[0]"),
        ({"images": [{"file_id": "file-1"}]}, "image_file_not_found", "images[0]"),
        ({"images": [{"image_url": "x", "file_id": "y"}]}, "invalid_value", "images[0]"),
        ({"images": [], "mask": {"url": "x"}}, "unknown_parameter", "mask"),
        ({"image": "x"}, "unknown_parameter", "image"),
    ],
)
def test_invalid_json_edit_error_names_the_field(openai_client, body, code, param):
    with pytest.raises(openai.BadRequestError) as raised:
        post_json_edit(openai_client, **body)
    assert (raised.value.code, raised.value.param) == (code, param)
