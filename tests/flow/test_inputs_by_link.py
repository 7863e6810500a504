"""Edits whose input is an address: fetched once, looked at, kept, and sent to whichever seller takes the order."""

import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients.pictures import drawn
from tests.flow.asked import sellers
from tests.flow.configuration import BACKUP, SELLERS, VENDOR, Setup
from tests.flow.gateways import Flow
from tests.flow.places import Kept, kept_on
from tests.flow.public import OTHER_NAME, Web, serving
from tests.vendors import Vendors

RUNS, RUN, RUNAPI, OPENAI = SELLERS
EACH = pytest.mark.parametrize("seller", SELLERS)
MOST_BYTES, SECONDS = 2_000_000, 2.0
SETUP = Setup(
    constants={
        "gateway.upstream.input_fetcher.INPUT_LIMITS": {"most_bytes": MOST_BYTES, "seconds": SECONDS, "redirects": 3}
    }
)
PICTURE = drawn(640, 640)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with serving(tmp_path_factory.mktemp("web")) as web:
        yield web


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inputs")


@pytest.fixture(scope="module")
def kept(home: Path, web: Web, sandbox_process: Vendors) -> Iterator[Kept]:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in web.environ().items():
            patched.setenv(name, value)
        with kept_on("sqlite", home, sandbox_process, SETUP) as kept:
            yield kept


@pytest.fixture(autouse=True)
def _forgotten(web: Web) -> None:
    web.pages.clear()
    web.asked.clear()


def received(flow: Flow, seller: str, data: bytes) -> bool:
    """Whether these very bytes came with the seller's last order: within it, in a data URI, or where its link leads."""
    body = str(flow.sandbox.requests(VENDOR[seller], "submit")[-1]["body"])
    if seller == OPENAI:
        # The sandbox shows bodies as text, in which some bytes are only known to have been there.
        return data.decode("utf-8", "replace") in body
    asked = json.loads(body)
    [link] = asked.get("source_image_urls") or asked.get("input", asked)["image_urls"]
    if link.startswith("data:"):
        return bool(link.partition(",")[2] == b64encode(data).decode())
    return httpx.get(link, trust_env=False).raise_for_status().content == data


def on_the_shelf(home: Path, name: str) -> bytes:
    [found] = home.rglob(f"{name}/input-0.*")
    return found.read_bytes()


def edited(flow: Flow, image: object, seller: str, **wishes: Any) -> dict[str, Any]:
    return flow.buy(seller, operation="edit", image=image, size="1024x1024", **wishes)


@EACH
def test_the_picture_at_an_address_is_fetched_once_kept_and_sent_to_the_seller(
    flow: Flow, web: Web, home: Path, seller: str
) -> None:
    address = web.put("/picture.png", PICTURE, content_type="image/png")
    job = edited(flow, address, seller)
    assert job["status"] == "completed"
    assert [one.size for one in flow.pictures(job)] == [(1024, 1024)]
    assert web.asked == {"/picture.png": 1}
    assert on_the_shelf(home, job["id"]) == PICTURE
    assert received(flow, seller, PICTURE)


@pytest.mark.parametrize("seller", [RUNS, RUN, RUNAPI])
def test_a_picture_too_large_for_a_data_uri_is_uploaded_as_it_came(flow: Flow, web: Web, seller: str) -> None:
    large = PICTURE + bytes(1 << 20)
    job = edited(flow, {"image_url": web.put("/large.png", large)}, seller)
    assert job["status"] == "completed"
    assert received(flow, seller, large)


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_a_large_picture_comes_whole_though_the_connection_ends_with_it(
    flow: Flow, web: Web, home: Path, connection: str
) -> None:
    large = PICTURE + bytes(1 << 20)
    job = edited(flow, web.put("/large.png", large, connection=connection), OPENAI)
    assert on_the_shelf(home, job["id"]) == large


@EACH
def test_what_an_address_was_said_to_be_is_not_believed(flow: Flow, web: Web, home: Path, seller: str) -> None:
    """Its own bytes say what it is, and so does the name that sellers get."""
    jpeg = drawn(512, 512, "JPEG")
    job = edited(flow, web.put("/picture.png", jpeg, content_type="image/png"), seller)
    assert job["status"] == "completed"
    assert [one.name for one in home.rglob(f"{job['id']}/input-0.*")] == ["input-0.jpeg"]
    assert received(flow, seller, jpeg)


@EACH
def test_failing_over_sends_the_next_seller_what_was_fetched_before(flow: Flow, web: Web, seller: str) -> None:
    flow.sandbox.fault("refuse", vendor=VENDOR[seller], times=1)
    image = web.put("/picture.png", PICTURE)
    job = flow.buy_first(seller, operation="edit", image=image, size="1024x1024")
    assert sellers(job) == [seller, BACKUP[seller]]
    assert received(flow, BACKUP[seller], PICTURE)
    assert web.asked == {"/picture.png": 1}


def test_several_addresses_and_a_mask_keep_their_order(flow: Flow, web: Web) -> None:
    first, second = drawn(320, 320), drawn(480, 480, "WEBP")
    images = [web.put("/first.png", first), {"image_url": web.put("/second.webp", second)}]
    mask = web.put("/mask.png", drawn(320, 320, mode="RGBA"))
    job = flow.buy(RUNS, operation="edit", images=images, mask=mask, size="1024x1024", n=5)
    assert len(flow.pictures(job)) == 5
    asked = json.loads(flow.sandbox.requests("runflow", "submit")[-1]["body"])["input"]
    assert [link.partition(",")[2] for link in asked["image_urls"]] == [
        b64encode(one).decode() for one in (first, second)
    ]
    assert web.asked == {"/first.png": 1, "/second.webp": 1, "/mask.png": 1}


def test_the_shape_of_a_fetched_picture_is_the_shape_of_its_edit(flow: Flow, web: Web) -> None:
    job = flow.buy(OPENAI, operation="edit", image=web.put("/wide.png", drawn(960, 640)))
    [picture] = flow.pictures(job)
    assert picture.width / picture.height == pytest.approx(1.5, rel=0.02)


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_to_an_allowed_place_is_followed(flow: Flow, web: Web, status: int) -> None:
    web.put("/picture.png", PICTURE)
    web.put("/moved", status=status, location=web.url("/picture.png", OTHER_NAME))
    job = edited(flow, web.put("/old", status=status, location="/moved"), OPENAI)
    assert job["status"] == "completed"
    assert web.asked == {"/old": 1, "/moved": 1, "/picture.png": 1}
    assert received(flow, OPENAI, PICTURE)


# --- what is not taken


def put_all(web: Web, flow: Flow) -> dict[str, str]:
    """Addresses of what is no input image."""
    chunk = bytes(1 << 16)
    return {
        "missing": web.url("/missing"),
        "forbidden": web.put("/forbidden", status=403),
        "broken": web.put("/broken", status=500),
        "page": web.put("/page", b"<!doctype html><title>A picture</title>", content_type="image/png"),
        "empty": web.put("/empty"),
        "cut-off": web.put("/cut", PICTURE[:-20]),
        "too-large": web.put("/large", content_length=str(MOST_BYTES + 1)),
        "endless": web.put("/endless", *[chunk] * (MOST_BYTES // len(chunk) + 2), None),
        "slow": web.put("/slow", PICTURE[:100], None),
        "round": web.put("/round", status=302, location="/round"),
        "nowhere": web.put("/nowhere", status=302),
        "home": web.put("/home", status=302, location=f"{flow.sandbox.url}/_/sample.png"),
        "home-by-tls": web.put("/home-by-tls", status=302, location="https://127.0.0.1/sample.png"),
        "plain": web.put("/plain", status=302, location="http://pictures.example/picture.png"),
        "stranger": "https://no-such-name.invalid/picture.png",
        "password": web.url("/picture.png").replace("//", "//user:password@"),
        "other-port": web.url("/picture.png").replace(".example", ".example:8443"),
        "file": "file:///etc/hostname",
    }


CODES = {
    "page": "invalid_image",
    "empty": "invalid_image",
    "cut-off": "invalid_image",
}
# Of an address that was not asked nothing is said.
SAID = {
    "missing": ": its server answered with status 404.",
    "forbidden": ": its server answered with status 403.",
    "broken": ": its server answered with status 500.",
    "too-large": ": it is larger than",
    "endless": ": it is larger than",
    "slow": ": it did not come in time.",
    **dict.fromkeys(("home", "home-by-tls", "plain", "password", "file"), "could not be fetched from its address."),
}
NOT_TAKEN = [
    *("missing", "forbidden", "broken", "page", "empty", "cut-off", "too-large", "endless", "slow", "round"),
    *("nowhere", "home", "home-by-tls", "plain", "stranger", "password", "other-port", "file"),
]


@pytest.mark.parametrize("what", NOT_TAKEN)
def test_an_address_with_no_picture_is_refused_and_nothing_is_bought(flow: Flow, web: Web, what: str) -> None:
    addresses = put_all(web, flow)
    web.put("/picture.png", PICTURE)
    answer = flow.gateway.ask({"prompt": "x", "operation": "edit", "image": addresses[what], "size": "1024x1024"})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["code"] == CODES.get(what, "invalid_image_url")
    assert error["param"] == "image"
    assert "'image'" in error["message"]
    assert SAID.get(what, "") in error["message"]
    assert "/picture.png" not in web.asked
    assert sum(flow.orders(seller) for seller in SELLERS) == 0
    assert flow.entries() == []
