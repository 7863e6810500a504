"""Every client makes and edits images with the gateway, in all ways that it has: the rows of docs/clients.md."""

import json
from functools import partial
from typing import Any

import httpx

from tests.clients.client_table import MODEL, Capability
from tests.clients.contract import RunningClient, encode_files, expect_success, proves
from tests.harness.gateway_runner import RunningGateway
from tests.harness.sample_images import decode_image, make_image

IMAGE = make_image(300, 200)
MASK = make_image(300, 200, mode="RGBA")
GENERATIONS_PATH = "/v1/images/generations"
OWN_PARAMETERS = {"provider": {"only": ["runflow-runs"]}, "max_price": "0.5", "metadata": {"campaign": "spring"}}


def get_sizes(result: dict[str, Any]) -> list[tuple[int, int]]:
    return [decode_image(image["b64_json"]).size for image in result["data"]]


def load_newest_job(gateway: RunningGateway) -> dict[str, Any]:
    [entry] = gateway.http.get("/v1/jobs", params={"limit": 1}).json()["data"]
    job: dict[str, Any] = gateway.http.get(f"/v1/jobs/{entry['id']}").json()
    return job


@proves(Capability.GENERATE)
def test_prompt_alone_returns_an_image(client: RunningClient) -> None:
    assert get_sizes(client.generate()) == [(1024, 1024)]


@proves(Capability.URLS)
def test_images_are_returned_as_urls(client: RunningClient) -> None:
    # The client for DALL-E models gets URLs without asking.
    params = {"response_format": "url"} if client.model == MODEL else {}
    [image] = client.generate(**params)["data"]
    if url := image.get("url"):
        assert httpx.get(url, trust_env=False).raise_for_status().headers["content-type"] == "image/png"
    else:
        # The AI SDK downloads the image itself.
        assert decode_image(image["b64_json"]).size == (1024, 1024)


@proves(Capability.SIZE_AND_QUALITY)
def test_images_have_the_requested_number_size_and_quality(client: RunningClient, fast_gateway: RunningGateway) -> None:
    result = client.generate(n=2, size="1536x1024", quality="low")
    assert len(result["data"]) == 2
    job = load_newest_job(fast_gateway)
    assert job["effective"]["aspect_ratio"] == "3:2"
    assert (job["requested"]["size"], job["requested"]["quality"]) == ("1536x1024", "low")


@proves(Capability.PARAMETERS)
def test_every_parameter_of_openai_is_accepted(client: RunningClient) -> None:
    params = {"output_format": "webp", "output_compression": 80, "background": "opaque", "user": "user-1"}
    [image] = client.generate(moderation="low", **params)["data"]
    assert decode_image(image["b64_json"]).format == "WEBP"
    [edited] = client.edit([IMAGE], **params)["data"]
    assert decode_image(edited["b64_json"]).format == "WEBP"


@proves(Capability.OWN_PARAMETERS)
def test_own_parameters_reach_the_gateway(client: RunningClient, fast_gateway: RunningGateway) -> None:
    for labels, make_images in (["spring", "homepage"], client.generate), (["spring"], partial(client.edit, [IMAGE])):
        make_images(extra={**OWN_PARAMETERS, "labels": labels})
        job = load_newest_job(fast_gateway)
        assert (job["metadata"], job["labels"]) == ({"campaign": "spring"}, labels)
        assert job["attempts"][0]["seller"] == "runflow-runs"


@proves(Capability.HEADERS)
def test_job_seller_and_cost_are_readable(client: RunningClient) -> None:
    headers = client.generate(quality="low")["headers"]
    assert headers["x-igw-job-id"].startswith("job_")
    assert headers["x-igw-seller"] in ("runapi", "runflow-runs", "runflow-run", "openai")
    assert float(headers["x-igw-cost-usd"]) > 0


@proves(Capability.STREAM)
def test_streamed_generation_has_an_event_for_each_image(client: RunningClient) -> None:
    events = expect_success(client.call("stream", params=client.make_params(n=2, quality="low")))["events"]
    assert [event["type"] for event in events] == ["image_generation.completed"] * 2
    assert {decode_image(event["b64_json"]).size for event in events} == {(1024, 1024)}
    assert all(event["usage"]["cost"] > 0 for event in events)


@proves(Capability.EDIT)
def test_edit_of_one_image_keeps_its_ratio(client: RunningClient) -> None:
    [(width, height)] = get_sizes(client.edit([IMAGE]))
    assert abs(width / height - 1.5) < 0.05


@proves(Capability.EDIT_MANY)
def test_edit_of_several_images_with_a_mask(client: RunningClient, fast_gateway: RunningGateway) -> None:
    result = client.edit([IMAGE, make_image(64, 64, "JPEG"), make_image(64, 64, "WEBP")], MASK, n=2, size="1536x1024")
    assert get_sizes(result) == [(1536, 1024)] * 2
    assert load_newest_job(fast_gateway)["operation"] == "edit"


@proves(Capability.STREAM_EDIT)
def test_streamed_edit_has_one_event(client: RunningClient) -> None:
    call = {"params": client.make_params(), **encode_files([IMAGE])}
    [event] = expect_success(client.call("stream_edit", **call))["events"]
    assert event["type"] == "image_edit.completed"
    assert decode_image(event["b64_json"])


@proves(Capability.MODELS)
def test_models_are_listed(client: RunningClient) -> None:
    assert expect_success(client.call("list_models"))["models"] == [MODEL]


@proves(Capability.MODEL)
def test_model_is_read_by_an_alias(client: RunningClient) -> None:
    result = expect_success(client.call("get_model", model="gpt-image-1"))
    assert (result["model"]["id"], result["model"]["capabilities"]["edit"]) == (MODEL, True)
    assert "is an alias" in result["headers"]["x-igw-warnings"]
    assert client.call("get_model", model="fal-ai/flux/dev")["error"]["status"] == 404


@proves(Capability.ALIASES)
def test_retired_model_is_replaced_with_a_warning(client: RunningClient, fast_gateway: RunningGateway) -> None:
    alias = "gpt-image-1" if client.model == MODEL else client.model
    assert client.generate(model=alias)["data"]
    assert f"'{alias}' is an alias of '{MODEL}'" in load_newest_job(fast_gateway)["warnings"][0]


def respond(client: RunningClient, operation: str = "respond", **arguments: Any) -> dict[str, Any]:
    params = client.make_params(size="1536x1024", quality="low")
    result = expect_success(client.call(operation, params=params, **arguments))
    [image] = result["data"]
    assert decode_image(image["b64_json"]).size == (1536, 1024)
    return result


@proves(Capability.RESPOND)
def test_image_tool_returns_an_image(client: RunningClient, fast_gateway: RunningGateway) -> None:
    assert respond(client)["id"].startswith("resp_")
    assert load_newest_job(fast_gateway)["operation"] == "generate"


@proves(Capability.RESPOND_EDIT)
def test_image_tool_edits_images_of_the_input_and_of_earlier_responses(
    client: RunningClient, fast_gateway: RunningGateway
) -> None:
    edited = respond(client, **encode_files([IMAGE]))
    assert load_newest_job(fast_gateway)["operation"] == "edit"
    respond(client, previous_response_id=edited["id"])
    assert load_newest_job(fast_gateway)["operation"] == "edit"


@proves(Capability.RESPOND_STREAM)
def test_image_tool_streams_an_image(client: RunningClient) -> None:
    assert respond(client, "stream_response")["event_count"] > 1


def make_line(custom_id: str, body: dict[str, Any]) -> str:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": GENERATIONS_PATH, "body": body})


@proves(Capability.BATCH)
def test_batch_returns_the_image_of_each_line(client: RunningClient) -> None:
    lines = [make_line(name, client.make_params(quality="low")) for name in ("first", "second")]
    result = expect_success(client.call("run_batch", endpoint=GENERATIONS_PATH, lines="\n".join(lines)))
    assert result["status"] == "completed"
    assert {line["custom_id"] for line in result["results"]} == {"first", "second"}
    for line in result["results"]:
        [image] = line["response"]["body"]["data"]
        assert decode_image(image["b64_json"]).size == (1024, 1024)
