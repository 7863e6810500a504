"""Edits whose input image is a URL: it is fetched once, checked, stored, and sent to the seller."""

import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.flow.flow_config import (
    API_KEY,
    BACKUP_BY_SELLER,
    EACH_SELLER,
    OPENAI,
    RUNAPI,
    RUNFLOW_RUN,
    RUNFLOW_RUNS,
    SELLERS,
    VENDOR_BY_SELLER,
    GatewaySetup,
)
from tests.flow.gateway_on_store import GatewayAndStore, run_gateway_on_store
from tests.flow.job_checks import get_attempted_sellers
from tests.flow.order_flow import OrderFlow
from tests.flow.public_site import OTHER_HOST_NAME, PublicSite, run_public_site
from tests.harness.batch_client import EDITS, count_results, make_line, make_sdk_client, read_results, run_batch
from tests.harness.image_bytes import make_png, make_png_chunk
from tests.harness.sample_images import make_image
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import FAST_TIMINGS, change_timing

MAX_INPUT_BYTES, FETCH_TIMEOUT_SECONDS = 2_000_000, 2.0
SETUP = GatewaySetup(
    timing=change_timing(
        FAST_TIMINGS,
        inputs={"max_image_bytes": MAX_INPUT_BYTES, "download_timeout_seconds": FETCH_TIMEOUT_SECONDS},
    )
)
IMAGE = make_image(640, 640)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PublicSite]:
    with run_public_site(tmp_path_factory.mktemp("web")) as web:
        yield web


@pytest.fixture(scope="module")
def gateway_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inputs")


@pytest.fixture(scope="module")
def gateway_and_store(
    gateway_folder: Path, web: PublicSite, sandbox_process: RunningSandbox
) -> Iterator[GatewayAndStore]:
    with run_gateway_on_store("sqlite", gateway_folder, sandbox_process, web.add_to_setup(SETUP)) as running:
        yield running


@pytest.fixture(autouse=True)
def _clear_site(web: PublicSite) -> None:
    web.pages.clear()
    web.request_counts.clear()


def has_received_image(flow: OrderFlow, seller: str, data: bytes) -> bool:
    """Whether the seller's last order contains these bytes: as a file, as a data URI, or behind its image URL."""
    body = str(flow.sandbox.list_requests(VENDOR_BY_SELLER[seller], "submit")[-1]["body"])
    if seller == OPENAI:
        # The sandbox shows bodies as text, with replacement characters for bytes that are not UTF-8.
        return data.decode("utf-8", "replace") in body
    order = json.loads(body)
    [link] = order.get("source_image_urls") or order.get("input", order)["image_urls"]
    if link.startswith("data:"):
        return bool(link.partition(",")[2] == b64encode(data).decode())
    return httpx.get(link, trust_env=False).raise_for_status().content == data


def read_stored_input(gateway_folder: Path, job_id: str) -> bytes:
    [path] = gateway_folder.rglob(f"{job_id}.input-0.*")
    return path.read_bytes()


def order_edit(flow: OrderFlow, image: object, seller: str, **params: Any) -> dict[str, Any]:
    return flow.order_images(seller, operation="edit", image=image, size="1024x1024", **params)


@EACH_SELLER
def test_input_image_url_is_fetched_once_stored_and_sent_to_the_seller(
    flow: OrderFlow, web: PublicSite, gateway_folder: Path, seller: str
) -> None:
    image_url = web.add_page("/image.png", IMAGE, content_type="image/png")
    job = order_edit(flow, image_url, seller)
    assert job["status"] == "completed"
    assert [image.size for image in flow.fetch_images(job)] == [(1024, 1024)]
    assert web.request_counts == {"/image.png": 1}
    assert read_stored_input(gateway_folder, job["id"]) == IMAGE
    assert has_received_image(flow, seller, IMAGE)


def test_time_of_a_slow_image_url_does_not_count_as_overhead(flow: OrderFlow, web: PublicSite) -> None:
    image_url = web.add_page("/slow.png", 1.0, IMAGE)
    before = flow.gateway.read_metric("igw_http_overhead_seconds_sum")
    assert order_edit(flow, image_url, RUNAPI)["status"] == "completed"
    assert 0 < flow.gateway.read_metric("igw_http_overhead_seconds_sum") - before < 0.9


@pytest.mark.parametrize("seller", [RUNFLOW_RUNS, RUNFLOW_RUN, RUNAPI])
def test_fetched_image_too_large_for_a_data_uri_is_uploaded_unchanged(
    flow: OrderFlow, web: PublicSite, seller: str
) -> None:
    large = IMAGE + bytes(1 << 20)
    job = order_edit(flow, {"image_url": web.add_page("/large.png", large)}, seller)
    assert job["status"] == "completed"
    assert has_received_image(flow, seller, large)


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_large_image_is_read_completely_with_and_without_keep_alive(
    flow: OrderFlow, web: PublicSite, gateway_folder: Path, connection: str
) -> None:
    large = IMAGE + bytes(1 << 20)
    job = order_edit(flow, web.add_page("/large.png", large, connection=connection), OPENAI)
    assert read_stored_input(gateway_folder, job["id"]) == large


@EACH_SELLER
def test_image_type_comes_from_the_bytes_not_from_the_content_type(
    flow: OrderFlow, web: PublicSite, gateway_folder: Path, seller: str
) -> None:
    """The stored file's name has the real type as well."""
    jpeg = make_image(512, 512, "JPEG")
    job = order_edit(flow, web.add_page("/image.png", jpeg, content_type="image/png"), seller)
    assert job["status"] == "completed"
    assert [path.suffix for path in gateway_folder.rglob(f"{job['id']}.input-0.*")] == [".jpeg"]
    assert has_received_image(flow, seller, jpeg)


@EACH_SELLER
def test_failover_sends_the_stored_image_without_fetching_it_again(
    flow: OrderFlow, web: PublicSite, seller: str
) -> None:
    flow.sandbox.inject_fault("refuse", vendor=VENDOR_BY_SELLER[seller], times=1)
    image = web.add_page("/image.png", IMAGE)
    job = flow.order_with_failover(seller, operation="edit", image=image, size="1024x1024")
    assert get_attempted_sellers(job) == [seller, BACKUP_BY_SELLER[seller]]
    assert has_received_image(flow, BACKUP_BY_SELLER[seller], IMAGE)
    assert web.request_counts == {"/image.png": 1}


def test_several_input_image_urls_and_a_mask_keep_their_order(flow: OrderFlow, web: PublicSite) -> None:
    first, second = make_image(320, 320), make_image(480, 480, "WEBP")
    images = [web.add_page("/first.png", first), {"image_url": web.add_page("/second.webp", second)}]
    mask = web.add_page("/mask.png", make_image(320, 320, mode="RGBA"))
    job = flow.order_images(RUNFLOW_RUNS, operation="edit", images=images, mask=mask, size="1024x1024", n=5)
    assert len(flow.fetch_images(job)) == 5
    order_input = json.loads(flow.sandbox.list_requests("runflow", "submit")[-1]["body"])["input"]
    assert [link.partition(",")[2] for link in order_input["image_urls"]] == [
        b64encode(image_bytes).decode() for image_bytes in (first, second)
    ]
    assert web.request_counts == {"/first.png": 1, "/second.webp": 1, "/mask.png": 1}


def test_edit_has_the_aspect_ratio_of_the_fetched_image(flow: OrderFlow, web: PublicSite) -> None:
    job = flow.order_images(OPENAI, operation="edit", image=web.add_page("/wide.png", make_image(960, 640)))
    [image] = flow.fetch_images(job)
    assert image.width / image.height == pytest.approx(1.5, rel=0.02)


@pytest.mark.parametrize("status", [301, 302, 307])
def test_redirect_to_a_public_url_is_followed(flow: OrderFlow, web: PublicSite, status: int) -> None:
    web.add_page("/image.png", IMAGE)
    web.add_page("/moved", status=status, location=web.make_url("/image.png", OTHER_HOST_NAME))
    job = order_edit(flow, web.add_page("/old", status=status, location="/moved"), OPENAI)
    assert job["status"] == "completed"
    assert web.request_counts == {"/old": 1, "/moved": 1, "/image.png": 1}
    assert has_received_image(flow, OPENAI, IMAGE)


# --- rejected URLs


def add_invalid_pages(web: PublicSite, flow: OrderFlow) -> dict[str, str]:
    """Adds the pages, and returns URLs that lead to no valid input image."""
    chunk = bytes(1 << 16)
    return {
        "missing": web.make_url("/missing"),
        "forbidden": web.add_page("/forbidden", status=403),
        "broken": web.add_page("/broken", status=500),
        "page": web.add_page("/page", b"<!doctype html><title>An image</title>", content_type="image/png"),
        "empty": web.add_page("/empty"),
        "cut-off": web.add_page("/cut", IMAGE[:-20]),
        "too-large": web.add_page("/large", content_length=str(MAX_INPUT_BYTES + 1)),
        "endless": web.add_page("/endless", *[chunk] * (MAX_INPUT_BYTES // len(chunk) + 2), None),
        "slow": web.add_page("/slow", IMAGE[:100], None),
        "redirect-loop": web.add_page("/redirect-loop", status=302, location="/redirect-loop"),
        "no-location": web.add_page("/no-location", status=302),
        "private-address": web.add_page("/private-address", status=302, location=f"{flow.sandbox.url}/_/sample.png"),
        "private-address-by-tls": web.add_page(
            "/private-address-by-tls", status=302, location="https://127.0.0.1/sample.png"
        ),
        "plain-http": web.add_page("/plain-http", status=302, location="http://images.example/image.png"),
        "unknown-host": "https://no-such-name.invalid/image.png",
        "password": web.make_url("/image.png").replace("//", "//user:password@"),
        "other-port": web.make_url("/image.png").replace(".example", ".example:8443"),
        "file": "file:///etc/hostname",
    }


ERROR_CODES = {
    "page": "unsupported_image_media_type",
    "empty": "empty_image_file",
    "cut-off": "invalid_image",
}
# The message gives no reason for a URL that was not requested.
ERROR_MESSAGES = {
    "missing": ": its server answered with status 404.",
    "forbidden": ": its server answered with status 403.",
    "broken": ": its server answered with status 500.",
    "too-large": ": it is larger than",
    "endless": ": it is larger than",
    "slow": ": it did not arrive in time.",
    **dict.fromkeys(
        ("private-address", "private-address-by-tls", "plain-http", "password", "file"),
        "could not be downloaded. Use a public https:// URL, or send the image. You were not charged.",
    ),
}
INVALID_PAGES = [
    *("missing", "forbidden", "broken", "page", "empty", "cut-off", "too-large", "endless", "slow", "redirect-loop"),
    *(
        "no-location",
        "private-address",
        "private-address-by-tls",
        "plain-http",
        "unknown-host",
        "password",
        "other-port",
        "file",
    ),
]


@pytest.mark.parametrize("page", INVALID_PAGES)
def test_url_without_a_valid_image_is_rejected_without_any_order(flow: OrderFlow, web: PublicSite, page: str) -> None:
    urls = add_invalid_pages(web, flow)
    web.add_page("/image.png", IMAGE)
    answer = flow.gateway.post_job({"prompt": "x", "operation": "edit", "image": urls[page], "size": "1024x1024"})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["code"] == ERROR_CODES.get(page, "invalid_image_url")
    assert error["param"] == "image"
    assert "'image'" in error["message"]
    assert ERROR_MESSAGES.get(page, "") in error["message"]
    assert "/image.png" not in web.request_counts
    assert sum(flow.count_orders(seller) for seller in SELLERS) == 0
    assert flow.read_ledger_entries() == []


def test_batch_line_with_a_damaged_linked_image_is_not_ordered(flow: OrderFlow, web: PublicSite) -> None:
    """Linked images are read when their line is ordered: the other lines of the batch are not affected."""
    damaged = make_png(64, 64, make_png_chunk(b"IDAT", b"no zlib data"), make_png_chunk(b"IEND", b""))
    urls = [web.add_page(f"/{number}.png", image) for number, image in enumerate((damaged, IMAGE))]
    lines = [
        make_line(number, EDITS, images=[{"image_url": url}], provider={"only": [RUNAPI]})
        for number, url in enumerate(urls)
    ]
    with make_sdk_client(flow.gateway.url, API_KEY) as client:
        ended = run_batch(client, lines, EDITS)
        assert (ended.status, count_results(ended)) == ("completed", (2, 1, 1))
        [line] = read_results(client, ended.error_file_id).values()
    assert (line["custom_id"], line["response"]["status_code"]) == ("request-0", 400)
    error = line["response"]["body"]["error"]
    assert (error["code"], error["param"]) == ("invalid_image", "images")
    assert "not charged" in error["message"]
    assert flow.count_orders(RUNAPI) == 1
