"""RunAPI's own Python SDK against the sandbox: images, prices, idempotency, balance."""

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

from tests.clients.runapi_sdk import ORDER_PARAMS, PIXELS_BY_TIER, PRICE_BY_TIER, fetch_image, make_key_options
from tests.harness.sandbox_runner import RunningSandbox


@pytest.mark.parametrize("tier", PRICE_BY_TIER)
def test_image_of_every_tier_has_its_pixels_and_its_price(
    sandbox: RunningSandbox, runapi_client: GptImage2Client, tier: str
) -> None:
    result = runapi_client.text_to_image.run(**ORDER_PARAMS, aspect_ratio="16:9", output_resolution=tier)

    assert result.status == TaskResponse.Status.COMPLETED
    assert str(uuid.UUID(result.id)) == result.id == result.runapi_task_id
    assert len(result.images) == 1
    assert list(result.images[0].to_dict()) == ["url"]
    with fetch_image(result.images[0].url) as image:
        assert image.format == "PNG"
        assert image.width / image.height == pytest.approx(16 / 9, rel=0.02)
        assert PIXELS_BY_TIER[tier][0] <= image.width * image.height <= PIXELS_BY_TIER[tier][1]
        assert image.width % 16 == image.height % 16 == 0
        assert image.width <= 3840
    assert result.usage.to_dict() == {"cost": float(PRICE_BY_TIER[tier]), "generated_images": 1}
    [charge] = sandbox.list_charges("runapi")
    assert charge["id"] == result.id
    assert charge["images"] == 1
    assert sandbox.sum_charges_usd("runapi") == Decimal(PRICE_BY_TIER[tier])


def test_image_without_a_ratio_is_a_1k_square(runapi_client: GptImage2Client) -> None:
    with fetch_image(runapi_client.text_to_image.run(**ORDER_PARAMS).images[0].url) as image:
        assert image.size == (1024, 1024)


def test_uploaded_local_file_is_edited(sandbox: RunningSandbox, runapi_client: GptImage2Client, photo: Path) -> None:
    record = runapi_client.files.create(file=photo)
    assert record.file_name == "photo.png"
    assert record.mime_type == "image/png"
    assert record.size_bytes == photo.stat().st_size
    assert httpx.get(record.url, trust_env=False).content == photo.read_bytes()

    result = runapi_client.edit_image.run(**ORDER_PARAMS, source_image_urls=[record.url])

    with fetch_image(result.images[0].url) as image:
        assert image.width / image.height == pytest.approx(1.5, rel=0.02)
        assert image.width * image.height <= PIXELS_BY_TIER["1k"][1]
    assert sandbox.sum_charges_usd("runapi") == Decimal("0.06")


@pytest.mark.parametrize("kind", ["url", "base64"])
def test_remote_file_and_base64_are_accepted_as_sources(
    sandbox: RunningSandbox, runapi_client: GptImage2Client, photo: Path, kind: str
) -> None:
    source = (
        f"{sandbox.url}/_/sample.png?w=300&h=200" if kind == "url" else base64.b64encode(photo.read_bytes()).decode()
    )
    record = runapi_client.files.create(source=source, file_name="image.png")

    assert (record.file_name, record.mime_type) == ("image.png", "image/png")
    assert httpx.get(record.url, trust_env=False).content == photo.read_bytes()
    assert runapi_client.edit_image.run(**ORDER_PARAMS, source_image_urls=[record.url]).images


def test_edit_has_the_ordered_ratio_and_tier(
    sandbox: RunningSandbox, runapi_client: GptImage2Client, photo: Path
) -> None:
    links = [runapi_client.files.create(file=photo).url] * 16
    order = {**ORDER_PARAMS, "aspect_ratio": "9:21", "output_resolution": "4k"}
    result = runapi_client.edit_image.run(**order, source_image_urls=links)
    with fetch_image(result.images[0].url) as image:
        assert image.width / image.height == pytest.approx(9 / 21, rel=0.02)
        assert image.width * image.height > PIXELS_BY_TIER["2k"][1]
    assert sandbox.sum_charges_usd("runapi") == Decimal("0.16")


def test_task_is_processing_before_it_is_completed(sandbox: RunningSandbox, runapi_client: GptImage2Client) -> None:
    sandbox.hold_orders(vendor="runapi")
    task = runapi_client.text_to_image.create(**ORDER_PARAMS)
    assert (task.status, task.usage, task.images) == ("processing", None, None)
    assert runapi_client.text_to_image.get(task.id).to_dict() == {"id": task.id, "status": "processing"}
    sandbox.release_orders()
    polling = PollingOptions(poll_interval=0.05, max_wait=60)
    finished = runapi_client.text_to_image._poll_until_complete(
        lambda: runapi_client.text_to_image.get(task.id), polling
    )
    assert finished.usage.cost == 0.06
    assert runapi_client.text_to_image.get(task.id) == finished


def test_replayed_key_returns_the_same_task_and_charges_once(
    sandbox: RunningSandbox, runapi_client: GptImage2Client
) -> None:
    first = runapi_client.text_to_image.create(options=make_key_options("order-1"), **ORDER_PARAMS)
    replayed = runapi_client.text_to_image.create(options=make_key_options("order-1"), **ORDER_PARAMS)
    assert (first.task_replayed, replayed.task_replayed) == (None, True)
    assert replayed.id == first.id == replayed.runapi_task_id
    [charge] = sandbox.list_charges("runapi")
    assert (charge["id"], charge["idempotency_key"]) == (first.id, "order-1")


def test_key_with_other_input_is_a_conflict(sandbox: RunningSandbox, runapi_client: GptImage2Client) -> None:
    runapi_client.text_to_image.create(options=make_key_options("order-1"), **ORDER_PARAMS)
    with pytest.raises(sdk_errors.ConflictError) as conflict:
        runapi_client.text_to_image.create(options=make_key_options("order-1"), **{**ORDER_PARAMS, "prompt": "another"})
    assert (conflict.value.status, conflict.value.code) == (409, None)
    assert len(sandbox.list_charges("runapi")) == 1


def test_lost_response_with_a_key_is_retried_into_the_same_task(
    sandbox: RunningSandbox, runapi_client: GptImage2Client
) -> None:
    sandbox.inject_fault("reset_after", vendor="runapi", times=1)
    task = runapi_client.text_to_image.create(options=make_key_options("order-1"), **ORDER_PARAMS)
    assert task.task_replayed is True
    assert [charge["id"] for charge in sandbox.list_charges("runapi")] == [task.id]


def test_lost_response_without_a_key_is_charged_and_raises(
    sandbox: RunningSandbox, runapi_client: GptImage2Client
) -> None:
    """`run()` and `create()` send no idempotency key, although RunAPI's README says so."""
    sandbox.inject_fault("reset_after", vendor="runapi", times=1)
    with pytest.raises(sdk_errors.NetworkError):
        runapi_client.text_to_image.run(**ORDER_PARAMS)
    [charge] = sandbox.list_charges("runapi")
    assert charge["idempotency_key"] is None


def test_failed_task_has_a_message_and_is_not_charged(sandbox: RunningSandbox, runapi_client: GptImage2Client) -> None:
    sandbox.inject_fault("fail", vendor="runapi", times=1, message="The upstream model gave up")
    with pytest.raises(sdk_errors.TaskFailedError) as failure:
        runapi_client.text_to_image.run(**ORDER_PARAMS)
    assert failure.value.message == "The upstream model gave up"
    assert failure.value.details.keys() == {"id", "status", "error"}
    assert failure.value.runapi_task_id == failure.value.details["id"]
    assert sandbox.list_charges("runapi") == []


def test_unreadable_source_fails_the_task(sandbox: RunningSandbox, runapi_client: GptImage2Client) -> None:
    with pytest.raises(sdk_errors.TaskFailedError, match="could not be read"):
        runapi_client.edit_image.run(**ORDER_PARAMS, source_image_urls=[f"{sandbox.url}/_/nothing.png"])
    assert sandbox.list_charges("runapi") == []


def test_empty_success_is_accepted_by_the_sdk(sandbox: RunningSandbox, runapi_client: GptImage2Client) -> None:
    sandbox.inject_fault("empty_outputs", vendor="runapi", times=1)
    result = runapi_client.text_to_image.run(**ORDER_PARAMS)
    assert (result.images, result.usage.cost) == ([], 0.06)


def test_balance_in_cents_follows_every_order(sandbox: RunningSandbox, runapi_client: GptImage2Client) -> None:
    sandbox.set_balance("runapi", "10")
    sandbox.hold_orders(vendor="runapi")
    assert runapi_client.account.info().account.name
    task = runapi_client.text_to_image.create(**ORDER_PARAMS, aspect_ratio="3:2", output_resolution="4k")
    reserved = runapi_client.account.balance()
    assert (reserved.balance_cents, reserved.spent_cents_total) == (984, 0)
    sandbox.release_orders()
    polling = PollingOptions(poll_interval=0.05, max_wait=60)
    runapi_client.text_to_image._poll_until_complete(lambda: runapi_client.text_to_image.get(task.id), polling)
    settled = runapi_client.account.balance()
    assert settled.to_dict() == {
        "balance_cents": 984,
        "paid_balance_cents": 984,
        "bonus_balance_cents": 0,
        "spent_cents_today": 16,
        "spent_cents_total": 16,
    }


def test_public_prices_match_the_charges(
    sandbox: RunningSandbox, runapi_url: str, runapi_client: GptImage2Client
) -> None:
    public = PricingClient(base_url=runapi_url)
    try:
        [schedule] = public.list_schedules(service="gpt-image-2", action="text_to_image").price_schedules
        quote = public.create_quote("gpt_image_2", "text_to_image", params={"output_resolution": "2k"}).price_quote
    finally:
        public._http.close()
    assert (schedule.unit_price_cents, schedule.currency, schedule.billing_unit) == (6, "USD", "call")
    assert schedule.billing_config.to_dict() == {"key": "output_resolution", "overrides": {"2k": 10, "4k": 16}}
    cost = runapi_client.text_to_image.run(**ORDER_PARAMS, aspect_ratio="3:2", output_resolution="2k").usage.cost
    assert quote.reservation_amount_cents == cost * 100 == sandbox.sum_charges_usd("runapi") * 100


def test_unchanged_prices_are_not_sent_again(runapi_client: GptImage2Client) -> None:
    etag = runapi_client.pricing.list_schedules().response_header("etag")
    assert runapi_client.pricing.list_schedules(options=RequestOptions(headers={"If-None-Match": etag})) is None


def test_client_reference_is_echoed_and_on_the_invoice(sandbox: RunningSandbox, runapi_client: GptImage2Client) -> None:
    reference = RequestOptions(headers={"X-Client-Request-Id": "job-17"})
    task = runapi_client.text_to_image.create(options=reference, **ORDER_PARAMS)
    assert task.response_header("X-Client-Request-Id") == "job-17"
    assert runapi_client.text_to_image.get(task.id).response_header("X-Client-Request-Id") is None
    assert [charge["client_ref"] for charge in sandbox.list_charges("runapi")] == ["job-17"]
    with pytest.raises(sdk_errors.NotFoundError) as missing:
        runapi_client.text_to_image.get("unknown", options=reference)
    assert missing.value.response_header("X-Client-Request-Id") == "job-17"


def test_location_of_a_202_leads_to_the_result(sandbox: RunningSandbox, runapi_client: GptImage2Client) -> None:
    with sandbox.override_switches("runapi", create_code=202):
        task = runapi_client.text_to_image.create(**ORDER_PARAMS)
        result = runapi_client.text_to_image.subscribe(task.response_header("Location"))
        assert result == runapi_client.text_to_image.get(task.id)
        sandbox.inject_fault("fail", vendor="runapi", times=1)
        failing = runapi_client.text_to_image.create(**ORDER_PARAMS)
        with pytest.raises(sdk_errors.TaskFailedError):
            runapi_client.text_to_image.subscribe(failing.response_header("Location"))
