"""OpenAI's Python SDK reads the streams of the simulated OpenAI."""

import time

import openai
import pytest

from tests.clients.openai_sdk import MODEL, compute_cost_micros, sum_openai_charges
from tests.harness.sample_images import decode_image, make_image


@pytest.mark.parametrize("partials", [0, 2])
def test_streamed_generation_delivers_partial_and_completed_images(sandbox, openai_client, partials):
    with openai_client.images.generate(
        model=MODEL, prompt="a lighthouse", stream=True, partial_images=partials, output_format="webp"
    ) as stream:
        events = list(stream)
    assert [event.type for event in events] == [
        *["image_generation.partial_image"] * partials,
        "image_generation.completed",
    ]
    assert [event.partial_image_index for event in events[:-1]] == list(range(partials))
    assert {decode_image(event.b64_json).size for event in events} == {(1024, 1024)}
    assert {(event.size, event.quality, event.output_format) for event in events} == {("1024x1024", "high", "webp")}
    assert events[-1].usage.output_tokens == 7024 + partials * 100
    assert sum_openai_charges(sandbox) == compute_cost_micros(events[-1].usage)


def test_streamed_edit_delivers_partial_and_completed_images(sandbox, openai_client):
    """The SDK sends an edit as a form: `stream` and the numbers arrive as strings."""
    with openai_client.images.edit(
        model=MODEL, prompt="night", image=[make_image(64, 64), make_image(64, 64)], n=1, stream=True, partial_images=3
    ) as stream:
        events = list(stream)
    assert [event.type for event in events] == [*["image_edit.partial_image"] * 3, "image_edit.completed"]
    assert len({event.b64_json for event in events}) == 4
    assert sum_openai_charges(sandbox) == compute_cost_micros(events[-1].usage)


def test_partial_images_arrive_while_the_order_is_in_progress(sandbox, openai_client):
    sandbox.set_latency(1.5, vendor="openai")
    began = time.monotonic()
    with openai_client.images.generate(model=MODEL, prompt="a", quality="low", stream=True, partial_images=1) as stream:
        event_seconds = [time.monotonic() - began for _ in stream]
    assert event_seconds[0] > 0.29
    assert event_seconds[1] - event_seconds[0] > 0.1


def test_usage_of_streamed_images_adds_up_to_the_charge(sandbox, openai_client):
    with openai_client.images.generate(model=MODEL, prompt="a lighthouse", n=2, stream=True) as stream:
        usages = [event.usage for event in stream]
    assert len(usages) == 2
    assert sum_openai_charges(sandbox) == sum(map(compute_cost_micros, usages))


def test_stream_that_fails_midway_raises(sandbox, openai_client):
    sandbox.inject_fault("fail", vendor="openai")
    with openai_client.images.generate(model=MODEL, prompt="a lighthouse", stream=True, partial_images=1) as stream:
        assert next(iter(stream)).type == "image_generation.partial_image"
        with pytest.raises(openai.APIError) as raised:
            list(stream)
    assert raised.value.code == "server_error"
    assert sandbox.list_charges() == []


def test_content_refusal_precedes_the_first_stream_event(sandbox, openai_client):
    sandbox.inject_fault("refuse_content", vendor="openai")
    with pytest.raises(openai.BadRequestError, match="safety system"):
        openai_client.images.generate(model=MODEL, prompt="a lighthouse", stream=True)
