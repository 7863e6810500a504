"""Stored files: signed URLs, uploads, expiry, and the limits of the store."""

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from sandbox import file_store
from sandbox.file_store import FileStore, UploadSlot
from sandbox.image_renderer import ImageRecipe
from sandbox.vendors import Vendor
from tests.harness.sandbox_runner import RunningSandbox
from tests.sandbox.openai_client import AUTH_HEADERS, ORDER_BODY, SUBMIT_PATH


def create_image_url(sandbox: RunningSandbox, **switches: Any) -> str:
    order = ORDER_BODY | {"output_format": "webp"}
    with sandbox.override_switches("openai", image_format="url", **switches):
        answer = sandbox.http.post(SUBMIT_PATH, json=order, headers=AUTH_HEADERS)
    return str(answer.json()["data"][0]["url"])


def create_upload_url(sandbox: RunningSandbox, size: int, media_type: str = "image/png") -> str:
    body = {"filename": "a.png", "mime_type": media_type, "size_bytes": size}
    answer = sandbox.http.post(
        "/runflow/v1/asset-uploads", json=body, headers={"authorization": "Bearer rf_sandbox"}
    ).raise_for_status()
    return str(answer.json()["upload_url"])


def fetch_url(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False)


def put_bytes(url: str, data: bytes, **headers: str) -> httpx.Response:
    request_headers = {"content-type": "image/png"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.put(url, content=data, headers=request_headers, trust_env=False)


# Signed URLs


def test_files_have_their_own_port(sandbox):
    image_url, upload_url = urlsplit(create_image_url(sandbox)), urlsplit(create_upload_url(sandbox, 3))
    assert image_url.port == upload_url.port != urlsplit(sandbox.url).port


def test_image_url_works_without_a_key(sandbox):
    answer = fetch_url(create_image_url(sandbox))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    assert answer.content[8:12] == b"WEBP"


@pytest.mark.parametrize(
    "tamper",
    [
        lambda url: url[:-1] + ("0" if url[-1] != "0" else "1"),
        lambda url: url.replace("expires=", "expires=9"),
        lambda url: url.replace("/files/openai/", "/files/runapi/"),
        lambda url: url.replace("-0.webp", "-1.webp"),
        lambda url: url.partition("?")[0],
        lambda url: url.partition("&")[0],
        lambda url: url.partition("&")[0] + "&signature=%ED%A0%80%FF",
    ],
)
def test_tampered_url_is_denied(sandbox, tamper: Callable[[str], str]):
    answer = fetch_url(tamper(create_image_url(sandbox)))
    assert answer.status_code == 403
    assert "AccessDenied" in answer.text


def test_image_url_expires(sandbox):
    image_url = create_image_url(sandbox, link_seconds=1.0)
    assert fetch_url(image_url).status_code == 200
    expires = float(parse_qs(urlsplit(image_url).query)["expires"][0])
    time.sleep(max(0.0, expires - time.time()) + 0.01)
    assert fetch_url(image_url).status_code == 403


def test_image_is_not_found_after_a_reset(sandbox):
    image_url = create_image_url(sandbox)
    sandbox.reset()
    assert fetch_url(image_url).status_code == 404


# Uploads


def test_put_stores_the_bytes(sandbox):
    url = create_upload_url(sandbox, 3)
    assert put_bytes(url, b"abc").status_code == 200


@pytest.mark.parametrize(
    ("data", "headers", "status"),
    [
        (b"abc", {"content_type": "image/jpeg"}, 403),
        (b"abc", {"content_type": ""}, 403),
        (b"abc", {"authorization": "Bearer rf_sandbox"}, 400),
        (b"abcd", {}, 400),
        (b"ab", {}, 400),
        (b"", {}, 400),
    ],
    ids=["wrong type", "no type", "credentials", "too long", "too short", "empty"],
)
def test_put_must_match_the_declared_type_and_size(sandbox, data, headers, status):
    url = create_upload_url(sandbox, 3)
    assert put_bytes(url, data, **headers).status_code == status
    assert put_bytes(url, b"abc").status_code == 200


def test_far_too_large_upload_is_rejected(sandbox):
    url = create_upload_url(sandbox, 3)
    try:
        assert put_bytes(url, bytes(70 << 20)).status_code == 413
    except httpx.WriteError:
        # Rejected before all of it was sent, which is as good.
        assert sandbox.list_charges() == []


def test_late_upload_is_rejected(sandbox):
    body = {"filename": "a.png", "byte_size": 3, "checksum": "kAFQmDzST7DWlj99KOF/cg==", "content_type": "image/png"}
    with sandbox.override_switches("runapi", upload_seconds=0.2):
        prepared = sandbox.http.post("/runapi/api/v1/files/prepare", json=body, headers=AUTH_HEADERS).json()
    time.sleep(0.25)
    answer = httpx.put(prepared["upload_url"], content=b"abc", headers=prepared["headers"], trust_env=False)
    assert answer.status_code == 403


def test_signed_url_is_valid_for_one_method_only():
    """A signature is valid for one method, as in presigned URLs."""
    files, later = FileStore(), time.time() + 60
    upload = UploadSlot("u", Vendor.RUNFLOW, "a.png", "image/png", 3, {}, later)
    for url, method in ((files.add_upload(upload), "PUT"), (files.make_download_url(upload, 60), "GET")):
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        good = [files.is_valid_url(verb, urlsplit(url).path, query) for verb in ("GET", "PUT")]
        assert good == [method == "GET", method == "PUT"]


# Limits


def add_upload(files: FileStore, name: str, data: bytes | None) -> UploadSlot:
    upload = UploadSlot(name, Vendor.RUNFLOW, name, "image/png", len(data or b""), {}, time.time() + 60)
    files.add_upload(upload)
    if data is not None:
        files.store_upload(upload, data)
    return upload


def test_oldest_uploads_are_evicted(monkeypatch):
    monkeypatch.setattr(file_store, "MAX_UPLOAD_BYTES", 100)
    files = FileStore()
    for name in "abc":
        add_upload(files, name, bytes(40))
    assert [name for name in "abc" if files.get_upload(name)] == ["b", "c"]


def test_refilling_an_upload_counts_once(monkeypatch):
    monkeypatch.setattr(file_store, "MAX_UPLOAD_BYTES", 100)
    files = FileStore()
    upload = add_upload(files, "a", bytes(60))
    files.store_upload(upload, bytes(70))
    files.store_upload(upload, bytes(80))
    assert files.get_upload("a") is upload


def test_bytes_for_an_evicted_upload_are_not_stored(monkeypatch):
    monkeypatch.setattr(file_store, "MAX_UPLOAD_BYTES", 100)
    monkeypatch.setattr(file_store, "MAX_UPLOADS", 2)
    files = FileStore()
    evicted = add_upload(files, "gone", None)
    add_upload(files, "a", bytes(60))
    add_upload(files, "b", bytes(30))
    files.store_upload(evicted, bytes(60))
    assert [name for name in ("gone", "a", "b") if files.get_upload(name)] == ["a", "b"]
    assert not evicted.data


def test_bytes_of_an_evicted_upload_are_freed(monkeypatch):
    monkeypatch.setattr(file_store, "MAX_UPLOAD_BYTES", 100)
    files = FileStore()
    evicted = add_upload(files, "a", bytes(60))
    add_upload(files, "b", bytes(60))
    assert evicted.data == b""


def test_unused_uploads_are_evicted(monkeypatch):
    monkeypatch.setattr(file_store, "MAX_UPLOADS", 3)
    files = FileStore()
    for number in range(10):
        add_upload(files, str(number), None)
    assert [number for number in range(10) if files.get_upload(str(number))] == [7, 8, 9]


def test_old_images_are_evicted(monkeypatch):
    monkeypatch.setattr(file_store, "MAX_IMAGES", 2)
    files = FileStore()
    for number in range(4):
        files.add_image(str(number), ImageRecipe(16, 16, "png", "x"))
    assert [number for number in range(4) if files.get_image(str(number))] == [2, 3]
