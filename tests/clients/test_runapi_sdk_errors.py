"""Every error class of RunAPI's own Python SDK, brought about by the sandbox."""

import time
import uuid
from email.utils import formatdate

import pytest
from runapi.core import errors as sdk_errors
from runapi.core.options import PollingOptions
from runapi.gpt_image_2 import GptImage2Client

from tests.clients.runapi_python import ORDER, connect, keyed
from tests.vendors import Vendors

INVALID = {
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


@pytest.mark.parametrize("case", INVALID)
def test_the_vendor_refuses_what_its_sdk_sends(sandbox: Vendors, buyer: GptImage2Client, case: str) -> None:
    changed, field = INVALID[case]
    with pytest.raises(sdk_errors.ValidationError) as refusal:
        buyer.text_to_image.create(**{**ORDER, **changed})
    assert refusal.value.status == 422
    assert refusal.value.message == "Validation failed"
    assert list(refusal.value.details["errors"]) == [field]
    assert all(isinstance(text, str) for text in refusal.value.details["errors"][field])
    assert sandbox.charges("runapi") == []


@pytest.mark.parametrize(
    "sources", [None, [], [" "], "https://example.com/a.png", ["nowhere"], ["https://e.com/a.png"] * 17]
)
def test_an_edit_wants_one_to_sixteen_urls(buyer: GptImage2Client, sources: object) -> None:
    with pytest.raises(sdk_errors.ValidationError) as refusal:
        buyer.edit_image.create(**ORDER, source_image_urls=sources)
    assert list(refusal.value.details["errors"]) == ["source_image_urls"]


def test_a_body_that_is_no_object_is_a_bad_request(buyer: GptImage2Client) -> None:
    with pytest.raises(sdk_errors.ValidationError) as refusal:
        buyer._http.request("post", "/api/v1/gpt_image_2/text_to_image", body=["a prompt"])
    assert refusal.value.status == 400


def test_another_key_is_refused(url: str) -> None:
    stranger = connect(url, key="sk-stolen")
    try:
        with pytest.raises(sdk_errors.AuthenticationError) as refusal:
            stranger.text_to_image.create(**ORDER)
    finally:
        stranger._http.close()
    assert (refusal.value.status, refusal.value.message) == (401, "Unauthorized")
    assert uuid.UUID(refusal.value.request_id)


def test_an_empty_account_buys_nothing(sandbox: Vendors, buyer: GptImage2Client) -> None:
    sandbox.balance("runapi", "0.0999")
    with pytest.raises(sdk_errors.InsufficientCreditsError):
        buyer.text_to_image.create(**ORDER, aspect_ratio="3:2", output_resolution="2k")
    assert buyer.text_to_image.run(**ORDER).usage.cost == 0.06


def test_a_task_is_read_only_where_it_was_created(buyer: GptImage2Client) -> None:
    task = buyer.text_to_image.create(**ORDER)
    for unknown in (lambda: buyer.edit_image.get(task.id), lambda: buyer.text_to_image.get(str(uuid.uuid4()))):
        with pytest.raises(sdk_errors.NotFoundError) as missing:
            unknown()
        assert missing.value.details == {"error": "Not found"}


def test_a_rate_limit_says_when_to_come_back_and_an_unkeyed_order_does_not(
    sandbox: Vendors, buyer: GptImage2Client
) -> None:
    later = formatdate(time.time() + 60, usegmt=True)
    for header, seconds in (("7", 7), (later, 60)):
        sandbox.fault("status", vendor="runapi", status=429, headers={"Retry-After": header}, times=1)
        with pytest.raises(sdk_errors.RateLimitError) as limit:
            buyer.text_to_image.create(**ORDER)
        assert limit.value.retry_after == pytest.approx(seconds, abs=2)
        assert limit.value.message == "Too many requests"
    assert len(sandbox.requests("runapi", "submit")) == 2
    assert sandbox.charges("runapi") == []


def test_a_rate_limited_order_with_a_key_is_sent_again(sandbox: Vendors, buyer: GptImage2Client) -> None:
    sandbox.fault("status", vendor="runapi", status=429, headers={"Retry-After": "0.05"}, times=2)
    task = buyer.text_to_image.create(options=keyed("order-1"), **ORDER)
    assert len(sandbox.requests("runapi", "submit")) == 3
    assert [charge["id"] for charge in sandbox.charges("runapi")] == [task.id]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (500, sdk_errors.ServerError),
        (502, sdk_errors.ServerError),
        (503, sdk_errors.ServiceUnavailableError),
        (455, sdk_errors.Error),
    ],
)
def test_a_vendor_in_trouble_is_a_server_error(
    sandbox: Vendors, buyer: GptImage2Client, status: int, error: type[Exception]
) -> None:
    sandbox.fault("status", vendor="runapi", status=status, times=1)
    with pytest.raises(error) as trouble:
        buyer.text_to_image.create(**ORDER)
    assert type(trouble.value) is error
    assert trouble.value.status == status
    if status == 503:
        assert trouble.value.message == "No active channel available"


def test_a_vendor_that_hangs_is_a_timeout(sandbox: Vendors, url: str) -> None:
    sandbox.fault("hang", vendor="runapi", seconds=5)
    hasty = connect(url, timeout=0.3)
    try:
        with pytest.raises(sdk_errors.TimeoutError):
            hasty.text_to_image.create(**ORDER)
    finally:
        hasty._http.close()
    assert sandbox.charges("runapi") == []


def test_a_task_that_never_ends_is_a_task_timeout(sandbox: Vendors, buyer: GptImage2Client) -> None:
    sandbox.fault("stuck", vendor="runapi")
    task = buyer.text_to_image.create(**ORDER)
    polling = PollingOptions(max_wait=0.3, poll_interval=0.05)
    with pytest.raises(sdk_errors.TaskTimeoutError):
        buyer.text_to_image._poll_until_complete(lambda: buyer.text_to_image.get(task.id), polling)
