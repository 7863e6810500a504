"""Every client uses the gateway in all ways that it has: the rows of docs/clients.md.

All tests are in one file, so that one process of a test run starts the clients: their start takes most of the time.
"""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from PIL import Image

from tests.clients.client_table import CLIENTS, MODEL, Capability
from tests.clients.contract import RunningClient, encode_files, expect_success, proves
from tests.harness.gateway_runner import API_KEY, RunningGateway
from tests.harness.key_admin import create_key
from tests.harness.sample_images import decode_image, make_image
from tests.harness.tcp_proxy import run_tcp_proxy
from tests.harness.wait import wait_until

SNIPPET_FOLDER = Path(__file__).parent / "snippets"
PRINTED_URL = "http://127.0.0.1:8080"
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


@pytest.mark.one_in(3)
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


@pytest.mark.one_in(3)
@proves(Capability.RESPOND)
def test_image_tool_returns_an_image(client: RunningClient, fast_gateway: RunningGateway) -> None:
    assert respond(client)["id"].startswith("resp_")
    assert load_newest_job(fast_gateway)["operation"] == "generate"


@pytest.mark.one_in(3)
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


@pytest.mark.one_in(3)
@proves(Capability.BATCH)
def test_batch_returns_the_image_of_each_line(client: RunningClient) -> None:
    lines = [make_line(name, client.make_params(quality="low")) for name in ("first", "second")]
    result = expect_success(client.call("run_batch", endpoint=GENERATIONS_PATH, lines="\n".join(lines)))
    assert result["status"] == "completed"
    assert {line["custom_id"] for line in result["results"]} == {"first", "second"}
    for line in result["results"]:
        [image] = line["response"]["body"]["data"]
        assert decode_image(image["b64_json"]).size == (1024, 1024)


ROUTES = ("/v1/images/generations", "/v1/responses")


class ErrorCase(NamedTuple):
    """A request that fails: how to prepare it, what to send, and the error."""

    status: int
    code: str
    words: str
    params: Mapping[str, Any] = {}
    fault: dict[str, Any] | None = None
    key_options: dict[str, Any] | None = None
    key: str = API_KEY


ERRORS = (
    ErrorCase(400, "invalid_value", "multiples of 16", {"size": "17x17"}),
    ErrorCase(400, "moderation_blocked", "content filter", fault={"kind": "refuse_content"}),
    ErrorCase(401, "invalid_api_key", "Invalid API key", key="igw_nobody"),
    ErrorCase(403, "insufficient_scope", "lacks the scope", key_options={"scopes": ["read"]}),
    ErrorCase(404, "model_not_found", "Available: ", {"model": "no-such"}),
    ErrorCase(424, "paid_not_delivered", "you were not charged.", fault={"kind": "expired_url"}),
    ErrorCase(429, "rate_limit_exceeded", "Rate limit", key_options={"limits": {"requests_per_minute": 1}}),
    ErrorCase(
        503, "sellers_unavailable", "You were not charged.", fault={"kind": "status", "status": 503, "route": "submit"}
    ),
)
RETRIED_STATUSES = (429, 503)


def fail(client: RunningClient, gateway: RunningGateway, case: ErrorCase, **options: Any) -> dict[str, Any]:
    """Prepares the failure, and returns the client's error."""
    if case.fault is not None:
        gateway.sandbox.inject_fault(**case.fault)
    key = case.key if case.key_options is None else create_key(gateway, "sandbox", **case.key_options)["key"]
    if case.status == 429:
        expect_success(client.call("generate", key=key, params=client.make_params()))
    return client.fail_to_generate(key, **options, **case.params)


def count_requests(gateway: RunningGateway) -> float:
    return sum(gateway.read_metric("igw_http_requests_total", route=route) for route in ROUTES)


@pytest.mark.one_in(7)
@proves(Capability.ERRORS)
@pytest.mark.parametrize("case", ERRORS, ids=[case.code for case in ERRORS])
def test_error_has_status_and_message_and_is_not_repeated_if_final(
    client: RunningClient, fast_gateway: RunningGateway, case: ErrorCase
) -> None:
    before = count_requests(fast_gateway)
    options = {"max_retries": 0} if case.status in RETRIED_STATUSES else {}
    error = fail(client, fast_gateway, case, **options)
    assert error["status"] == case.status
    assert case.words in error["message"]
    assert error.get("code") in (case.code, None)
    assert count_requests(fast_gateway) - before == (2 if case.status == 429 else 1)


def lose_first_response(client: RunningClient, gateway: RunningGateway, operation: str, **arguments: Any) -> Any:
    """Cuts the connection of a request while its order runs. Returns the result of the client's retry."""
    gateway.sandbox.hold_orders()
    with run_tcp_proxy(gateway.url) as proxy, ThreadPoolExecutor() as threads:
        call = {"url": proxy.url, "params": client.make_params(), "is_retried": True, **arguments}
        result = threads.submit(client.call, operation, **call)
        wait_until(lambda: not gateway.is_idle(), "the first request is ordered")
        proxy.cut_connections()
        wait_until(lambda: proxy.connection_count > 1 or result.done(), "the client repeats its request")
        gateway.sandbox.release_orders()
        return expect_success(result.result(timeout=30))


def count_settled_charges(gateway: RunningGateway) -> int:
    gateway.wait_until_idle()
    return len(gateway.sandbox.list_charges())


@pytest.mark.one_in(3)
@proves(Capability.ONE_PURCHASE)
def test_repeated_generation_gets_the_first_purchase(client: RunningClient, fast_gateway: RunningGateway) -> None:
    before = count_settled_charges(fast_gateway)
    assert lose_first_response(client, fast_gateway, "generate")["data"]
    assert count_settled_charges(fast_gateway) - before == 1


@pytest.mark.one_in(3)
@proves(Capability.ONE_EDIT)
def test_repeated_edit_gets_the_first_purchase(client: RunningClient, fast_gateway: RunningGateway) -> None:
    """The form of the repeated request may have another boundary."""
    before = count_settled_charges(fast_gateway)
    images = encode_files([make_image(300, 200), make_image(64, 64)])
    assert lose_first_response(client, fast_gateway, "edit", **images)["data"]
    assert count_settled_charges(fast_gateway) - before == 1


@pytest.mark.one_in(3)
@proves(Capability.STREAM_ERRORS)
def test_error_within_a_stream_is_raised(client: RunningClient, fast_gateway: RunningGateway) -> None:
    """The order fails after the first heartbeat, with which the stream begins."""
    fast_gateway.sandbox.set_latency(0.8)
    fast_gateway.sandbox.inject_fault("expired_url")
    error = client.call("stream", params=client.make_params())["error"]
    assert (error.get("status"), error["code"]) == (None, "paid_not_delivered")
    assert "you were not charged." in error["message"]


@proves(Capability.SNIPPET)
def test_snippet_makes_an_image(client: RunningClient, fast_gateway: RunningGateway, tmp_path: Path) -> None:
    printed = (SNIPPET_FOLDER / client.client.snippet).read_text()
    assert PRINTED_URL in printed
    snippet = tmp_path / client.client.snippet
    snippet.write_text(printed.replace(PRINTED_URL, fast_gateway.url))
    expect_success(client.call("run_snippet", path=str(snippet)))
    with Image.open(tmp_path / "image.png") as image:
        assert image.size == (1024, 1024)


def test_no_snippet_is_unused() -> None:
    assert {path.name for path in SNIPPET_FOLDER.iterdir()} == {client.snippet for client in CLIENTS}
