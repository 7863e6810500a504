"""All goes well: every seller delivers what was asked, for what it charges."""

from base64 import b64encode
from typing import Any

import pytest

from tests.clients.pictures import drawn
from tests.flow.configuration import SELLERS, VENDOR
from tests.flow.gateways import Flow

EACH = pytest.mark.parametrize("seller", SELLERS)
MASKING = pytest.mark.parametrize("seller", ["runflow-runs", "runflow-run", "openai"])
# How many images a seller makes of one order; a larger request is split.
AT_ONCE = {"runflow-runs": 4, "runflow-run": 4, "runapi": 1, "openai": 10}
# What a square picture of 1k for `PROMPT` costs: RunAPI does not let us choose its quality.
RUNFLOW = {"low": 9_000, "medium": 34_000, "high": 133_000}
PRICES = {
    "runflow-runs": RUNFLOW,
    "runflow-run": RUNFLOW,
    "runapi": dict.fromkeys(RUNFLOW, 60_000),
    "openai": {"low": 5_875, "medium": 52_705, "high": 210_745},
}
TIERS = {"1k": (1024, 1024), "2k": (2048, 2048), "4k": (3840, 2160)}
FORMATS = ["png", "jpeg", "webp"]


def in_bytes(data: bytes) -> dict[str, str]:
    return {"b64_json": b64encode(data).decode()}


def in_data_uri(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{b64encode(data).decode()}"


def is_near(size: tuple[int, int], wanted: tuple[int, int]) -> bool:
    """In its ratio, and by its pixels in its tier: all that is known of a seller who takes no pixels."""
    ratio = (size[0] / size[1]) / (wanted[0] / wanted[1])
    return abs(ratio - 1) <= 0.02 and 0.5 <= (size[0] * size[1]) / (wanted[0] * wanted[1]) <= 2


def captured(flow: Flow, seller: str) -> int:
    """All that is booked, which is this seller's captures and nothing else."""
    [(where, amount)] = flow.booked().items()
    assert where == (seller, "capture")
    return amount


@EACH
@pytest.mark.parametrize("n", range(1, 11))
def test_every_number_of_images_comes_from_every_seller(flow: Flow, seller: str, n: int) -> None:
    job = flow.buy(seller, n=n, quality="low")
    assert job["status"] == "completed"
    assert [one["index"] for one in job["images"]] == list(range(n))
    assert {one["seller"] for one in job["images"]} == {seller}
    assert [one.size for one in flow.pictures(job)] == [(1024, 1024)] * n
    assert len(job["attempts"]) == flow.orders(seller) == -(-n // AT_ONCE[seller])
    assert round(job["usage"]["cost"] * 1_000_000) == captured(flow, seller)


@EACH
@pytest.mark.parametrize("quality", ["low", "medium", "high"])
def test_every_quality_is_bought_for_its_price(flow: Flow, seller: str, quality: str) -> None:
    job = flow.buy(seller, quality=quality)
    assert job["status"] == "completed"
    assert captured(flow, seller) == PRICES[seller][quality]


@EACH
@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_comes_at_its_size(flow: Flow, seller: str, tier: str) -> None:
    wanted = TIERS[tier]
    job = flow.buy(seller, size=f"{wanted[0]}x{wanted[1]}")
    [picture] = flow.pictures(job)
    assert picture.size == wanted or (seller == "runapi" and is_near(picture.size, wanted))
    assert job["images"][0]["size"] == f"{picture.width}x{picture.height}"


@EACH
@pytest.mark.parametrize("aspect_ratio", ["3:2", "9:16"])
def test_a_ratio_and_a_tier_are_as_good_as_pixels(flow: Flow, seller: str, aspect_ratio: str) -> None:
    job = flow.buy(seller, resolution="2k", aspect_ratio=aspect_ratio)
    [picture] = flow.pictures(job)
    across, _, down = aspect_ratio.partition(":")
    assert abs(picture.width / picture.height * int(down) / int(across) - 1) <= 0.02
    assert 1_572_864 < picture.width * picture.height <= 4_194_304


@EACH
@pytest.mark.parametrize("wanted", FORMATS)
def test_every_format_comes_whether_it_is_ordered_or_converted_here(flow: Flow, seller: str, wanted: str) -> None:
    job = flow.buy(seller, output_format=wanted)
    [picture] = flow.pictures(job)
    assert picture.format == wanted.upper()
    assert job["images"][0]["output_format"] == wanted
    assert captured(flow, seller) > 0


def given(kind: str, data: bytes) -> Any:
    return {
        "bytes": in_bytes(data),
        "data_uri": in_data_uri(data),
        "data_uri_object": {"image_url": in_data_uri(data)},
    }[kind]


@EACH
@pytest.mark.parametrize("kind", ["bytes", "data_uri", "data_uri_object"])
def test_an_edit_takes_its_input_however_it_is_given(flow: Flow, seller: str, kind: str) -> None:
    job = flow.buy(seller, operation="edit", image=given(kind, drawn(640, 640)), quality="low")
    assert job["status"] == "completed"
    assert [one.size for one in flow.pictures(job)] == [(1024, 1024)]
    assert captured(flow, seller) > 0


@EACH
def test_several_images_are_edited_from_several_inputs(flow: Flow, seller: str) -> None:
    """More than all but one of the sellers take at once."""
    inputs = [in_data_uri(drawn(512, 512)), in_bytes(drawn(300, 300, "JPEG")), in_bytes(drawn(256, 256, "WEBP"))]
    job = flow.buy(seller, operation="edit", images=inputs, n=5, size="1024x1024")
    assert len(flow.pictures(job)) == 5
    assert captured(flow, seller) > 0


def test_an_input_is_uploaded_once_however_many_orders_a_job_takes(flow: Flow) -> None:
    """RunAPI makes one picture of an order."""
    flow.buy("runapi", operation="edit", image=in_bytes(drawn(512, 512)))
    once = len(flow.sandbox.requests("runapi", "upload"))
    flow.buy("runapi", operation="edit", image=in_bytes(drawn(512, 512)), n=4)
    assert flow.orders("runapi") == 1 + 4
    assert len(flow.sandbox.requests("runapi", "upload")) == 2 * once > 0


@EACH
def test_an_input_too_large_for_a_data_uri_is_uploaded(flow: Flow, seller: str) -> None:
    data = flow.sandbox.sample(1536, 1024)
    data += b"\0" * max(0, (1 << 20) + 1 - len(data))
    job = flow.buy(seller, operation="edit", image=in_bytes(data), size="1024x1024")
    assert job["status"] == "completed"
    assert captured(flow, seller) > 0


@EACH
@pytest.mark.parametrize("wanted", FORMATS)
def test_an_edit_comes_in_every_format(flow: Flow, seller: str, wanted: str) -> None:
    job = flow.buy(seller, operation="edit", image=in_bytes(drawn(512, 512)), output_format=wanted)
    assert [one.format for one in flow.pictures(job)] == [wanted.upper()]


@MASKING
def test_an_edit_with_a_mask_is_bought_where_masks_are_taken(flow: Flow, seller: str) -> None:
    mask = in_bytes(drawn(512, 512, mode="RGBA"))
    job = flow.buy(seller, operation="edit", image=in_bytes(drawn(512, 512)), mask=mask)
    assert job["status"] == "completed"
    assert captured(flow, seller) > 0


def test_a_mask_is_not_sold_by_runapi(flow: Flow) -> None:
    image, mask = in_bytes(drawn(512, 512)), in_bytes(drawn(512, 512, mode="RGBA"))
    wishes = {"prompt": "x", "operation": "edit", "image": image, "mask": mask, "provider": {"only": ["runapi"]}}
    answer = flow.gateway.ask(wishes)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "no_offer"
    assert "mask" in answer.json()["error"]["message"]
    assert flow.sandbox.requests("runapi") == []


def test_an_input_within_our_own_network_is_not_fetched(flow: Flow) -> None:
    wishes = {"prompt": "x", "operation": "edit", "image": f"{flow.sandbox.url}/_/sample.png"}
    answer = flow.gateway.ask(wishes)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_image_url"
    assert answer.json()["error"]["param"] == "image"
    assert flow.entries() == []


def test_the_cheapest_seller_flips_with_the_request(flow: Flow) -> None:
    """By quality at one, by size at the other: what is cheap here is dear there."""
    low, high = flow.ask(quality="low", size="2048x2048"), flow.ask(quality="high", size="1024x1024")
    assert {one["seller"] for one in low["images"]} == {"openai"}
    assert {one["seller"] for one in high["images"]} == {"runapi"}


@pytest.mark.parametrize("response_format", ["b64_json", "url"])
@EACH
def test_openais_own_route_gives_the_same_pictures(flow: Flow, seller: str, response_format: str) -> None:
    body = {"prompt": "x", "n": 2, "response_format": response_format, "provider": {"only": [seller]}}
    answer = flow.gateway.generate(body)
    assert answer.status_code == 200
    assert answer.headers["x-igw-seller"] == seller
    data = answer.json()["data"]
    assert len(data) == 2
    assert all(response_format in one for one in data)
    if response_format == "url":
        assert [flow.picture(one["url"]).size for one in data] == [(1024, 1024)] * 2
    assert round(float(answer.headers["x-igw-cost-usd"]) * 1_000_000) == captured(flow, seller)


@EACH
def test_an_order_that_may_not_be_sent_twice_has_a_connection_of_its_own(flow: Flow, seller: str) -> None:
    """One that was kept open may be dead, and then nobody could tell whether the order arrived."""
    flow.buy(seller)
    flow.buy(seller)
    orders = flow.sandbox.requests(VENDOR[seller], "submit")
    is_repeatable = seller == "runapi"
    assert [entry["headers"].get("connection") == "close" for entry in orders] == [not is_repeatable] * 2
