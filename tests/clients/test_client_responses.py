"""Clients make and edit images through the Responses API: the rows of docs/clients.md about it."""

from typing import Any

from tests.clients.client_table import Capability
from tests.clients.contract import RunningClient, encode_files, expect_success, proves
from tests.harness.gateway_runner import RunningGateway
from tests.harness.sample_images import decode_image, make_image


def respond(client: RunningClient, operation: str = "respond", **arguments: Any) -> dict[str, Any]:
    params = client.make_params(size="1536x1024", quality="low")
    result = expect_success(client.call(operation, params=params, **arguments))
    [image] = result["data"]
    assert decode_image(image["b64_json"]).size == (1536, 1024)
    return result


def load_newest_operation(gateway: RunningGateway) -> str:
    [entry] = gateway.http.get("/v1/jobs", params={"limit": 1}).json()["data"]
    operation: str = entry["operation"]
    return operation


@proves(Capability.RESPOND)
def test_image_tool_returns_an_image(client: RunningClient, fast_gateway: RunningGateway) -> None:
    assert respond(client)["id"].startswith("resp_")
    assert load_newest_operation(fast_gateway) == "generate"


@proves(Capability.RESPOND_EDIT)
def test_image_tool_edits_images_of_the_input_and_of_earlier_responses(
    client: RunningClient, fast_gateway: RunningGateway
) -> None:
    edited = respond(client, **encode_files([make_image(64, 64)]))
    assert load_newest_operation(fast_gateway) == "edit"
    respond(client, previous_response_id=edited["id"])
    assert load_newest_operation(fast_gateway) == "edit"


@proves(Capability.RESPOND_STREAM)
def test_image_tool_streams_an_image(client: RunningClient) -> None:
    assert respond(client, "stream_response")["event_count"] > 1
