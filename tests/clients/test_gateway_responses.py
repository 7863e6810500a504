"""OpenAI's Python SDK uses the Responses API of the gateway, with the image generation tool."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.clients.openai_sdk import make_gateway_client
from tests.harness.gateway_runner import RunningGateway
from tests.harness.sample_images import decode_image, encode_data_uri, make_image
from tests.harness.wait import wait_until

CHAT_MODEL = "gpt-5"
TOOL: dict[str, Any] = {"type": "image_generation", "quality": "low"}


@pytest.fixture
def openai_client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    """The SDK with its defaults, including retries."""
    with make_gateway_client(gateway) as client:
        yield client


def create(client: openai.OpenAI, prompt: Any = "a lighthouse", tool: dict[str, Any] = TOOL, **fields: Any) -> Any:
    return client.responses.create(**{"model": CHAT_MODEL, "input": prompt, "tools": [tool], **fields})


def decode_output(response: Any) -> Any:
    [call] = response.output
    assert (call.type, call.status) == ("image_generation_call", "completed")
    return decode_image(call.result)


def count_charges(gateway: RunningGateway) -> int:
    return len(gateway.sandbox.list_charges())


def load_job(gateway: RunningGateway, response: Any) -> dict[str, Any]:
    job: dict[str, Any] = gateway.http.get(f"/v1/jobs/{response.id.replace('resp_', 'job_')}").json()
    return job


def test_generated_image_has_the_parameters_of_the_tool(gateway: RunningGateway, openai_client: openai.OpenAI) -> None:
    tool = {**TOOL, "size": "1536x1024", "output_format": "webp", "background": "opaque", "moderation": "auto"}
    response = create(openai_client, tool=tool, metadata={"campaign": "spring"})
    decoded = decode_output(response)
    assert (decoded.format, decoded.size) == ("WEBP", (1536, 1024))
    [call] = response.output
    assert (call.action, call.size, call.quality, call.output_format) == ("generate", "1536x1024", "low", "webp")
    assert (response.status, response.model, response.error, response.output_text) == (
        "completed",
        CHAT_MODEL,
        None,
        "",
    )
    assert (response.metadata, response.background) == ({"campaign": "spring"}, False)
    assert response.usage.cost > 0
    assert "model_ignored: 'gpt-5'" in response.warnings[0]
    assert load_job(gateway, response)["metadata"] == {"campaign": "spring"}


def test_streamed_response_has_openais_events_in_order(openai_client: openai.OpenAI) -> None:
    with openai_client.responses.stream(model=CHAT_MODEL, input="a lighthouse", tools=[TOOL]) as stream:  # type: ignore[list-item]
        events = list(stream)
        final: Any = stream.get_final_response()
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.image_generation_call.in_progress",
        "response.image_generation_call.generating",
        "response.image_generation_call.completed",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(8))
    done: Any = events[6]
    assert decode_image(done.item.result).size == decode_output(final).size == (1024, 1024)


def test_background_response_is_polled(openai_client: openai.OpenAI) -> None:
    response = create(openai_client, background=True)
    assert (response.status in ("queued", "in_progress"), response.output, response.usage) == (True, [], None)
    ended: list[Any] = []

    def has_ended() -> bool:
        ended.append(openai_client.responses.retrieve(response.id))
        return ended[-1].status not in ("queued", "in_progress")

    wait_until(has_ended, "the response has ended")
    assert (ended[-1].status, ended[-1].background) == ("completed", True)
    assert decode_output(ended[-1]).size == (1024, 1024)


def test_previous_response_is_edited(gateway: RunningGateway, openai_client: openai.OpenAI) -> None:
    first = create(openai_client, tool={**TOOL, "size": "1536x1024"})
    second = create(openai_client, "at night", previous_response_id=first.id)
    [call] = second.output
    assert (call.action, second.previous_response_id) == ("edit", first.id)
    width, height = decode_output(second).size
    assert abs(width / height - 3 / 2) < 0.05
    assert load_job(gateway, second)["operation"] == "edit"


def test_items_of_an_earlier_output_are_edited(openai_client: openai.OpenAI) -> None:
    first = create(openai_client, tool={**TOOL, "size": "1536x1024"})
    [call] = first.output
    message = {"role": "user", "content": [{"type": "input_text", "text": "at night"}]}
    for item in (call.model_dump(exclude_none=True), {"type": "image_generation_call", "id": call.id}):
        second = create(openai_client, [message, item])
        width, height = decode_output(second).size
        assert (second.output[0].action, abs(width / height - 3 / 2) < 0.05) == ("edit", True)


def test_input_image_is_edited_with_a_mask(openai_client: openai.OpenAI) -> None:
    image = encode_data_uri(make_image(300, 200))
    mask = encode_data_uri(make_image(300, 200, mode="RGBA"))
    content = [
        {"type": "input_text", "text": "at night"},
        {"type": "input_image", "image_url": image, "detail": "auto"},
    ]
    tool = {**TOOL, "action": "edit", "input_image_mask": {"image_url": mask}}
    response = create(openai_client, [{"role": "user", "content": content}], tool)
    assert response.output[0].action == "edit"
    assert response.tools[0].type == "image_generation"


def test_cancelled_and_deleted_responses(gateway: RunningGateway, openai_client: openai.OpenAI) -> None:
    gateway.sandbox.hold_orders()
    response = create(openai_client, background=True)
    cancelled = openai_client.responses.cancel(response.id)
    assert cancelled.id == response.id
    gateway.sandbox.release_orders()
    gateway.wait_until_idle()
    openai_client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError) as raised:
        openai_client.responses.retrieve(response.id)
    assert raised.value.code == "response_not_found"
