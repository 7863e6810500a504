"""OpenAI's Python SDK reads the streams of the simulated OpenAI."""

import time

import openai
import pytest

from tests.clients.openai_python import MODEL, bill, invoiced
from tests.clients.pictures import drawn, opened


@pytest.mark.parametrize("partials", [0, 2])
def test_a_streamed_generation(sandbox, client, partials):
    with client.images.generate(
        model=MODEL, prompt="a lighthouse", stream=True, partial_images=partials, output_format="webp"
    ) as stream:
        events = list(stream)
    assert [event.type for event in events] == [
        *["image_generation.partial_image"] * partials,
        "image_generation.completed",
    ]
    assert [event.partial_image_index for event in events[:-1]] == list(range(partials))
    assert {opened(event.b64_json).size for event in events} == {(1024, 1024)}
    assert {(event.size, event.quality, event.output_format) for event in events} == {("1024x1024", "high", "webp")}
    assert events[-1].usage.output_tokens == 7024 + partials * 100
    assert invoiced(sandbox) == bill(events[-1].usage)


def test_a_streamed_edit(sandbox, client):
    """As a form: `stream` and the numbers arrive as strings."""
    with client.images.edit(
        model=MODEL, prompt="night", image=[drawn(64, 64), drawn(64, 64)], n=1, stream=True, partial_images=3
    ) as stream:
        events = list(stream)
    assert [event.type for event in events] == [*["image_edit.partial_image"] * 3, "image_edit.completed"]
    assert len({event.b64_json for event in events}) == 4
    assert invoiced(sandbox) == bill(events[-1].usage)


def test_partial_pictures_come_while_the_order_is_worked_on(sandbox, client):
    sandbox.latency(0.6, vendor="openai")
    began = time.monotonic()
    with client.images.generate(model=MODEL, prompt="a", quality="low", stream=True, partial_images=1) as stream:
        at = [time.monotonic() - began for _ in stream]
    assert at[0] > 0.29
    assert at[1] - at[0] > 0.1


def test_the_usages_of_a_streams_pictures_add_up_to_the_charge(sandbox, client):
    with client.images.generate(model=MODEL, prompt="a lighthouse", n=2, stream=True) as stream:
        usages = [event.usage for event in stream]
    assert len(usages) == 2
    assert invoiced(sandbox) == sum(map(bill, usages))


def test_a_stream_that_fails_on_the_way_raises(sandbox, client):
    sandbox.fault("fail", vendor="openai")
    with client.images.generate(model=MODEL, prompt="a lighthouse", stream=True, partial_images=1) as stream:
        assert next(iter(stream)).type == "image_generation.partial_image"
        with pytest.raises(openai.APIError) as raised:
            list(stream)
    assert raised.value.code == "server_error"
    assert sandbox.charges() == []


def test_content_is_refused_before_the_first_event_of_a_stream(sandbox, client):
    sandbox.fault("refuse_content", vendor="openai")
    with pytest.raises(openai.BadRequestError, match="safety system"):
        client.images.generate(model=MODEL, prompt="a lighthouse", stream=True)
