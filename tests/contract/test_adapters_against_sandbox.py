"""Every adapter against the simulated vendors over real sockets: the images and charges of its orders."""

from itertools import product
from typing import Any

import pytest
from msgspec import structs

from providers import ADAPTERS
from providers.charge_list import ChargePage, ChargeQuery
from providers.faults import ChargeStatus, FaultKind
from providers.image_sizes import RATIO_TOLERANCE, RATIOS, compute_ratio_error, parse_ratio
from providers.order_status import Accepted, NoAnswer, Ready
from providers.orders import Feature, Format, ImageBytes, Operation, PixelSize, PresetSize, RatioSize
from tests.contract.simulated_sellers import (
    EACH_POLLED_SELLER,
    EACH_SELLER,
    SANDBOX_ACCOUNTS,
    VENDORS_BY_SELLER,
    list_simulated_sellers,
    make_driver,
    make_mask,
    make_order,
    make_wide_size,
    read_image_info,
)
from tests.harness.image_model import FORMATS, QUALITIES, RESOLUTIONS, SIZE_LAW
from tests.harness.sandbox_runner import RunningSandbox


@EACH_SELLER
def test_order_delivers_one_image_and_is_charged_once(sandbox: RunningSandbox, name: str) -> None:
    driver = make_driver(sandbox, name)
    ready = driver.submit_and_poll(make_order(driver.adapter))
    (data,) = driver.fetch_images(ready)
    width, height, kind = read_image_info(data)
    assert (width / height, kind) == (pytest.approx(16 / 9, rel=0.02), "png")
    (charge,) = sandbox.list_charges()
    assert charge["vendor"] == VENDORS_BY_SELLER[name]
    assert charge["idempotency_key"] == ("igw-test-1" if driver.adapter.has_idempotency_key else None)
    assert isinstance(ready, Ready)
    if ready.cost is not None:
        assert ready.cost == charge["usd_micros"]


@pytest.mark.parametrize("name", list_simulated_sellers(Feature.PIXEL_SIZE, Feature.QUALITY, Feature.OUTPUT_FORMAT))
@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("kind", FORMATS)
def test_quality_format_and_pixel_size_are_as_ordered(
    sandbox: RunningSandbox, name: str, quality: str, kind: Format
) -> None:
    driver = make_driver(sandbox, name)
    placed_order = make_order(driver.adapter, quality=quality, output_format=kind, size=PixelSize(1088, 640))
    (data,) = driver.fetch_images(driver.submit_and_poll(placed_order))
    assert read_image_info(data) == (1088, 640, kind)
    if VENDORS_BY_SELLER[name] == "runflow":
        assert sandbox.list_charges()[0]["usd_micros"] == {"low": 9_000, "medium": 34_000, "high": 133_000}[quality]


@pytest.mark.parametrize("name", list_simulated_sellers(Feature.MULTIPLE_IMAGES))
def test_one_order_delivers_multiple_images(sandbox: RunningSandbox, name: str) -> None:
    driver = make_driver(sandbox, name)
    max_images = driver.adapter.capabilities.max_images
    images = driver.fetch_images(driver.submit_and_poll(make_order(driver.adapter, image_count=max_images)))
    assert len(set(images)) == max_images
    (charge,) = sandbox.list_charges()
    assert charge["images"] == max_images


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    ("ratio", "resolution"), [pair for pair in product(RATIOS, RESOLUTIONS) if pair != ("1:1", "4k")]
)
def test_runapi_renders_every_ratio_in_every_resolution(sandbox: RunningSandbox, ratio: str, resolution: str) -> None:
    driver = make_driver(sandbox, "runapi")
    (data,) = driver.fetch_images(driver.submit_and_poll(make_order(driver.adapter, size=RatioSize(ratio, resolution))))
    width, height, _ = read_image_info(data)
    assert compute_ratio_error(parse_ratio(f"{width}:{height}"), parse_ratio(ratio)) <= RATIO_TOLERANCE
    assert SIZE_LAW.resolution_from_pixels(width, height) == resolution
    assert sandbox.list_charges()[0]["usd_micros"] == {"1k": 60_000, "2k": 100_000, "4k": 160_000}[resolution]


@pytest.mark.parametrize("name", list_simulated_sellers(Feature.PRESET_SIZE))
@pytest.mark.parametrize(
    "preset", ["square_hd", "square", "portrait_4_3", "portrait_16_9", "landscape_4_3", "landscape_16_9"]
)
def test_runflow_accepts_every_preset(sandbox: RunningSandbox, name: str, preset: str) -> None:
    driver = make_driver(sandbox, name)
    assert isinstance(driver.submit_and_poll(make_order(driver.adapter, size=PresetSize(preset))), Ready)


@pytest.mark.parametrize(
    ("name", "transport_class"),
    [(name, type(route)) for name in SANDBOX_ACCOUNTS for route in ADAPTERS[name].input_transports],
)
@pytest.mark.parametrize("count", [1, 3])
def test_edit_accepts_inputs_by_every_transport(
    sandbox: RunningSandbox, name: str, transport_class: type[Any], count: int
) -> None:
    driver = make_driver(sandbox, name)
    image = ImageBytes(sandbox.fetch_sample_image(640, 320), "image/png", "in.png")
    input_images = tuple(driver.upload_input(image, transport_class) for _ in range(count))
    features = driver.adapter.capabilities.edit_features
    edit = make_order(
        driver.adapter,
        operation=Operation.EDIT,
        input_images=input_images,
        mask=driver.upload_input(make_mask(640, 320), transport_class) if Feature.MASK in features else None,
        size=make_wide_size(driver.adapter),
    )
    (data,) = driver.fetch_images(driver.submit_and_poll(edit))
    width, height, _ = read_image_info(data)
    assert width / height == pytest.approx(2, rel=0.03)


@EACH_POLLED_SELLER
def test_resent_order_returns_same_ticket_and_is_charged_once(sandbox: RunningSandbox, name: str) -> None:
    driver = make_driver(sandbox, name)
    first, second = driver.submit(make_order(driver.adapter)), driver.submit(make_order(driver.adapter))
    assert isinstance(first, Accepted)
    assert second.id == first.id
    driver.submit_and_poll(make_order(driver.adapter))
    assert len(sandbox.list_charges()) == 1


@EACH_POLLED_SELLER
def test_reused_key_with_other_body_is_conflict_with_unknown_outcome(sandbox: RunningSandbox, name: str) -> None:
    driver = make_driver(sandbox, name)
    driver.submit(make_order(driver.adapter))
    conflict = driver.submit(make_order(driver.adapter, prompt="something else"))
    assert isinstance(conflict, NoAnswer)
    assert conflict.fault.kind is FaultKind.IDEMPOTENCY_CONFLICT


@pytest.mark.parametrize("search_count", [0, 1])
def test_run_is_found_by_reference_in_either_filter_spelling(sandbox: RunningSandbox, search_count: int) -> None:
    driver = make_driver(sandbox, "runflow_runs")
    for number in (1, 2, 3):
        driver.submit(make_order(driver.adapter, number))
    (ticket,) = driver.search_orders("igw-test-2", search_count)
    assert driver.poll_until_final(ticket).reference == "igw-test-2"
    assert driver.search_orders("igw-test-4", search_count) == []


def test_order_with_lost_response_is_found_and_charged_once(sandbox: RunningSandbox) -> None:
    driver = make_driver(sandbox, "runflow_runs")
    sandbox.inject_fault("reset_after", vendor="runflow", times=1)
    unanswered = driver.submit(make_order(driver.adapter))
    assert isinstance(unanswered, NoAnswer)
    assert unanswered.fault.charge_status is ChargeStatus.UNKNOWN
    (ticket,) = driver.search_orders("igw-test-1", 0)
    assert isinstance(driver.poll_until_final(ticket), Ready)
    assert len(sandbox.list_charges()) == 1


def test_runapi_header_names_task_of_truncated_body(sandbox: RunningSandbox) -> None:
    """The adapter trusts the header, so that a truncated body does not lead to a second order."""
    driver = make_driver(sandbox, "runapi")
    call = driver.adapter.submit.build_call(make_order(driver.adapter))
    answer = driver.send(call)
    assert not isinstance(answer, NoAnswer)
    accepted = driver.adapter.submit.read_answer(structs.replace(answer, body=answer.body[:-5]))
    assert isinstance(accepted, Accepted)
    assert accepted.id == driver.submit(make_order(driver.adapter)).id


@pytest.mark.parametrize("name", [name for name in list_simulated_sellers() if ADAPTERS[name].list_charges])
@pytest.mark.parametrize("cursors", ["first", "next_pq"])
def test_listed_charges_are_those_of_the_invoice(sandbox: RunningSandbox, name: str, cursors: str) -> None:
    driver = make_driver(sandbox, name)
    assert driver.adapter.list_charges is not None
    for number in (1, 2, 3):
        driver.submit_and_poll(make_order(driver.adapter, number))
    charged = {line["id"]: line["usd_micros"] for line in sandbox.list_charges()}
    with sandbox.override_switches("runflow", cursors=cursors):
        page = driver.call_endpoint(driver.adapter.list_charges, ChargeQuery(0.0))
        assert isinstance(page, ChargePage)
        assert {charge.order_id: charge.amount for charge in page.charges} == charged
        later = driver.call_endpoint(driver.adapter.list_charges, ChargeQuery(4e9))
    assert (len(charged), later) == (3, ChargePage(()))
