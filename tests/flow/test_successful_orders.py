"""Successful orders: every seller delivers what was requested, at its price."""

import time
from typing import Any

import pytest

from gateway.timeouts_and_intervals import ConnectionTiming
from tests.flow.flow_config import EACH_SELLER, VENDOR_BY_SELLER
from tests.flow.order_flow import OrderFlow
from tests.harness.sample_images import encode_b64_json, encode_data_uri, make_image

EACH_SELLER_WITH_MASKS = pytest.mark.parametrize("seller", ["runflow-runs", "runflow-run", "openai"])
# A larger request is split into several orders.
MAX_IMAGES_PER_ORDER = {"runflow-runs": 4, "runflow-run": 4, "runapi": 1, "openai": 10}
# Micro-USD for a 1024x1024 image of `PROMPT`, by quality. RunAPI has one price: its quality cannot be chosen.
RUNFLOW_PRICES = {"low": 9_000, "medium": 34_000, "high": 133_000}
PRICES = {
    "runflow-runs": RUNFLOW_PRICES,
    "runflow-run": RUNFLOW_PRICES,
    "runapi": dict.fromkeys(RUNFLOW_PRICES, 60_000),
    "openai": {"low": 5_875, "medium": 52_705, "high": 210_745},
}
TIERS = {"1k": (1024, 1024), "2k": (2048, 2048), "4k": (3840, 2160)}
FORMATS = ["png", "jpeg", "webp"]


def is_near_size(size: tuple[int, int], wanted: tuple[int, int]) -> bool:
    """Whether ratio and resolution tier match: RunAPI accepts no exact size."""
    ratio = (size[0] / size[1]) / (wanted[0] / wanted[1])
    return abs(ratio - 1) <= 0.02 and 0.5 <= (size[0] * size[1]) / (wanted[0] * wanted[1]) <= 2


def sum_captures(flow: OrderFlow, seller: str) -> int:
    """Returns the sum of the captures. Fails if anything else is booked."""
    [(ledger_key, amount)] = flow.sum_ledger_by_line().items()
    assert ledger_key == (seller, "capture")
    return amount


@pytest.mark.one_in(8)
@EACH_SELLER
@pytest.mark.parametrize("n", range(1, 11))
def test_every_seller_delivers_every_number_of_images(flow: OrderFlow, seller: str, n: int) -> None:
    job = flow.order_images(seller, n=n, quality="low")
    assert job["status"] == "completed"
    assert [image["index"] for image in job["images"]] == list(range(n))
    assert {image["seller"] for image in job["images"]} == {seller}
    assert [image.size for image in flow.fetch_images(job)] == [(1024, 1024)] * n
    assert len(job["attempts"]) == flow.count_orders(seller) == -(-n // MAX_IMAGES_PER_ORDER[seller])
    assert round(job["usage"]["cost"] * 1_000_000) == sum_captures(flow, seller)


@pytest.mark.one_in(4)
@EACH_SELLER
@pytest.mark.parametrize("quality", ["low", "medium", "high"])
def test_every_quality_costs_its_price(flow: OrderFlow, seller: str, quality: str) -> None:
    job = flow.order_images(seller, quality=quality)
    assert job["status"] == "completed"
    assert sum_captures(flow, seller) == PRICES[seller][quality]


@pytest.mark.one_in(4)
@EACH_SELLER
@pytest.mark.parametrize("tier", TIERS)
def test_every_resolution_is_delivered_in_its_size(flow: OrderFlow, seller: str, tier: str) -> None:
    wanted = TIERS[tier]
    job = flow.order_images(seller, size=f"{wanted[0]}x{wanted[1]}")
    [image] = flow.fetch_images(job)
    assert image.size == wanted or (seller == "runapi" and is_near_size(image.size, wanted))
    assert job["images"][0]["size"] == f"{image.width}x{image.height}"


@EACH_SELLER
@pytest.mark.parametrize("aspect_ratio", ["3:2", "9:16"])
def test_aspect_ratio_and_resolution_replace_a_pixel_size(flow: OrderFlow, seller: str, aspect_ratio: str) -> None:
    job = flow.order_images(seller, resolution="2k", aspect_ratio=aspect_ratio)
    [image] = flow.fetch_images(job)
    across, _, down = aspect_ratio.partition(":")
    assert abs(image.width / image.height * int(down) / int(across) - 1) <= 0.02
    assert 1_572_864 < image.width * image.height <= 4_194_304


@pytest.mark.one_in(4)
@EACH_SELLER
@pytest.mark.parametrize("wanted", FORMATS)
def test_every_output_format_is_delivered_natively_or_by_conversion(flow: OrderFlow, seller: str, wanted: str) -> None:
    job = flow.order_images(seller, output_format=wanted)
    [image] = flow.fetch_images(job)
    assert image.format == wanted.upper()
    assert job["images"][0]["output_format"] == wanted
    assert sum_captures(flow, seller) > 0


def encode_input(form: str, data: bytes) -> Any:
    return {
        "bytes": encode_b64_json(data),
        "data_uri": encode_data_uri(data),
        "data_uri_object": {"image_url": encode_data_uri(data)},
    }[form]


@pytest.mark.one_in(4)
@EACH_SELLER
@pytest.mark.parametrize("kind", ["bytes", "data_uri", "data_uri_object"])
def test_edit_accepts_every_form_of_inline_input_image(flow: OrderFlow, seller: str, kind: str) -> None:
    job = flow.order_images(seller, operation="edit", image=encode_input(kind, make_image(640, 640)), quality="low")
    assert job["status"] == "completed"
    assert [image.size for image in flow.fetch_images(job)] == [(1024, 1024)]
    assert sum_captures(flow, seller) > 0


@EACH_SELLER
def test_edit_accepts_several_input_images_for_several_outputs(flow: OrderFlow, seller: str) -> None:
    """Five images: more than all sellers but OpenAI make per order."""
    inputs = [
        encode_data_uri(make_image(512, 512)),
        encode_b64_json(make_image(300, 300, "JPEG")),
        encode_b64_json(make_image(256, 256, "WEBP")),
    ]
    job = flow.order_images(seller, operation="edit", images=inputs, n=5, size="1024x1024")
    assert len(flow.fetch_images(job)) == 5
    assert sum_captures(flow, seller) > 0


def test_input_image_is_uploaded_once_per_job_with_several_orders(flow: OrderFlow) -> None:
    """RunAPI makes one image per order."""
    flow.order_images("runapi", operation="edit", image=encode_b64_json(make_image(512, 512)))
    uploads_per_job = len(flow.sandbox.list_requests("runapi", "upload"))
    flow.order_images("runapi", operation="edit", image=encode_b64_json(make_image(512, 512)), n=4)
    assert flow.count_orders("runapi") == 1 + 4
    assert len(flow.sandbox.list_requests("runapi", "upload")) == 2 * uploads_per_job > 0


@EACH_SELLER
def test_input_image_too_large_for_a_data_uri_is_uploaded(flow: OrderFlow, seller: str) -> None:
    data = flow.sandbox.fetch_sample_image(1536, 1024)
    data += b"\0" * max(0, (1 << 20) + 1 - len(data))
    job = flow.order_images(seller, operation="edit", image=encode_b64_json(data), size="1024x1024")
    assert job["status"] == "completed"
    assert sum_captures(flow, seller) > 0


@pytest.mark.one_in(4)
@EACH_SELLER
@pytest.mark.parametrize("wanted", FORMATS)
def test_edit_is_delivered_in_every_output_format(flow: OrderFlow, seller: str, wanted: str) -> None:
    job = flow.order_images(seller, operation="edit", image=encode_b64_json(make_image(512, 512)), output_format=wanted)
    assert [image.format for image in flow.fetch_images(job)] == [wanted.upper()]


@EACH_SELLER_WITH_MASKS
def test_edit_with_mask_is_ordered_from_sellers_that_accept_masks(flow: OrderFlow, seller: str) -> None:
    mask = encode_b64_json(make_image(512, 512, mode="RGBA"))
    job = flow.order_images(seller, operation="edit", image=encode_b64_json(make_image(512, 512)), mask=mask)
    assert job["status"] == "completed"
    assert sum_captures(flow, seller) > 0


def test_mask_at_runapi_is_rejected_as_no_offer(flow: OrderFlow) -> None:
    image, mask = encode_b64_json(make_image(512, 512)), encode_b64_json(make_image(512, 512, mode="RGBA"))
    params = {"prompt": "x", "operation": "edit", "image": image, "mask": mask, "provider": {"only": ["runapi"]}}
    answer = flow.gateway.post_job(params)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "no_offer"
    assert "mask" in answer.json()["error"]["message"]
    assert flow.sandbox.list_requests("runapi") == []


def test_input_image_url_in_the_local_network_is_rejected(flow: OrderFlow) -> None:
    params = {"prompt": "x", "operation": "edit", "image": f"{flow.sandbox.url}/_/sample.png"}
    answer = flow.gateway.post_job(params)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_image_url"
    assert answer.json()["error"]["param"] == "image"
    assert flow.read_ledger_entries() == []


def test_cheapest_seller_depends_on_quality_and_size(flow: OrderFlow) -> None:
    """One seller's price depends on quality, the other's on size."""
    low, high = flow.run_job(quality="low", size="2048x2048"), flow.run_job(quality="high", size="1024x1024")
    assert {image["seller"] for image in low["images"]} == {"openai"}
    assert {image["seller"] for image in high["images"]} == {"runapi"}


@pytest.mark.parametrize("response_format", ["b64_json", "url"])
@EACH_SELLER
def test_openai_route_returns_images_as_base64_or_urls(flow: OrderFlow, seller: str, response_format: str) -> None:
    body = {"prompt": "x", "n": 2, "response_format": response_format, "provider": {"only": [seller]}}
    answer = flow.gateway.post_generation(body)
    assert answer.status_code == 200
    assert answer.headers["x-igw-seller"] == seller
    data = answer.json()["data"]
    assert len(data) == 2
    assert all(response_format in image for image in data)
    if response_format == "url":
        assert [flow.fetch_image(image["url"]).size for image in data] == [(1024, 1024)] * 2
    assert round(float(answer.headers["x-igw-cost-usd"]) * 1_000_000) == sum_captures(flow, seller)


@pytest.mark.parametrize("seller", ["runflow-runs", "runflow-run", "openai"])
def test_non_repeatable_order_uses_no_connection_that_was_idle_for_long(flow: OrderFlow, seller: str) -> None:
    """Such a connection may be dead, and then it may be unknown whether the order arrived."""
    flow.order_images(seller)
    time.sleep(ConnectionTiming().fresh_connection_seconds + 0.1)
    flow.order_images(seller)
    first, second = flow.sandbox.list_requests(VENDOR_BY_SELLER[seller], "submit")
    assert first["client_port"] != second["client_port"]
