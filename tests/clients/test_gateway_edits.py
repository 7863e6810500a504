"""OpenAI's Python SDK edits images at the gateway, as forms and as JSON."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.clients.openai_sdk import MODEL
from tests.clients.test_gateway_python import make_gateway_client
from tests.harness.gateway_runner import RunningGateway
from tests.harness.sample_images import decode_image, make_image

SMALL_IMAGE = make_image(300, 200)


@pytest.fixture
def openai_client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    """The SDK with its defaults, including retries."""
    with make_gateway_client(gateway) as client:
        yield client


def get_last_order(gateway: RunningGateway, vendor: str = "openai") -> Any:
    return gateway.sandbox.list_requests(vendor, "submit")[-1]


def test_edit_of_one_image_keeps_its_ratio(openai_client: openai.OpenAI) -> None:
    answer = openai_client.images.edit(model=MODEL, prompt="at night", image=SMALL_IMAGE)
    width, height = decode_image(answer.data[0].b64_json).size
    assert abs(width / height - 3 / 2) < 0.05
    assert answer.size == f"{width}x{height}"


@pytest.mark.parametrize(
    "image",
    [
        SMALL_IMAGE,
        io.BytesIO(SMALL_IMAGE),
        ("notes.txt", SMALL_IMAGE, "text/plain"),
        ("photo.jpg", io.BytesIO(make_image(300, 200, "JPEG")), "application/octet-stream", {"x-extra": "1"}),
        [io.BytesIO(SMALL_IMAGE), make_image(64, 64, "WEBP"), ("b.png", make_image(64, 64))],
    ],
    ids=["bytes", "BytesIO", "tuple", "tuple with headers", "list"],
)
def test_every_way_to_pass_files_is_accepted(gateway: RunningGateway, openai_client: openai.OpenAI, image: Any) -> None:
    count = len(image) if isinstance(image, list) else 1
    raw = openai_client.images.with_raw_response.edit(model=MODEL, prompt="at night", image=image)
    assert decode_image(raw.parse().data[0].b64_json)  # type: ignore[index]
    job = gateway.http.get(f"/v1/jobs/{raw.headers['x-igw-job-id']}").json()
    assert job["operation"] == "edit", job
    assert count


def test_paths_are_accepted(openai_client: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(SMALL_IMAGE)
    with path.open("rb") as file:
        assert openai_client.images.edit(prompt="at night", image=file).data
    assert openai_client.images.edit(prompt="at night", image=path).data
