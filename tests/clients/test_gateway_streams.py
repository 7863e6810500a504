"""OpenAI's SDKs read streams of the gateway: generations, edits, several images, and errors."""

import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.clients.openai_sdk import MODEL, make_gateway_client
from tests.harness.gateway_runner import RunningGateway
from tests.harness.sample_images import decode_image, make_image

ONE_SELLER = {"provider": {"only": ["runapi"]}}


@pytest.fixture
def openai_client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    """The SDK with its defaults, including retries."""
    with make_gateway_client(gateway) as client:
        yield client


def test_streamed_generation_yields_one_completed_event(openai_client: openai.OpenAI) -> None:
    with openai_client.images.generate(model=MODEL, prompt="a lighthouse", quality="low", stream=True) as stream:
        [event] = list(stream)
    assert event.type == "image_generation.completed"
    assert decode_image(event.b64_json).size == (1024, 1024)
    assert (event.size, event.quality, event.output_format, event.background) == ("1024x1024", "low", "png", "opaque")
    assert abs(event.created_at - time.time()) < 60
    assert event.usage.total_tokens >= 0
    assert event.usage.cost > 0  # type: ignore[attr-defined]


def test_streamed_usage_of_several_images_adds_up_to_the_cost(openai_client: openai.OpenAI) -> None:
    with openai_client.images.generate(
        model=MODEL, prompt="a lighthouse", n=3, stream=True, extra_body=ONE_SELLER
    ) as stream:
        events: list[Any] = list(stream)
        assert stream.response.headers["x-igw-cost-usd"] == "0.18"
    assert len(events) == 3
    assert sum(round(event.usage.cost * 100) for event in events) == 18


def test_streamed_edit_yields_one_completed_event(openai_client: openai.OpenAI) -> None:
    images = [("cat.png", make_image(64, 64)), ("dog.png", make_image(64, 64))]
    with openai_client.images.edit(model=MODEL, prompt="night", image=images, stream=True) as stream:
        [event] = list(stream)
    assert event.type == "image_edit.completed"
    assert decode_image(event.b64_json).format == "PNG"
    assert event.usage.cost > 0  # type: ignore[attr-defined]


def test_error_before_the_stream_raises_its_exception_at_once(openai_client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        openai_client.images.generate(model=MODEL, prompt="a", size="17x17", stream=True)  # type: ignore[call-overload]
    assert (raised.value.code, raised.value.param) == ("invalid_value", "size")


def test_refused_content_raises_bad_request(gateway: RunningGateway, openai_client: openai.OpenAI) -> None:
    gateway.sandbox.inject_fault("refuse_content", times=1)
    with pytest.raises(openai.BadRequestError) as raised:
        openai_client.images.generate(model=MODEL, prompt="a lighthouse", stream=True)
    assert raised.value.code == "moderation_blocked"


def test_error_within_the_stream_raises_after_heartbeats(lively_gateway: RunningGateway) -> None:
    lively_gateway.sandbox.hold_orders()
    lively_gateway.sandbox.inject_fault("fail")
    with make_gateway_client(lively_gateway) as client:
        stream = client.images.generate(model=MODEL, prompt="a lighthouse", stream=True, extra_body=ONE_SELLER)
        assert stream.response.status_code == 200
        lively_gateway.sandbox.release_orders()
        with pytest.raises(openai.APIError) as raised:
            list(stream)
    assert (raised.value.code, raised.value.type) == ("sellers_failed", "server_error")
    assert "You were not charged." in raised.value.message
