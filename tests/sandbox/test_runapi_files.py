"""RunAPI's files: uploads, source images, result URLs, and their expiry."""

import base64
import hashlib
import time
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.harness.sandbox_runner import RunningSandbox
from tests.sandbox.runapi_client import AUTH_HEADERS, RunapiClient, fetch_image_size


@pytest.fixture
def image_bytes(sandbox: RunningSandbox) -> bytes:
    return sandbox.fetch_sample_image(320, 160)


def prepare_upload(runapi_client: RunapiClient, data: bytes, **changed: Any) -> httpx.Response:
    checksum = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
    body = {"filename": "photo.png", "byte_size": len(data), "checksum": checksum}
    return runapi_client.request("POST", "/api/v1/files/prepare", json=body | changed)


def put_bytes(prepared: dict[str, Any], data: bytes, **headers: str) -> httpx.Response:
    return httpx.put(prepared["upload_url"], content=data, headers=prepared["headers"] | headers, trust_env=False)


def confirm_upload(runapi_client: RunapiClient, signed_id: object) -> httpx.Response:
    return runapi_client.request("POST", "/api/v1/files/confirm", json={"signed_id": signed_id})


def upload_file(runapi_client: RunapiClient, data: bytes) -> dict[str, Any]:
    prepared = prepare_upload(runapi_client, data).json()
    assert put_bytes(prepared, data).is_success
    return dict(confirm_upload(runapi_client, prepared["signed_id"]).json())


def fetch_url(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False)


def test_upload_takes_three_steps_and_lasts_an_hour(runapi_client: RunapiClient, image_bytes: bytes) -> None:
    record = upload_file(runapi_client, image_bytes)
    assert record.keys() == {"file_name", "url", "size_bytes", "mime_type", "created_at", "expires_at"}
    lifetime = datetime.fromisoformat(record["expires_at"]) - datetime.fromisoformat(record["created_at"])
    assert lifetime.total_seconds() == 3600
    assert fetch_url(record["url"]).content == image_bytes
    assert fetch_url(record["url"]).headers["content-type"] == "image/png"
    assert fetch_image_size(runapi_client.run_edit(record["url"])["images"][0]["url"]) == (1440, 720)


def test_put_must_match_the_prepared_headers_and_bytes(runapi_client: RunapiClient, image_bytes: bytes) -> None:
    prepared = prepare_upload(runapi_client, image_bytes, content_type="image/webp").json()
    digest = hashlib.md5(image_bytes, usedforsecurity=False).digest()
    assert prepared["headers"] == {"Content-Type": "image/webp", "Content-MD5": base64.b64encode(digest).decode()}
    assert put_bytes(prepared, image_bytes, **{"Content-Type": "image/png"}).status_code == 403
    assert put_bytes(prepared, image_bytes, **{"Content-MD5": "AAAA"}).status_code == 403
    assert put_bytes(prepared, image_bytes, **AUTH_HEADERS).status_code == 400
    assert put_bytes(prepared, image_bytes[:-1] + b"x").status_code == 400
    assert put_bytes(prepared, image_bytes + b"x").status_code == 400
    assert confirm_upload(runapi_client, prepared["signed_id"]).status_code == 422
    assert put_bytes(prepared, image_bytes).status_code == 200
    assert confirm_upload(runapi_client, prepared["signed_id"]).json()["mime_type"] == "image/webp"


@pytest.mark.parametrize(
    "changed",
    [{"filename": ""}, {"byte_size": 0}, {"byte_size": "12"}, {"checksum": "d41d8cd98f00b204"}, {"checksum": 1}],
)
def test_error_of_invalid_preparation_names_the_field(
    runapi_client: RunapiClient, image_bytes: bytes, changed: dict[str, Any]
) -> None:
    answer = prepare_upload(runapi_client, image_bytes, **changed)
    assert answer.status_code == 422
    assert answer.json()["errors"].keys() == changed.keys()


@pytest.mark.parametrize("signed_id", ["unknown", None, 7])
def test_unknown_upload_is_not_found(runapi_client: RunapiClient, signed_id: object) -> None:
    assert confirm_upload(runapi_client, signed_id).status_code == 404


def test_uploads_expire(sandbox: RunningSandbox, runapi_client: RunapiClient, image_bytes: bytes) -> None:
    with sandbox.override_switches("runapi", upload_seconds=0.8):
        record, late = upload_file(runapi_client, image_bytes), prepare_upload(runapi_client, image_bytes).json()
        assert fetch_url(record["url"]).status_code == 200
        time.sleep(0.85)
        assert fetch_url(record["url"]).status_code == 403
        assert put_bytes(late, image_bytes).status_code == 403
        task = runapi_client.run_edit(record["url"])
    assert task["status"] == "failed"
    assert "403" in task["error"]
    assert sandbox.list_charges("runapi") == []


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
def test_invalid_source_is_rejected(runapi_client: RunapiClient, source: object) -> None:
    answer = runapi_client.request("POST", "/api/v1/files", json={"source": source})
    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == ["source"]


def test_unfetchable_source_is_rejected(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    source = {"type": "url", "url": f"{sandbox.url}/_/nothing.png"}
    answer = runapi_client.request("POST", "/api/v1/files", json={"source": source})
    assert (answer.status_code, answer.json()["errors"]) == (422, {"source": ["the URL answered with status 404"]})


def test_data_uri_is_accepted_only_if_the_switch_allows_it(
    sandbox: RunningSandbox, runapi_client: RunapiClient, image_bytes: bytes
) -> None:
    uri = f"data:image/png;base64,{base64.b64encode(image_bytes).decode()}"
    assert fetch_image_size(runapi_client.run_edit(uri)["images"][0]["url"]) == (1440, 720)
    with sandbox.override_switches("runapi", data_uri_sources=False):
        refusal = runapi_client.create_task("edit_image", source_image_urls=[uri])
    assert (refusal.status_code, list(refusal.json()["errors"])) == (422, ["source_image_urls"])


@pytest.mark.parametrize(
    "source", ["{url}/_/charges", "{url}/_/nothing.png", "http://127.0.0.1:1/a.png", "data:image/png;base64,AAAA"]
)
def test_source_that_is_not_an_image_fails_the_task_uncharged(
    sandbox: RunningSandbox, runapi_client: RunapiClient, source: str
) -> None:
    good = f"{sandbox.url}/_/sample.png?w=64&h=64"
    task = runapi_client.run_edit(good, source.format(url=sandbox.url))
    assert task["status"] == "failed"
    assert task["error"].startswith("source_image_urls[1] could not be read")
    assert sandbox.list_charges("runapi") == []
    assert sandbox.call_control_route("GET", "/balance")["runapi"]["reserved_usd"] == "0.0"


def test_result_depends_on_its_source_images(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    """Different sources make different images: the sources are really read."""
    first, second = (f"{sandbox.url}/_/sample.png?w=320&h={height}" for height in (320, 318))
    images = [
        fetch_url(runapi_client.run_edit(source, aspect_ratio="1:1")["images"][0]["url"]).content
        for source in (first, second, first)
    ]
    assert images[0] == images[2] != images[1]


def test_result_urls_expire(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    with sandbox.override_switches("runapi", link_seconds=0.8):
        image_url = runapi_client.run_generation()["images"][0]["url"]
        assert fetch_url(image_url).status_code == 200
        time.sleep(0.85)
        assert fetch_url(image_url).status_code == 403


def test_expired_url_fault_returns_a_dead_url(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    sandbox.inject_fault("expired_url", vendor="runapi", times=1)
    dead, good = runapi_client.run_generation(), runapi_client.run_generation()
    assert fetch_url(dead["images"][0]["url"]).status_code == 403
    assert fetch_url(good["images"][0]["url"]).status_code == 200
    assert len(sandbox.list_charges("runapi")) == 2


def test_expiry_of_a_result_url_cannot_be_changed(runapi_client: RunapiClient) -> None:
    image_url = runapi_client.run_generation()["images"][0]["url"]
    assert fetch_url(image_url.replace("expires=1", "expires=2")).status_code == 403
