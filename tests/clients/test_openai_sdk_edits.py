"""OpenAI's Python SDK edits pictures at the simulated OpenAI, as forms and as JSON."""

import base64
import io

import openai
import pytest
from openai.types import ImagesResponse

from tests.clients.openai_python import MODEL, bill, invoiced
from tests.clients.pictures import drawn, opened


def test_an_edit_with_two_images_and_a_mask(sandbox, client):
    images = [drawn(900, 300, "JPEG"), drawn(64, 64, "WEBP")]
    answer = client.images.edit(
        model=MODEL, prompt="night", image=images, mask=drawn(900, 300, mode="RGBA"), size="1536x1024", n=2
    )
    assert [opened(image.b64_json).size for image in answer.data] == [(1536, 1024)] * 2
    # Two tiles across one high, and one tile; the mask is not counted.
    assert answer.usage.input_tokens_details.image_tokens == 3 * 256
    assert invoiced(sandbox) == bill(answer.usage)


def test_images_are_recognised_by_their_bytes_alone(sandbox, client):
    lying = ("notes.txt", io.BytesIO(drawn(64, 64)), "text/plain")
    assert len(client.images.edit(model=MODEL, prompt="night", image=lying).data) == 1
    assert 'filename="notes.txt"' in sandbox.requests("openai", "submit")[-1]["body"]


@pytest.mark.parametrize(
    ("width", "height", "size"), [(900, 300, "1536x1024"), (300, 900, "1024x1536"), (500, 490, "1024x1024")]
)
def test_an_edit_without_a_size_keeps_the_shape_of_its_first_image(client, width, height, size):
    assert client.images.edit(model=MODEL, prompt="night", image=drawn(width, height)).size == size


def test_sixteen_images_are_taken_and_seventeen_refused(client):
    images = [drawn(64, 64)] * 17
    assert client.images.edit(model=MODEL, prompt="night", image=images[:16]).usage.input_tokens == 2 + 16 * 256
    with pytest.raises(openai.BadRequestError) as raised:
        client.images.edit(model=MODEL, prompt="night", image=images)
    assert (raised.value.code, raised.value.param) == ("array_above_max_length", "image")


def test_images_just_under_50_mb_are_read(client):
    """Valid pictures, padded: what follows the last chunk does not count."""
    large = drawn(64, 64) + bytes(49 << 20)
    assert client.images.edit(model=MODEL, prompt="night", image=[large, large]).data


def test_an_image_over_50_mb_is_refused(client):
    with pytest.raises(openai.BadRequestError) as raised:
        client.images.edit(model=MODEL, prompt="night", image=drawn(64, 64) + bytes(50 << 20))
    assert raised.value.code == "image_file_too_large"


@pytest.mark.parametrize(
    ("mask", "code"),
    [
        (drawn(64, 64, "JPEG"), "invalid_image_format"),
        (drawn(64, 64), "invalid_image_mode"),
        (drawn(64, 65, mode="RGBA"), "invalid_image"),
        (b"", "empty_image_file"),
    ],
)
def test_an_unfit_mask_is_refused(sandbox, client, mask, code):
    with pytest.raises(openai.BadRequestError) as raised:
        client.images.edit(model=MODEL, prompt="night", image=drawn(64, 64), mask=mask)
    assert (raised.value.code, raised.value.param) == (code, "mask")
    assert sandbox.charges() == []


@pytest.mark.parametrize(
    ("image", "code"), [(b"GIF89a" + bytes(50), "invalid_image_format"), (drawn(64, 64)[:60], "image_parse_error")]
)
def test_an_unreadable_image_is_refused(client, image, code):
    with pytest.raises(openai.BadRequestError) as raised:
        client.images.edit(model=MODEL, prompt="night", image=image)
    assert (raised.value.code, raised.value.param) == (code, "image")


def edit_by_json(client: openai.OpenAI, **body: object) -> ImagesResponse:
    """The SDK has no method for this body; its plain `post` takes one."""
    return client.post("/images/edits", body={"model": MODEL, "prompt": "night", **body}, cast_to=ImagesResponse)


def data_url(data: bytes) -> str:
    return f"data:application/octet-stream;base64,{base64.b64encode(data).decode()}"


def test_an_edit_by_json_takes_links_and_data_urls(sandbox, client):
    links = [{"image_url": f"{sandbox.url}/_/sample.png?w=300&h=900"}, {"image_url": data_url(drawn(64, 64, "WEBP"))}]
    mask = {"image_url": data_url(drawn(300, 900, mode="RGBA")), "file_id": None}
    answer = edit_by_json(client, images=links, mask=mask, moderation="low")
    assert opened(answer.data[0].b64_json).size == (1024, 1536)
    assert invoiced(sandbox) == bill(answer.usage)


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
def test_a_broken_json_edit_is_refused_by_name(client, body, code, param):
    with pytest.raises(openai.BadRequestError) as raised:
        edit_by_json(client, **body)
    assert (raised.value.code, raised.value.param) == (code, param)
