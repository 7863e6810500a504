"""Stored files: who may fetch and put what, until when; and that the store cannot grow without end."""

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from sandbox import files as files_module
from sandbox.files import Files, Upload
from sandbox.mischief import Vendor
from sandbox.pictures import Picture
from tests.vendors import Vendors

KEY = {"authorization": "Bearer sk-sandbox"}


def bought_link(sandbox: Vendors, **switches: Any) -> str:
    order = {"model": "gpt-image-2", "prompt": "a lighthouse", "quality": "low", "output_format": "webp"}
    with sandbox.switched("openai", delivers="url", **switches):
        answer = sandbox.http.post("/openai/v1/images/generations", json=order, headers=KEY)
    return str(answer.json()["data"][0]["url"])


def place_to_put(sandbox: Vendors, size: int, media_type: str = "image/png") -> str:
    asked = {"filename": "a.png", "mime_type": media_type, "size_bytes": size}
    answer = sandbox.http.post(
        "/runflow/v1/asset-uploads", json=asked, headers={"authorization": "Bearer rf_sandbox"}
    ).raise_for_status()
    return str(answer.json()["upload_url"])


def get(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False)


def put(url: str, data: bytes, **headers: str) -> httpx.Response:
    wanted = {"content-type": "image/png"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.put(url, content=data, headers=wanted, trust_env=False)


# Links


def test_files_have_a_port_of_their_own(sandbox):
    link, place = urlsplit(bought_link(sandbox)), urlsplit(place_to_put(sandbox, 3))
    assert link.port == place.port != urlsplit(sandbox.url).port


def test_a_link_needs_no_key_and_gives_the_picture(sandbox):
    answer = get(bought_link(sandbox))
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
def test_a_link_that_was_tampered_with_is_dead(sandbox, tamper: Callable[[str], str]):
    answer = get(tamper(bought_link(sandbox)))
    assert answer.status_code == 403
    assert "AccessDenied" in answer.text


def test_a_link_dies_when_its_time_is_over(sandbox):
    link = bought_link(sandbox, link_seconds=1.0)
    assert get(link).status_code == 200
    expires = float(parse_qs(urlsplit(link).query)["expires"][0])
    time.sleep(max(0.0, expires - time.time()) + 0.01)
    assert get(link).status_code == 403


def test_a_picture_is_gone_after_a_reset(sandbox):
    link = bought_link(sandbox)
    sandbox.reset()
    assert get(link).status_code == 404


# Uploads


def test_what_was_put_there_is_stored(sandbox):
    url = place_to_put(sandbox, 3)
    assert put(url, b"abc").status_code == 200


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
def test_storage_wants_exactly_what_was_promised(sandbox, data, headers, status):
    url = place_to_put(sandbox, 3)
    assert put(url, data, **headers).status_code == status
    assert put(url, b"abc").status_code == 200


def test_a_far_too_large_upload_is_refused_and_the_sandbox_lives_on(sandbox):
    url = place_to_put(sandbox, 3)
    try:
        assert put(url, bytes(70 << 20)).status_code == 413
    except httpx.WriteError:
        # Refused before it had all been sent, which is as good.
        assert sandbox.charges() == []


def test_an_upload_that_comes_too_late_is_refused(sandbox):
    asked = {"filename": "a.png", "byte_size": 3, "checksum": "kAFQmDzST7DWlj99KOF/cg==", "content_type": "image/png"}
    with sandbox.switched("runapi", upload_seconds=0.2):
        prepared = sandbox.http.post("/runapi/api/v1/files/prepare", json=asked, headers=KEY).json()
    time.sleep(0.25)
    answer = httpx.put(prepared["upload_url"], content=b"abc", headers=prepared["headers"], trust_env=False)
    assert answer.status_code == 403


def test_a_place_to_put_bytes_cannot_be_read_and_a_link_cannot_be_written():
    """A signature is good for one method, as presigned addresses are."""
    files, later = Files(), time.time() + 60
    upload = Upload("u", Vendor.RUNFLOW, "a.png", "image/png", 3, {}, later)
    for url, method in ((files.open_upload(upload), "PUT"), (files.download_link(upload, 60), "GET")):
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        good = [files.admits(verb, urlsplit(url).path, query) for verb in ("GET", "PUT")]
        assert good == [method == "GET", method == "PUT"]


# What is kept


def upload_of(files: Files, name: str, data: bytes | None) -> Upload:
    upload = Upload(name, Vendor.RUNFLOW, name, "image/png", len(data or b""), {}, time.time() + 60)
    files.open_upload(upload)
    if data is not None:
        files.fill(upload, data)
    return upload


def test_the_oldest_uploads_make_room_for_new_ones(monkeypatch):
    monkeypatch.setattr(files_module, "KEPT_UPLOAD_BYTES", 100)
    files = Files()
    for name in "abc":
        upload_of(files, name, bytes(40))
    assert [name for name in "abc" if files.upload(name)] == ["b", "c"]


def test_refilling_an_upload_counts_once(monkeypatch):
    monkeypatch.setattr(files_module, "KEPT_UPLOAD_BYTES", 100)
    files = Files()
    upload = upload_of(files, "a", bytes(60))
    files.fill(upload, bytes(70))
    files.fill(upload, bytes(80))
    assert files.upload("a") is upload


def test_bytes_for_an_upload_that_is_gone_already_are_not_kept(monkeypatch):
    monkeypatch.setattr(files_module, "KEPT_UPLOAD_BYTES", 100)
    monkeypatch.setattr(files_module, "KEPT_UPLOADS", 2)
    files = Files()
    gone = upload_of(files, "gone", None)
    upload_of(files, "a", bytes(60))
    upload_of(files, "b", bytes(30))
    files.fill(gone, bytes(60))
    assert [name for name in ("gone", "a", "b") if files.upload(name)] == ["a", "b"]
    assert not gone.data


def test_a_dropped_uploads_bytes_are_freed_whoever_still_knows_it(monkeypatch):
    monkeypatch.setattr(files_module, "KEPT_UPLOAD_BYTES", 100)
    files = Files()
    dropped = upload_of(files, "a", bytes(60))
    upload_of(files, "b", bytes(60))
    assert dropped.data == b""


def test_places_that_nobody_uses_are_forgotten(monkeypatch):
    monkeypatch.setattr(files_module, "KEPT_UPLOADS", 3)
    files = Files()
    for number in range(10):
        upload_of(files, str(number), None)
    assert [number for number in range(10) if files.upload(str(number))] == [7, 8, 9]


def test_old_pictures_are_forgotten(monkeypatch):
    monkeypatch.setattr(files_module, "KEPT_LINKS", 2)
    files = Files()
    for number in range(4):
        files.add(str(number), Picture(16, 16, "png", "x"))
    assert [number for number in range(4) if files.picture(str(number))] == [2, 3]
