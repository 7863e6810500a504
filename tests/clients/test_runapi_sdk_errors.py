"""The sandbox triggers every error class of RunAPI's own Python SDK."""

import time
import uuid
from email.utils import formatdate

import pytest
from runapi.core import errors as sdk_errors
from runapi.core.options import PollingOptions
from runapi.gpt_image_2 import GptImage2Client

from tests.clients.runapi_sdk import ORDER_PARAMS, make_key_options, make_runapi_client
from tests.harness.sandbox_runner import RunningSandbox

INVALID_CASES = {
    "no model": ({"model": None}, "model"),
    "another model": ({"model": "gpt-image-1.5"}, "model"),
    "no prompt": ({"prompt": " "}, "prompt"),
    "an unknown ratio": ({"aspect_ratio": "7:5"}, "aspect_ratio"),
    "an unknown tier": ({"output_resolution": "8k"}, "output_resolution"),
    "an upper-case tier": ({"aspect_ratio": "3:2", "output_resolution": "4K"}, "output_resolution"),
    "a square 4k": ({"aspect_ratio": "1:1", "output_resolution": "4k"}, "output_resolution"),
    "a 2k without a ratio": ({"output_resolution": "2k"}, "output_resolution"),
    "an automatic 4k": ({"aspect_ratio": "auto", "output_resolution": "4k"}, "output_resolution"),
    "a callback nowhere": ({"callback_url": "nowhere"}, "callback_url"),
}


@pytest.mark.parametrize("case", INVALID_CASES)
def test_invalid_order_error_names_the_field(
    sandbox: RunningSandbox, runapi_client: GptImage2Client, case: str
) -> None:
    changes, field = INVALID_CASES[case]
    with pytest.raises(sdk_errors.ValidationError) as refusal:
        runapi_client.text_to_image.create(**{**ORDER_PARAMS, **changes})
    assert refusal.value.status == 422
    assert refusal.value.message == "Validation failed"
    assert list(refusal.value.details["errors"]) == [field]
    assert all(isinstance(text, str) for text in refusal.value.details["errors"][field])
    assert sandbox.list_charges("runapi") == []


@pytest.mark.parametrize(
    "sources", [None, [], [" "], "https://example.com/a.png", ["nowhere"], ["https://e.com/a.png"] * 17]
)
def test_edit_needs_one_to_sixteen_source_urls(runapi_client: GptImage2Client, sources: object) -> None:
    with pytest.raises(sdk_errors.ValidationError) as refusal:
        runapi_client.edit_image.create(**ORDER_PARAMS, source_image_urls=sources)
    assert list(refusal.value.details["errors"]) == ["source_image_urls"]


def test_body_that_is_not_an_object_is_a_bad_request(runapi_client: GptImage2Client) -> None:
    with pytest.raises(sdk_errors.ValidationError) as refusal:
        runapi_client._http.request("post", "/api/v1/gpt_image_2/text_to_image", body=["a prompt"])
    assert refusal.value.status == 400


def test_invalid_key_is_rejected(runapi_url: str) -> None:
    client = make_runapi_client(runapi_url, key="sk-stolen")
    try:
        with pytest.raises(sdk_errors.AuthenticationError) as refusal:
            client.text_to_image.create(**ORDER_PARAMS)
    finally:
        client._http.close()
    assert (refusal.value.status, refusal.value.message) == (401, "Unauthorized")
    assert uuid.UUID(refusal.value.request_id)


def test_order_above_the_balance_is_rejected(sandbox: RunningSandbox, runapi_client: GptImage2Client) -> None:
    sandbox.set_balance("runapi", "0.0999")
    with pytest.raises(sdk_errors.InsufficientCreditsError):
        runapi_client.text_to_image.create(**ORDER_PARAMS, aspect_ratio="3:2", output_resolution="2k")
    assert runapi_client.text_to_image.run(**ORDER_PARAMS).usage.cost == 0.06


def test_task_is_found_only_at_the_action_that_created_it(runapi_client: GptImage2Client) -> None:
    task = runapi_client.text_to_image.create(**ORDER_PARAMS)
    for unknown in (
        lambda: runapi_client.edit_image.get(task.id),
        lambda: runapi_client.text_to_image.get(str(uuid.uuid4())),
    ):
        with pytest.raises(sdk_errors.NotFoundError) as missing:
            unknown()
        assert missing.value.details == {"error": "Not found"}


def test_rate_limit_has_retry_after_and_order_without_key_is_not_retried(
    sandbox: RunningSandbox, runapi_client: GptImage2Client
) -> None:
    http_date = formatdate(time.time() + 60, usegmt=True)
    for header, seconds in (("7", 7), (http_date, 60)):
        sandbox.inject_fault("status", vendor="runapi", status=429, headers={"Retry-After": header}, times=1)
        with pytest.raises(sdk_errors.RateLimitError) as limit:
            runapi_client.text_to_image.create(**ORDER_PARAMS)
        assert limit.value.retry_after == pytest.approx(seconds, abs=2)
        assert limit.value.message == "Too many requests"
    assert len(sandbox.list_requests("runapi", "submit")) == 2
    assert sandbox.list_charges("runapi") == []


def test_rate_limited_order_with_a_key_is_retried(sandbox: RunningSandbox, runapi_client: GptImage2Client) -> None:
    sandbox.inject_fault("status", vendor="runapi", status=429, headers={"Retry-After": "0.05"}, times=2)
    task = runapi_client.text_to_image.create(options=make_key_options("order-1"), **ORDER_PARAMS)
    assert len(sandbox.list_requests("runapi", "submit")) == 3
    assert [charge["id"] for charge in sandbox.list_charges("runapi")] == [task.id]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (500, sdk_errors.ServerError),
        (502, sdk_errors.ServerError),
        (503, sdk_errors.ServiceUnavailableError),
        (455, sdk_errors.Error),
    ],
)
def test_vendor_failure_is_a_server_error(
    sandbox: RunningSandbox, runapi_client: GptImage2Client, status: int, error: type[Exception]
) -> None:
    sandbox.inject_fault("status", vendor="runapi", status=status, times=1)
    with pytest.raises(error) as raised:
        runapi_client.text_to_image.create(**ORDER_PARAMS)
    assert type(raised.value) is error
    assert raised.value.status == status
    if status == 503:
        assert raised.value.message == "No active channel available"


def test_hanging_vendor_is_a_timeout(sandbox: RunningSandbox, runapi_url: str) -> None:
    sandbox.inject_fault("hang", vendor="runapi", seconds=5)
    client = make_runapi_client(runapi_url, timeout=0.3)
    try:
        with pytest.raises(sdk_errors.TimeoutError):
            client.text_to_image.create(**ORDER_PARAMS)
    finally:
        client._http.close()
    assert sandbox.list_charges("runapi") == []


def test_task_that_never_ends_is_a_task_timeout(sandbox: RunningSandbox, runapi_client: GptImage2Client) -> None:
    sandbox.inject_fault("stuck", vendor="runapi")
    task = runapi_client.text_to_image.create(**ORDER_PARAMS)
    polling = PollingOptions(max_wait=0.3, poll_interval=0.05)
    with pytest.raises(sdk_errors.TaskTimeoutError):
        runapi_client.text_to_image._poll_until_complete(lambda: runapi_client.text_to_image.get(task.id), polling)
