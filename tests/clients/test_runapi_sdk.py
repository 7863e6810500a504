"""RunAPI's own Python SDK against the sandbox: what it enforces, and what only a faithful vendor does."""

import base64
import uuid
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from runapi.core import PricingClient, RequestOptions
from runapi.core import errors as sdk_errors
from runapi.core.models import TaskResponse
from runapi.core.options import PollingOptions
from runapi.gpt_image_2 import GptImage2Client

from tests.clients.runapi_python import ORDER, PRICES, TIERS, fetch, keyed
from tests.vendors import Vendors


@pytest.mark.parametrize("tier", PRICES)
def test_an_image_of_every_tier_has_its_pixels_and_its_price(
    sandbox: Vendors, buyer: GptImage2Client, tier: str
) -> None:
    result = buyer.text_to_image.run(**ORDER, aspect_ratio="16:9", output_resolution=tier)

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


def test_without_a_ratio_the_picture_is_a_1k_square(buyer: GptImage2Client) -> None:
    with fetch(buyer.text_to_image.run(**ORDER).images[0].url) as image:
        assert image.size == (1024, 1024)


def test_an_uploaded_local_file_is_edited(sandbox: Vendors, buyer: GptImage2Client, photo: Path) -> None:
    record = buyer.files.create(file=photo)
    assert record.file_name == "photo.png"
    assert record.mime_type == "image/png"
    assert record.size_bytes == photo.stat().st_size
    assert httpx.get(record.url, trust_env=False).content == photo.read_bytes()

    result = buyer.edit_image.run(**ORDER, source_image_urls=[record.url])

    with fetch(result.images[0].url) as image:
        assert image.width / image.height == pytest.approx(1.5, rel=0.02)
        assert image.width * image.height <= TIERS["1k"][1]
    assert sandbox.charged_usd("runapi") == Decimal("0.06")


@pytest.mark.parametrize("kind", ["url", "base64"])
def test_a_remote_file_or_base64_becomes_a_source(
    sandbox: Vendors, buyer: GptImage2Client, photo: Path, kind: str
) -> None:
    source = (
        f"{sandbox.url}/_/sample.png?w=300&h=200" if kind == "url" else base64.b64encode(photo.read_bytes()).decode()
    )
    record = buyer.files.create(source=source, file_name="picture.png")

    assert (record.file_name, record.mime_type) == ("picture.png", "image/png")
    assert httpx.get(record.url, trust_env=False).content == photo.read_bytes()
    assert buyer.edit_image.run(**ORDER, source_image_urls=[record.url]).images


def test_an_edit_sold_by_ratio_and_tier_is_that(sandbox: Vendors, buyer: GptImage2Client, photo: Path) -> None:
    links = [buyer.files.create(file=photo).url] * 16
    order = {**ORDER, "aspect_ratio": "9:21", "output_resolution": "4k"}
    result = buyer.edit_image.run(**order, source_image_urls=links)
    with fetch(result.images[0].url) as image:
        assert image.width / image.height == pytest.approx(9 / 21, rel=0.02)
        assert image.width * image.height > TIERS["2k"][1]
    assert sandbox.charged_usd("runapi") == Decimal("0.16")


def test_run_sees_work_in_progress_before_it_sees_the_result(sandbox: Vendors, buyer: GptImage2Client) -> None:
    sandbox.latency(0.4, vendor="runapi")
    task = buyer.text_to_image.create(**ORDER)
    assert (task.status, task.usage, task.images) == ("processing", None, None)
    assert buyer.text_to_image.get(task.id).to_dict() == {"id": task.id, "status": "processing"}
    polling = PollingOptions(poll_interval=0.05, max_wait=5)
    finished = buyer.text_to_image._poll_until_complete(lambda: buyer.text_to_image.get(task.id), polling)
    assert finished.usage.cost == 0.06
    assert buyer.text_to_image.get(task.id) == finished


def test_a_replayed_key_returns_the_same_task_and_buys_once(sandbox: Vendors, buyer: GptImage2Client) -> None:
    first = buyer.text_to_image.create(options=keyed("order-1"), **ORDER)
    again = buyer.text_to_image.create(options=keyed("order-1"), **ORDER)
    assert (first.task_replayed, again.task_replayed) == (None, True)
    assert again.id == first.id == again.runapi_task_id
    [charge] = sandbox.charges("runapi")
    assert (charge["id"], charge["idempotency_key"]) == (first.id, "order-1")


def test_a_key_with_other_input_is_a_conflict(sandbox: Vendors, buyer: GptImage2Client) -> None:
    buyer.text_to_image.create(options=keyed("order-1"), **ORDER)
    with pytest.raises(sdk_errors.ConflictError) as conflict:
        buyer.text_to_image.create(options=keyed("order-1"), **{**ORDER, "prompt": "another"})
    assert (conflict.value.status, conflict.value.code) == (409, None)
    assert len(sandbox.charges("runapi")) == 1


def test_a_lost_answer_with_a_key_is_retried_into_the_same_task(sandbox: Vendors, buyer: GptImage2Client) -> None:
    sandbox.fault("reset_after", vendor="runapi", times=1)
    task = buyer.text_to_image.create(options=keyed("order-1"), **ORDER)
    assert task.task_replayed is True
    assert [charge["id"] for charge in sandbox.charges("runapi")] == [task.id]


def test_a_lost_answer_without_a_key_is_paid_for_and_unknown(sandbox: Vendors, buyer: GptImage2Client) -> None:
    """`run()` and `create()` send no key of their own, whatever the vendor's README says."""
    sandbox.fault("reset_after", vendor="runapi", times=1)
    with pytest.raises(sdk_errors.NetworkError):
        buyer.text_to_image.run(**ORDER)
    [charge] = sandbox.charges("runapi")
    assert charge["idempotency_key"] is None


def test_a_failed_task_has_a_text_and_costs_nothing(sandbox: Vendors, buyer: GptImage2Client) -> None:
    sandbox.fault("fail", vendor="runapi", times=1, message="The upstream model gave up")
    with pytest.raises(sdk_errors.TaskFailedError) as failure:
        buyer.text_to_image.run(**ORDER)
    assert failure.value.message == "The upstream model gave up"
    assert failure.value.details.keys() == {"id", "status", "error"}
    assert failure.value.runapi_task_id == failure.value.details["id"]
    assert sandbox.charges("runapi") == []


def test_an_unreadable_source_fails_the_task(sandbox: Vendors, buyer: GptImage2Client) -> None:
    with pytest.raises(sdk_errors.TaskFailedError, match="could not be read"):
        buyer.edit_image.run(**ORDER, source_image_urls=[f"{sandbox.url}/_/nothing.png"])
    assert sandbox.charges("runapi") == []


def test_an_empty_success_passes_the_sdk(sandbox: Vendors, buyer: GptImage2Client) -> None:
    sandbox.fault("empty_outputs", vendor="runapi", times=1)
    result = buyer.text_to_image.run(**ORDER)
    assert (result.images, result.usage.cost) == ([], 0.06)


def test_the_balance_is_in_cents_and_follows_every_order(sandbox: Vendors, buyer: GptImage2Client) -> None:
    sandbox.balance("runapi", "10")
    sandbox.latency(0.3, vendor="runapi")
    assert buyer.account.info().account.name
    task = buyer.text_to_image.create(**ORDER, aspect_ratio="3:2", output_resolution="4k")
    reserved = buyer.account.balance()
    assert (reserved.balance_cents, reserved.spent_cents_total) == (984, 0)
    polling = PollingOptions(poll_interval=0.05, max_wait=5)
    buyer.text_to_image._poll_until_complete(lambda: buyer.text_to_image.get(task.id), polling)
    settled = buyer.account.balance()
    assert settled.to_dict() == {
        "balance_cents": 984,
        "paid_balance_cents": 984,
        "bonus_balance_cents": 0,
        "spent_cents_today": 16,
        "spent_cents_total": 16,
    }


def test_prices_are_public_and_what_is_charged(sandbox: Vendors, url: str, buyer: GptImage2Client) -> None:
    public = PricingClient(base_url=url)
    try:
        [schedule] = public.list_schedules(service="gpt-image-2", action="text_to_image").price_schedules
        quote = public.create_quote("gpt_image_2", "text_to_image", params={"output_resolution": "2k"}).price_quote
    finally:
        public._http.close()
    assert (schedule.unit_price_cents, schedule.currency, schedule.billing_unit) == (6, "USD", "call")
    assert schedule.billing_config.to_dict() == {"key": "output_resolution", "overrides": {"2k": 10, "4k": 16}}
    cost = buyer.text_to_image.run(**ORDER, aspect_ratio="3:2", output_resolution="2k").usage.cost
    assert quote.reservation_amount_cents == cost * 100 == sandbox.charged_usd("runapi") * 100


def test_unchanged_prices_are_not_sent_twice(buyer: GptImage2Client) -> None:
    etag = buyer.pricing.list_schedules().response_header("etag")
    assert buyer.pricing.list_schedules(options=RequestOptions(headers={"If-None-Match": etag})) is None


def test_the_callers_reference_is_echoed_and_on_the_invoice(sandbox: Vendors, buyer: GptImage2Client) -> None:
    reference = RequestOptions(headers={"X-Client-Request-Id": "job-17"})
    task = buyer.text_to_image.create(options=reference, **ORDER)
    assert task.response_header("X-Client-Request-Id") == "job-17"
    assert buyer.text_to_image.get(task.id).response_header("X-Client-Request-Id") is None
    assert [charge["client_ref"] for charge in sandbox.charges("runapi")] == ["job-17"]
    with pytest.raises(sdk_errors.NotFoundError) as missing:
        buyer.text_to_image.get("unknown", options=reference)
    assert missing.value.response_header("X-Client-Request-Id") == "job-17"


def test_a_202_leads_to_the_result_by_its_location(sandbox: Vendors, buyer: GptImage2Client) -> None:
    with sandbox.switched("runapi", create_code=202):
        task = buyer.text_to_image.create(**ORDER)
        result = buyer.text_to_image.subscribe(task.response_header("Location"))
        assert result == buyer.text_to_image.get(task.id)
        sandbox.fault("fail", vendor="runapi", times=1)
        failing = buyer.text_to_image.create(**ORDER)
        with pytest.raises(sdk_errors.TaskFailedError):
            buyer.text_to_image.subscribe(failing.response_header("Location"))
