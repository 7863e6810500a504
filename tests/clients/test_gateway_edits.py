"""OpenAI's Python SDK edits images at the gateway, as forms and as JSON."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import openai
import pytest
from openai.types import ImagesResponse

from tests.clients.openai_sdk import MODEL, make_gateway_client
from tests.harness.gateway_runner import RunningGateway
from tests.harness.sample_images import decode_image, encode_data_uri, make_image

SMALL_IMAGE = make_image(300, 200)


@pytest.fixture
def openai_client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    """The SDK with its defaults, including retries."""
    with make_gateway_client(gateway) as client:
        yield client


def count_charges(gateway: RunningGateway) -> int:
    return len(gateway.sandbox.list_charges())


def load_job(gateway: RunningGateway, raw: Any) -> dict[str, Any]:
    job: dict[str, Any] = gateway.http.get(f"/v1/jobs/{raw.headers['x-igw-job-id']}").json()
    return job


def test_edit_of_one_image_keeps_its_ratio(openai_client: openai.OpenAI) -> None:
    answer = openai_client.images.edit(model=MODEL, prompt="at night", image=SMALL_IMAGE)
    width, height = decode_image(answer.data[0].b64_json).size  # type: ignore[index]
    assert abs(width / height - 3 / 2) < 0.05
    assert answer.size == f"{width}x{height}"


FILES: dict[str, Any] = {
    "bytes": SMALL_IMAGE,
    "BytesIO": io.BytesIO(SMALL_IMAGE),
    "tuple": ("notes.txt", SMALL_IMAGE, "text/plain"),
    "tuple with headers": ("a.jpg", io.BytesIO(make_image(300, 200, "JPEG")), "application/octet-stream", {"x-a": "1"}),
    "list": [io.BytesIO(SMALL_IMAGE), make_image(64, 64, "WEBP"), ("b.png", make_image(64, 64))],
    "list of one": [SMALL_IMAGE],
}


@pytest.mark.parametrize("kind", FILES)
def test_every_way_to_pass_files_is_accepted(gateway: RunningGateway, openai_client: openai.OpenAI, kind: str) -> None:
    raw = openai_client.images.with_raw_response.edit(model=MODEL, prompt="at night", image=FILES[kind])
    assert decode_image(raw.parse().data[0].b64_json)  # type: ignore[index]
    assert load_job(gateway, raw)["operation"] == "edit"


def test_paths_are_accepted(openai_client: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(SMALL_IMAGE)
    with path.open("rb") as file:
        assert openai_client.images.edit(prompt="at night", image=file).data
    assert openai_client.images.edit(prompt="at night", image=path).data


def test_mask_and_every_parameter_are_accepted(gateway: RunningGateway, openai_client: openai.OpenAI) -> None:
    raw = openai_client.images.with_raw_response.edit(
        model=MODEL,
        prompt="at night",
        image=[SMALL_IMAGE, SMALL_IMAGE],
        mask=make_image(300, 200, mode="RGBA"),
        n=2,
        size="1536x1024",
        quality="high",
        background="opaque",
        output_format="webp",
        output_compression=100,
        partial_images=0,
        response_format="url",
        stream=False,
        user="user-1",
        extra_body={"provider": {"only": ["runflow-runs"]}, "metadata": {"campaign": "spring"}, "max_price": "0.5"},
    )
    answer = raw.parse()
    assert [bool(image.url) for image in answer.data or []] == [True, True]
    assert (answer.size, answer.output_format) == ("1536x1024", "webp")
    assert load_job(gateway, raw)["metadata"] == {"campaign": "spring"}
    assert raw.headers["x-igw-seller"] == "runflow-runs"


def test_null_parameters_are_accepted(openai_client: openai.OpenAI) -> None:
    names = ("background", "model", "n", "size", "quality", "output_format", "response_format", "user", "stream")
    assert openai_client.images.edit(image=SMALL_IMAGE, prompt="at night", **dict.fromkeys(names)).data  # type: ignore[call-overload]


def post_json_edit(openai_client: openai.OpenAI, **body: object) -> ImagesResponse:
    """Posts the body with the SDK's plain `post`, since it has no method for it."""
    return openai_client.post("/images/edits", body={"model": MODEL, "prompt": "night", **body}, cast_to=ImagesResponse)


def test_json_edit_is_delivered(openai_client: openai.OpenAI) -> None:
    images = [{"image_url": encode_data_uri(SMALL_IMAGE)}, {"image_url": encode_data_uri(make_image(64, 64))}]
    mask = {"image_url": encode_data_uri(make_image(300, 200, mode="RGBA")), "file_id": None}
    answer = post_json_edit(openai_client, images=images, mask=mask, size="1536x1024")
    assert decode_image(answer.data[0].b64_json).size == (1536, 1024)  # type: ignore[index]


MISTAKES: dict[str, tuple[dict[str, Any], str, str]] = {
    "an empty file": ({"image": b""}, "empty_image_file", "image"),
    "a GIF": ({"image": b"GIF89a" + bytes(50)}, "unsupported_image_media_type", "image"),
    "truncated": ({"image": SMALL_IMAGE[:-30]}, "invalid_image", "image"),
    "alpha channel": ({"mask": SMALL_IMAGE}, "invalid_image_mode", "mask"),
    "same size": ({"mask": make_image(64, 64, mode="RGBA")}, "invalid_image", "mask"),
    "at most 16": ({"image": [SMALL_IMAGE] * 17}, "invalid_value", "image"),
    "at most 10": ({"n": 11}, "invalid_value", "n"),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_invalid_edits_raise_bad_request(gateway: RunningGateway, openai_client: openai.OpenAI, words: str) -> None:
    before = count_charges(gateway)
    fields, code, param = MISTAKES[words]
    with pytest.raises(openai.BadRequestError) as raised:
        openai_client.images.edit(**{"model": MODEL, "prompt": "at night", "image": SMALL_IMAGE} | fields)  # type: ignore[call-overload]
    assert (raised.value.code, raised.value.param) == (code, param)
    assert words in raised.value.message
    assert count_charges(gateway) == before


def test_variation_raises_an_error_that_names_the_edits(openai_client: openai.OpenAI) -> None:
    with pytest.warns(DeprecationWarning, match="deprecated"), pytest.raises(openai.APIStatusError) as raised:
        openai_client.images.create_variation(image=SMALL_IMAGE)
    assert (raised.value.status_code, raised.value.code) == (410, "endpoint_retired")
    assert "/v1/images/edits" in raised.value.message


def test_client_with_short_timeout_retries_into_one_edit(gateway: RunningGateway) -> None:
    """Each retry has another boundary, and attaches to the job of the first request."""
    gateway.sandbox.set_latency(1.5)
    before = count_charges(gateway)
    images = [SMALL_IMAGE, make_image(2_000, 1_000) + bytes(2 << 20)]
    with make_gateway_client(gateway, timeout=1.0, max_retries=5) as client:
        answer = client.images.edit(prompt=f"at night {uuid4()}", image=images)
    assert decode_image(answer.data[0].b64_json)  # type: ignore[index]
    assert count_charges(gateway) - before == 1
