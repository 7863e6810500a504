"""OpenAI's Python SDK uses the Responses API of the gateway, with the image generation tool."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import openai
import pytest

from tests.clients.openai_sdk import MODEL, make_gateway_client
from tests.harness.gateway_runner import RunningGateway
from tests.harness.key_admin import create_key
from tests.harness.node_sdk import PROGRAM_FOLDER
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
    job_id = load_job(gateway, first)["id"]
    second = create(openai_client, "in winter", previous_response_id=job_id)
    assert (second.output[0].action, second.previous_response_id) == ("edit", job_id)
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


def test_cancelled_response_is_deleted(gateway: RunningGateway, openai_client: openai.OpenAI) -> None:
    gateway.sandbox.hold_orders()
    response = create(openai_client, background=True)
    assert openai_client.responses.cancel(response.id).id == response.id
    with pytest.raises(openai.ConflictError) as running:
        openai_client.with_options(max_retries=0).responses.delete(response.id)
    assert running.value.code == "job_running"
    gateway.sandbox.release_orders()
    gateway.wait_until_idle()
    assert openai_client.responses.retrieve(response.id).status == "cancelled"
    openai_client.responses.delete(response.id)
    openai_client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError) as raised:
        openai_client.responses.retrieve(response.id)
    assert raised.value.code == "response_not_found"
    with pytest.raises(openai.BadRequestError) as edited:
        create(openai_client, "at night", previous_response_id=response.id)
    assert (edited.value.code, edited.value.param) == ("previous_response_not_found", "previous_response_id")


def test_ended_response_cannot_be_cancelled(openai_client: openai.OpenAI) -> None:
    response = create(openai_client)
    with pytest.raises(openai.ConflictError) as raised:
        openai_client.responses.cancel(response.id)
    assert raised.value.code == "job_ended"


def test_input_items_are_the_prompt_and_the_images(gateway: RunningGateway, openai_client: openai.OpenAI) -> None:
    content = [
        {"type": "input_text", "text": "at night"},
        {"type": "input_image", "image_url": encode_data_uri(make_image(64, 64))},
    ]
    response = create(openai_client, [{"role": "user", "content": content}])
    [item] = list(openai_client.responses.input_items.list(response.id))
    text, image = item.content  # type: ignore[union-attr]
    assert (item.type, text.text) == ("message", "at night")  # type: ignore[union-attr]
    assert gateway.http.get(image.image_url).content.startswith(b"\x89PNG")  # type: ignore[arg-type,union-attr]


def test_several_images_are_several_calls(openai_client: openai.OpenAI) -> None:
    first = create(openai_client, tool={**TOOL, "n": 2})
    assert [decode_image(call.result).size for call in first.output] == [(1024, 1024)] * 2
    assert len({call.id for call in first.output}) == 2
    calls = [call.model_dump() for call in first.output]
    second = create(openai_client, [{"role": "user", "content": "join them"}, *calls])
    [item] = list(openai_client.responses.input_items.list(second.id))
    assert len(item.content) == 3  # type: ignore[union-attr,arg-type]


def test_images_of_other_routes_are_edited(openai_client: openai.OpenAI) -> None:
    raw = openai_client.images.with_raw_response.generate(model=MODEL, prompt="a lighthouse", size="1536x1024")
    response_id = raw.headers["x-igw-job-id"].replace("job_", "resp_")
    assert openai_client.responses.retrieve(response_id).model == MODEL
    assert create(openai_client, "at night", previous_response_id=response_id).output[0].action == "edit"


def test_response_of_another_team_looks_like_none(gateway: RunningGateway, openai_client: openai.OpenAI) -> None:
    with make_gateway_client(gateway, api_key=create_key(gateway, "marketing")["key"]) as other_client:
        foreign = create(other_client)
    errors = []
    for response_id in (foreign.id, "resp_" + "0" * 28, "resp_68af"):
        call_id = response_id.replace("resp_", "ig_") + "_0"
        message = {"role": "user", "content": "at night"}
        for fields in (
            {"previous_response_id": response_id},
            {"input": [message, {"type": "image_generation_call", "id": call_id}]},
        ):
            with pytest.raises(openai.BadRequestError) as raised:
                create(openai_client, **{"prompt": "at night"} | fields)
            errors.append(raised.value.message.replace(response_id, "").replace(call_id, ""))
    assert errors[:2] == errors[2:4]
    assert "not found" in errors[0]


def test_running_response_is_edited_once_it_has_ended(gateway: RunningGateway, openai_client: openai.OpenAI) -> None:
    """The SDK retries by itself."""
    gateway.sandbox.hold_orders()
    first = create(openai_client, background=True)
    with pytest.raises(openai.ConflictError) as raised:
        create(openai_client.with_options(max_retries=0), "at night", previous_response_id=first.id)
    assert raised.value.code == "job_running"
    with make_gateway_client(gateway, max_retries=5, release_orders_after=409) as retrying_client:
        second = create(retrying_client, "at night", previous_response_id=first.id)
    assert second.output[0].action == "edit"


def test_client_with_short_timeout_retries_into_one_purchase(gateway: RunningGateway) -> None:
    gateway.sandbox.set_latency(1.5)
    before = count_charges(gateway)
    with make_gateway_client(gateway, timeout=1.0, max_retries=5) as client:
        assert decode_output(create(client, f"a lighthouse {uuid4()}")).size == (1024, 1024)
    assert count_charges(gateway) - before == 1


def test_requests_with_one_idempotency_key_share_a_response(
    gateway: RunningGateway, openai_client: openai.OpenAI
) -> None:
    before, headers = count_charges(gateway), {"Idempotency-Key": str(uuid4())}
    first = create(openai_client, extra_headers=headers)
    second = openai_client.responses.with_raw_response.create(
        model=CHAT_MODEL,
        input="a lighthouse",
        tools=[TOOL],  # type: ignore[list-item]
        extra_headers=headers,
    )
    assert (second.parse().id, second.headers["idempotent-replayed"]) == (first.id, "true")
    assert count_charges(gateway) - before == 1
    with pytest.raises(openai.UnprocessableEntityError) as raised:
        create(openai_client, "another prompt", extra_headers=headers)
    assert raised.value.code == "idempotency_key_reused"


def test_stream_that_broke_is_resumed_after_the_last_event(
    gateway: RunningGateway, openai_client: openai.OpenAI
) -> None:
    gateway.sandbox.hold_orders()
    with create(openai_client, background=True, stream=True) as stream:
        first: list[Any] = [event for event, _ in zip(stream, range(3), strict=False)]
    assert [event.type for event in first] == ["response.created", "response.queued", "response.in_progress"]
    gateway.sandbox.release_orders()
    response_id = first[0].response.id
    resumed: list[Any] = list(openai_client.responses.retrieve(response_id, stream=True, starting_after=2))
    assert [event.sequence_number for event in resumed] == list(range(3, 9))
    assert decode_output(resumed[-1].response).size == (1024, 1024)
    again: list[Any] = list(openai_client.responses.retrieve(response_id, stream=True, starting_after=6))
    assert [event.type for event in again] == ["response.output_item.done", "response.completed"]
    assert again[0].item.result == again[1].response.output[0].result == resumed[-1].response.output[0].result
    assert list(openai_client.responses.retrieve(response_id, stream=True, starting_after=8)) == []


def test_wait_for_a_failed_job_raises_its_error_once(gateway: RunningGateway, openai_client: openai.OpenAI) -> None:
    gateway.sandbox.inject_fault("refuse_content")
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as raised:
            create(openai_client, stream=stream)
        assert (raised.value.code, raised.value.type) == ("moderation_blocked", "image_generation_user_error")
    response = create(openai_client, background=True)
    gateway.wait_until_idle()
    failed = openai_client.responses.retrieve(response.id)
    assert (failed.status, failed.output) == ("failed", [])
    assert failed.error is not None
    assert failed.error.code == "moderation_blocked"  # type: ignore[comparison-overlap]
    assert "You were not charged." in failed.error.message


def test_failure_within_the_stream_is_an_event_and_an_exception(lively_gateway: RunningGateway) -> None:
    lively_gateway.sandbox.hold_orders()
    lively_gateway.sandbox.inject_fault("fail")
    events: list[Any] = []
    with make_gateway_client(lively_gateway) as client:
        stream = create(client, stream=True, extra_body={"provider": {"only": ["runapi"]}})
        lively_gateway.sandbox.release_orders()
        with pytest.raises(openai.APIError) as raised:
            events.extend(iter(stream))
        assert raised.value.code == "sellers_failed"
    # `extend` keeps what it has received before the exception.
    assert (events[0].type, events[-1].type) == ("response.created", "response.failed")
    assert events[-1].response.error.code == "sellers_failed"


MISTAKES: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "makes images only": ({"tools": []}, "missing_required_parameter", "tools"),
    "'web_search_preview'": (
        {"tools": [TOOL, {"type": "web_search_preview"}]},
        "unsupported_parameter",
        "tools[1].type",
    ),
    "multiples of 16": ({"tools": [{**TOOL, "size": "17x17"}]}, "invalid_value", "size"),
    "stores no conversations": ({"conversation": "conv_1"}, "unsupported_parameter", "conversation"),
    "alpha channel": (
        {
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "a"},
                        {"type": "input_image", "image_url": encode_data_uri(make_image(64, 64))},
                    ],
                }
            ],
            "tools": [{**TOOL, "input_image_mask": {"image_url": encode_data_uri(make_image(64, 64))}}],
        },
        "invalid_image_mode",
        "mask",
    ),
    "Invalid image in 'input'": (
        {
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "a"},
                        {"type": "input_image", "image_url": encode_data_uri(b"GIF89a" + bytes(50))},
                    ],
                }
            ]
        },
        "unsupported_image_media_type",
        "input",
    ),
    "per image is above $0.001": ({"extra_body": {"max_price": "0.001"}}, "no_offer", None),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_invalid_requests_raise_sdk_exceptions(
    gateway: RunningGateway, openai_client: openai.OpenAI, words: str
) -> None:
    before, (fields, code, param) = count_charges(gateway), MISTAKES[words]
    with pytest.raises(openai.BadRequestError) as raised:
        create(openai_client, **fields)
    assert (raised.value.code, raised.value.param) == (code, param)
    assert words in raised.value.message
    assert "You were not charged." in raised.value.message
    assert count_charges(gateway) == before


def run_node_program(node_program: str, name: str, gateway: RunningGateway, *arguments: str) -> Any:
    command = [node_program, str(PROGRAM_FOLDER / name), f"{gateway.url}/v1", *arguments]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert completed.returncode == 0, completed.stderr
    return json.loads(completed.stdout)


def test_node_sdk_generates_edits_streams_and_polls(node_program: str, gateway: RunningGateway) -> None:
    results = run_node_program(node_program, "responses.mjs", gateway, encode_data_uri(make_image(96, 64)))
    assert decode_image(results["generated"]["output"][0]["result"]).size == (1536, 1024)
    assert results["generated"]["output_text"] == ""
    for name in ("edited", "edited_input", "edited_call", "polled", "streamed_final"):
        assert decode_image(results[name]["output"][0]["result"]).width, name
    assert [results[name]["output"][0]["action"] for name in ("edited", "edited_input", "edited_call")] == ["edit"] * 3
    assert results["streamed"][-1] == "response.completed"
    assert results["resumed"] == ["response.output_item.done", "response.completed"]
    assert (results["no_tool"]["kind"], results["no_tool"]["param"]) == ("BadRequestError", "tools")
    assert results["deleted"]["kind"] == "NotFoundError"


def test_image_tool_of_the_ai_sdk_generates_edits_and_streams(node_program: str, gateway: RunningGateway) -> None:
    results = run_node_program(node_program, "ai_sdk_responses.mjs", gateway)
    assert [len(images) for images in results["images"].values()] == [1, 1, 1]
    assert {decode_image(image).format for [image] in results["images"].values()} == {"WEBP"}
    assert (results["reason"], results["text"]) == ("stop", "")
    assert {"tool-call", "tool-result", "finish"} <= set(results["parts"])
    last_job = gateway.http.get("/v1/jobs?limit=2").json()["data"][1]
    assert last_job["operation"] == "edit"
