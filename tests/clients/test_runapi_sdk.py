"""RunAPI's own Python SDK against the sandbox: what it enforces, and what only a faithful vendor does."""

import base64
import io
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from runapi.core import PricingClient, RequestOptions
from runapi.core import errors as sdk_errors
from runapi.core.models import TaskResponse
from runapi.core.options import PollingOptions
from runapi.gpt_image_2 import GptImage2Client

from tests.vendors import Vendors

ORDER = {"model": "gpt-image-2", "prompt": "a lighthouse at dawn"}
PRICES = {"1k": "0.06", "2k": "0.10", "4k": "0.16"}
TIERS = {"1k": (655_360, 1_572_864), "2k": (1_572_865, 4_194_304), "4k": (4_194_305, 8_294_400)}


def connect(url: str, key: str = "sk-sandbox", **options: Any) -> GptImage2Client:
    return GptImage2Client(key, base_url=url, timeout=20, retry_base_delay=0.01, **options)


@pytest.fixture
def url(sandbox: Vendors, monkeypatch: pytest.MonkeyPatch) -> str:
    """The SDK's own HTTP client would go through a proxy that the environment names."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return f"{sandbox.url}/runapi"


@pytest.fixture
def client(url: str) -> Iterator[GptImage2Client]:
    client = connect(url)
    yield client
    client._http.close()


@pytest.fixture
def photo(sandbox: Vendors, tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(sandbox.sample(300, 200))
    return path


def fetch(link: str) -> Image.Image:
    answer = httpx.get(link, trust_env=False).raise_for_status()
    assert answer.headers["content-type"] == "image/png"
    return Image.open(io.BytesIO(answer.content))


def keyed(key: str, **headers: str) -> RequestOptions:
    return RequestOptions(headers={"Idempotency-Key": key, **headers})


@pytest.mark.parametrize("tier", PRICES)
def test_an_image_of_every_tier_has_its_pixels_and_its_price(
    sandbox: Vendors, client: GptImage2Client, tier: str
) -> None:
    result = client.text_to_image.run(**ORDER, aspect_ratio="16:9", output_resolution=tier)

    assert result.status == TaskResponse.Status.COMPLETED
    assert str(uuid.UUID(result.id)) == result.id == result.runapi_task_id
    assert len(result.images) == 1
    assert list(result.images[0].to_dict()) == ["url"]
    with fetch(result.images[0].url) as image:
        assert image.format == "PNG"
        assert image.width / image.height == pytest.approx(16 / 9, rel=0.02)
        assert TIERS[tier][0] <= image.width * image.height <= TIERS[tier][1]
        assert image.width % 16 == image.height % 16 == 0
        assert image.width <= 3840
    assert result.usage.to_dict() == {"cost": float(PRICES[tier]), "generated_images": 1}
    [charge] = sandbox.charges("runapi")
    assert charge["id"] == result.id
    assert charge["images"] == 1
    assert sandbox.charged_usd("runapi") == Decimal(PRICES[tier])


def test_without_a_ratio_the_picture_is_a_1k_square(client: GptImage2Client) -> None:
    with fetch(client.text_to_image.run(**ORDER).images[0].url) as image:
        assert image.size == (1024, 1024)


def test_an_uploaded_local_file_is_edited(sandbox: Vendors, client: GptImage2Client, photo: Path) -> None:
    record = client.files.create(file=photo)
    assert record.file_name == "photo.png"
    assert record.mime_type == "image/png"
    assert record.size_bytes == photo.stat().st_size
    assert httpx.get(record.url, trust_env=False).content == photo.read_bytes()

    result = client.edit_image.run(**ORDER, source_image_urls=[record.url])

    with fetch(result.images[0].url) as image:
        assert image.width / image.height == pytest.approx(1.5, rel=0.02)
        assert image.width * image.height <= TIERS["1k"][1]
    assert sandbox.charged_usd("runapi") == Decimal("0.06")


@pytest.mark.parametrize("kind", ["url", "base64"])
def test_a_remote_file_or_base64_becomes_a_source(
    sandbox: Vendors, client: GptImage2Client, photo: Path, kind: str
) -> None:
    source = (
        f"{sandbox.url}/_/sample.png?w=300&h=200" if kind == "url" else base64.b64encode(photo.read_bytes()).decode()
    )
    record = client.files.create(source=source, file_name="picture.png")

    assert (record.file_name, record.mime_type) == ("picture.png", "image/png")
    assert httpx.get(record.url, trust_env=False).content == photo.read_bytes()
    assert client.edit_image.run(**ORDER, source_image_urls=[record.url]).images


def test_an_edit_sold_by_ratio_and_tier_is_that(sandbox: Vendors, client: GptImage2Client, photo: Path) -> None:
    links = [client.files.create(file=photo).url] * 16
    order = {**ORDER, "aspect_ratio": "9:21", "output_resolution": "4k"}
    result = client.edit_image.run(**order, source_image_urls=links)
    with fetch(result.images[0].url) as image:
        assert image.width / image.height == pytest.approx(9 / 21, rel=0.02)
        assert image.width * image.height > TIERS["2k"][1]
    assert sandbox.charged_usd("runapi") == Decimal("0.16")


def test_run_sees_work_in_progress_before_it_sees_the_result(sandbox: Vendors, client: GptImage2Client) -> None:
    sandbox.latency(0.4, vendor="runapi")
    task = client.text_to_image.create(**ORDER)
    assert (task.status, task.usage, task.images) == ("processing", None, None)
    assert client.text_to_image.get(task.id).to_dict() == {"id": task.id, "status": "processing"}
    polling = PollingOptions(poll_interval=0.05, max_wait=5)
    finished = client.text_to_image._poll_until_complete(lambda: client.text_to_image.get(task.id), polling)
    assert finished.usage.cost == 0.06
    assert client.text_to_image.get(task.id) == finished


def test_a_replayed_key_returns_the_same_task_and_buys_once(sandbox: Vendors, client: GptImage2Client) -> None:
    first = client.text_to_image.create(options=keyed("order-1"), **ORDER)
    again = client.text_to_image.create(options=keyed("order-1"), **ORDER)
    assert (first.task_replayed, again.task_replayed) == (None, True)
    assert again.id == first.id == again.runapi_task_id
    [charge] = sandbox.charges("runapi")
    assert (charge["id"], charge["idempotency_key"]) == (first.id, "order-1")


def test_a_key_with_other_input_is_a_conflict(sandbox: Vendors, client: GptImage2Client) -> None:
    client.text_to_image.create(options=keyed("order-1"), **ORDER)
    with pytest.raises(sdk_errors.ConflictError) as conflict:
        client.text_to_image.create(options=keyed("order-1"), **{**ORDER, "prompt": "another"})
    assert (conflict.value.status, conflict.value.code) == (409, None)
    assert len(sandbox.charges("runapi")) == 1


def test_a_lost_answer_with_a_key_is_retried_into_the_same_task(sandbox: Vendors, client: GptImage2Client) -> None:
    sandbox.fault("reset_after", vendor="runapi", times=1)
    task = client.text_to_image.create(options=keyed("order-1"), **ORDER)
    assert task.task_replayed is True
    assert [charge["id"] for charge in sandbox.charges("runapi")] == [task.id]


def test_a_lost_answer_without_a_key_is_paid_for_and_unknown(sandbox: Vendors, client: GptImage2Client) -> None:
    """`run()` and `create()` send no key of their own, whatever the vendor's README says."""
    sandbox.fault("reset_after", vendor="runapi", times=1)
    with pytest.raises(sdk_errors.NetworkError):
        client.text_to_image.run(**ORDER)
    [charge] = sandbox.charges("runapi")
    assert charge["idempotency_key"] is None


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
def test_the_vendor_refuses_what_its_sdk_sends(sandbox: Vendors, client: GptImage2Client, case: str) -> None:
    changed, field = INVALID[case]
    with pytest.raises(sdk_errors.ValidationError) as refusal:
        client.text_to_image.create(**{**ORDER, **changed})
    assert refusal.value.status == 422
    assert refusal.value.message == "Validation failed"
    assert list(refusal.value.details["errors"]) == [field]
    assert all(isinstance(text, str) for text in refusal.value.details["errors"][field])
    assert sandbox.charges("runapi") == []


@pytest.mark.parametrize(
    "sources", [None, [], [" "], "https://example.com/a.png", ["nowhere"], ["https://e.com/a.png"] * 17]
)
def test_an_edit_wants_one_to_sixteen_urls(client: GptImage2Client, sources: object) -> None:
    with pytest.raises(sdk_errors.ValidationError) as refusal:
        client.edit_image.create(**ORDER, source_image_urls=sources)
    assert list(refusal.value.details["errors"]) == ["source_image_urls"]


def test_a_body_that_is_no_object_is_a_bad_request(client: GptImage2Client) -> None:
    with pytest.raises(sdk_errors.ValidationError) as refusal:
        client._http.request("post", "/api/v1/gpt_image_2/text_to_image", body=["a prompt"])
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


def test_an_empty_account_buys_nothing(sandbox: Vendors, client: GptImage2Client) -> None:
    sandbox.balance("runapi", "0.0999")
    with pytest.raises(sdk_errors.InsufficientCreditsError):
        client.text_to_image.create(**ORDER, aspect_ratio="3:2", output_resolution="2k")
    assert client.text_to_image.run(**ORDER).usage.cost == 0.06


def test_a_task_is_read_only_where_it_was_created(client: GptImage2Client) -> None:
    task = client.text_to_image.create(**ORDER)
    for unknown in (lambda: client.edit_image.get(task.id), lambda: client.text_to_image.get(str(uuid.uuid4()))):
        with pytest.raises(sdk_errors.NotFoundError) as missing:
            unknown()
        assert missing.value.details == {"error": "Not found"}


def test_a_rate_limit_says_when_to_come_back_and_an_unkeyed_order_does_not(
    sandbox: Vendors, client: GptImage2Client
) -> None:
    later = formatdate(time.time() + 60, usegmt=True)
    for header, seconds in (("7", 7), (later, 60)):
        sandbox.fault("status", vendor="runapi", status=429, headers={"Retry-After": header}, times=1)
        with pytest.raises(sdk_errors.RateLimitError) as limit:
            client.text_to_image.create(**ORDER)
        assert limit.value.retry_after == pytest.approx(seconds, abs=2)
        assert limit.value.message == "Too many requests"
    assert len(sandbox.requests("runapi", "submit")) == 2
    assert sandbox.charges("runapi") == []


def test_a_rate_limited_order_with_a_key_is_sent_again(sandbox: Vendors, client: GptImage2Client) -> None:
    sandbox.fault("status", vendor="runapi", status=429, headers={"Retry-After": "0.05"}, times=2)
    task = client.text_to_image.create(options=keyed("order-1"), **ORDER)
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
    sandbox: Vendors, client: GptImage2Client, status: int, error: type[Exception]
) -> None:
    sandbox.fault("status", vendor="runapi", status=status, times=1)
    with pytest.raises(error) as trouble:
        client.text_to_image.create(**ORDER)
    assert type(trouble.value) is error
    assert trouble.value.status == status
    if status == 503:
        assert trouble.value.message == "No active channel available"


def test_a_failed_task_has_a_text_and_costs_nothing(sandbox: Vendors, client: GptImage2Client) -> None:
    sandbox.fault("fail", vendor="runapi", times=1, message="The upstream model gave up")
    with pytest.raises(sdk_errors.TaskFailedError) as failure:
        client.text_to_image.run(**ORDER)
    assert failure.value.message == "The upstream model gave up"
    assert failure.value.details.keys() == {"id", "status", "error"}
    assert failure.value.runapi_task_id == failure.value.details["id"]
    assert sandbox.charges("runapi") == []


def test_an_unreadable_source_fails_the_task(sandbox: Vendors, client: GptImage2Client) -> None:
    with pytest.raises(sdk_errors.TaskFailedError, match="could not be read"):
        client.edit_image.run(**ORDER, source_image_urls=[f"{sandbox.url}/_/nothing.png"])
    assert sandbox.charges("runapi") == []


def test_an_empty_success_passes_the_sdk(sandbox: Vendors, client: GptImage2Client) -> None:
    sandbox.fault("empty_outputs", vendor="runapi", times=1)
    result = client.text_to_image.run(**ORDER)
    assert (result.images, result.usage.cost) == ([], 0.06)


def test_the_balance_is_in_cents_and_follows_every_order(sandbox: Vendors, client: GptImage2Client) -> None:
    sandbox.balance("runapi", "10")
    sandbox.latency(0.3, vendor="runapi")
    assert client.account.info().account.name
    task = client.text_to_image.create(**ORDER, aspect_ratio="3:2", output_resolution="4k")
    reserved = client.account.balance()
    assert (reserved.balance_cents, reserved.spent_cents_total) == (984, 0)
    polling = PollingOptions(poll_interval=0.05, max_wait=5)
    client.text_to_image._poll_until_complete(lambda: client.text_to_image.get(task.id), polling)
    settled = client.account.balance()
    assert settled.to_dict() == {
        "balance_cents": 984,
        "paid_balance_cents": 984,
        "bonus_balance_cents": 0,
        "spent_cents_today": 16,
        "spent_cents_total": 16,
    }


def test_prices_are_public_and_what_is_charged(sandbox: Vendors, url: str, client: GptImage2Client) -> None:
    public = PricingClient(base_url=url)
    try:
        [schedule] = public.list_schedules(service="gpt-image-2", action="text_to_image").price_schedules
        quote = public.create_quote("gpt_image_2", "text_to_image", params={"output_resolution": "2k"}).price_quote
    finally:
        public._http.close()
    assert (schedule.unit_price_cents, schedule.currency, schedule.billing_unit) == (6, "USD", "call")
    assert schedule.billing_config.to_dict() == {"key": "output_resolution", "overrides": {"2k": 10, "4k": 16}}
    cost = client.text_to_image.run(**ORDER, aspect_ratio="3:2", output_resolution="2k").usage.cost
    assert quote.reservation_amount_cents == cost * 100 == sandbox.charged_usd("runapi") * 100


def test_unchanged_prices_are_not_sent_twice(client: GptImage2Client) -> None:
    etag = client.pricing.list_schedules().response_header("etag")
    assert client.pricing.list_schedules(options=RequestOptions(headers={"If-None-Match": etag})) is None


def test_the_callers_reference_is_echoed_and_on_the_invoice(sandbox: Vendors, client: GptImage2Client) -> None:
    reference = RequestOptions(headers={"X-Client-Request-Id": "job-17"})
    task = client.text_to_image.create(options=reference, **ORDER)
    assert task.response_header("X-Client-Request-Id") == "job-17"
    assert client.text_to_image.get(task.id).response_header("X-Client-Request-Id") is None
    assert [charge["client_ref"] for charge in sandbox.charges("runapi")] == ["job-17"]
    with pytest.raises(sdk_errors.NotFoundError) as missing:
        client.text_to_image.get("unknown", options=reference)
    assert missing.value.response_header("X-Client-Request-Id") == "job-17"


def test_a_202_leads_to_the_result_by_its_location(sandbox: Vendors, client: GptImage2Client) -> None:
    with sandbox.switched("runapi", create_code=202):
        task = client.text_to_image.create(**ORDER)
        result = client.text_to_image.subscribe(task.response_header("Location"))
        assert result == client.text_to_image.get(task.id)
        sandbox.fault("fail", vendor="runapi", times=1)
        failing = client.text_to_image.create(**ORDER)
        with pytest.raises(sdk_errors.TaskFailedError):
            client.text_to_image.subscribe(failing.response_header("Location"))
