"""What goes into RunAPI and what comes out: uploads, sources, links, and when each of them ends."""

import base64
import hashlib
import time
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.sandbox.runapi_buyer import GOOD_KEY, Buyer, size_of
from tests.vendors import Vendors


@pytest.fixture
def buyer(sandbox: Vendors) -> Buyer:
    return Buyer(sandbox)


@pytest.fixture
def photo(sandbox: Vendors) -> bytes:
    return sandbox.sample(320, 160)


def prepare(buyer: Buyer, data: bytes, **changed: Any) -> httpx.Response:
    checksum = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
    asked = {"filename": "photo.png", "byte_size": len(data), "checksum": checksum}
    return buyer.request("POST", "/api/v1/files/prepare", json=asked | changed)


def put(prepared: dict[str, Any], data: bytes, **headers: str) -> httpx.Response:
    return httpx.put(prepared["upload_url"], content=data, headers=prepared["headers"] | headers, trust_env=False)


def confirm(buyer: Buyer, signed_id: object) -> httpx.Response:
    return buyer.request("POST", "/api/v1/files/confirm", json={"signed_id": signed_id})


def uploaded(buyer: Buyer, data: bytes) -> dict[str, Any]:
    prepared = prepare(buyer, data).json()
    assert put(prepared, data).is_success
    return dict(confirm(buyer, prepared["signed_id"]).json())


def fetch(link: str) -> httpx.Response:
    return httpx.get(link, trust_env=False)


def test_an_upload_takes_three_steps_and_lives_an_hour(buyer: Buyer, photo: bytes) -> None:
    record = uploaded(buyer, photo)
    assert record.keys() == {"file_name", "url", "size_bytes", "mime_type", "created_at", "expires_at"}
    lived = datetime.fromisoformat(record["expires_at"]) - datetime.fromisoformat(record["created_at"])
    assert lived.total_seconds() == 3600
    assert fetch(record["url"]).content == photo
    assert fetch(record["url"]).headers["content-type"] == "image/png"
    assert size_of(buyer.edit(record["url"])["images"][0]["url"]) == (1440, 720)


def test_storage_wants_exactly_the_headers_and_bytes_it_was_promised(buyer: Buyer, photo: bytes) -> None:
    prepared = prepare(buyer, photo, content_type="image/webp").json()
    digest = hashlib.md5(photo, usedforsecurity=False).digest()
    assert prepared["headers"] == {"Content-Type": "image/webp", "Content-MD5": base64.b64encode(digest).decode()}
    assert put(prepared, photo, **{"Content-Type": "image/png"}).status_code == 403
    assert put(prepared, photo, **{"Content-MD5": "AAAA"}).status_code == 403
    assert put(prepared, photo, **GOOD_KEY).status_code == 400
    assert put(prepared, photo[:-1] + b"x").status_code == 400
    assert put(prepared, photo + b"x").status_code == 400
    assert confirm(buyer, prepared["signed_id"]).status_code == 422
    assert put(prepared, photo).status_code == 200
    assert confirm(buyer, prepared["signed_id"]).json()["mime_type"] == "image/webp"


@pytest.mark.parametrize(
    "changed",
    [{"filename": ""}, {"byte_size": 0}, {"byte_size": "12"}, {"checksum": "d41d8cd98f00b204"}, {"checksum": 1}],
)
def test_a_bad_preparation_is_refused_by_field(buyer: Buyer, photo: bytes, changed: dict[str, Any]) -> None:
    answer = prepare(buyer, photo, **changed)
    assert answer.status_code == 422
    assert answer.json()["errors"].keys() == changed.keys()


@pytest.mark.parametrize("signed_id", ["unknown", None, 7])
def test_an_unknown_upload_is_not_found(buyer: Buyer, signed_id: object) -> None:
    assert confirm(buyer, signed_id).status_code == 404


def test_uploads_expire(sandbox: Vendors, buyer: Buyer, photo: bytes) -> None:
    with sandbox.switched("runapi", upload_seconds=0.8):
        record, late = uploaded(buyer, photo), prepare(buyer, photo).json()
        assert fetch(record["url"]).status_code == 200
        time.sleep(0.85)
        assert fetch(record["url"]).status_code == 403
        assert put(late, photo).status_code == 403
        task = buyer.edit(record["url"])
    assert task["status"] == "failed"
    assert "403" in task["error"]
    assert sandbox.charges("runapi") == []


@pytest.mark.parametrize(
    "source",
    [
        None,
        "https://example.com/a.png",
        {"type": "file", "data": "AAAA"},
        {"type": "url", "url": "ftp://example.com/a.png"},
        {"type": "base64", "data": ""},
        {"type": "base64", "data": "not base64!"},
    ],
)
def test_a_source_is_a_url_or_base64(buyer: Buyer, source: object) -> None:
    answer = buyer.request("POST", "/api/v1/files", json={"source": source})
    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == ["source"]


def test_a_source_that_cannot_be_fetched_is_refused(sandbox: Vendors, buyer: Buyer) -> None:
    source = {"type": "url", "url": f"{sandbox.url}/_/nothing.png"}
    answer = buyer.request("POST", "/api/v1/files", json={"source": source})
    assert (answer.status_code, answer.json()["errors"]) == (422, {"source": ["the address answered 404"]})


def test_a_data_uri_is_a_source_where_the_vendor_takes_one(sandbox: Vendors, buyer: Buyer, photo: bytes) -> None:
    uri = f"data:image/png;base64,{base64.b64encode(photo).decode()}"
    assert size_of(buyer.edit(uri)["images"][0]["url"]) == (1440, 720)
    with sandbox.switched("runapi", data_uri_sources=False):
        refusal = buyer.create("edit_image", source_image_urls=[uri])
    assert (refusal.status_code, list(refusal.json()["errors"])) == (422, ["source_image_urls"])


@pytest.mark.parametrize(
    "source", ["{url}/_/charges", "{url}/_/nothing.png", "http://127.0.0.1:1/a.png", "data:image/png;base64,AAAA"]
)
def test_a_source_that_is_no_picture_fails_the_task_for_nothing(sandbox: Vendors, buyer: Buyer, source: str) -> None:
    good = f"{sandbox.url}/_/sample.png?w=64&h=64"
    task = buyer.edit(good, source.format(url=sandbox.url))
    assert task["status"] == "failed"
    assert task["error"].startswith("source_image_urls[1] could not be read")
    assert sandbox.charges("runapi") == []
    assert sandbox.control("GET", "/balance")["runapi"]["reserved_usd"] == "0.0"


def test_the_result_shows_its_sources(sandbox: Vendors, buyer: Buyer) -> None:
    """The picture differs by what it was made from: sources are really read."""
    first, second = (f"{sandbox.url}/_/sample.png?w=320&h={height}" for height in (320, 318))
    pictures = [
        fetch(buyer.edit(source, aspect_ratio="1:1")["images"][0]["url"]).content for source in (first, second, first)
    ]
    assert pictures[0] == pictures[2] != pictures[1]


def test_result_links_expire(sandbox: Vendors, buyer: Buyer) -> None:
    with sandbox.switched("runapi", link_seconds=0.8):
        link = buyer.generate()["images"][0]["url"]
        assert fetch(link).status_code == 200
        time.sleep(0.85)
        assert fetch(link).status_code == 403


def test_a_result_link_may_be_dead_on_arrival(sandbox: Vendors, buyer: Buyer) -> None:
    sandbox.fault("expired_url", vendor="runapi", times=1)
    dead, good = buyer.generate(), buyer.generate()
    assert fetch(dead["images"][0]["url"]).status_code == 403
    assert fetch(good["images"][0]["url"]).status_code == 200
    assert len(sandbox.charges("runapi")) == 2


def test_a_result_link_cannot_be_prolonged(buyer: Buyer) -> None:
    link = buyer.generate()["images"][0]["url"]
    assert fetch(link.replace("expires=1", "expires=2")).status_code == 403
