"""Images by signed URL: a URL gives access to its image until it expires, and to nothing else."""

import contextlib
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.assets.folder_backend import locate_file
from gateway.assets.signed_urls import UrlSigner
from gateway.settings import Settings, load_settings, load_signing_secrets
from tests.api.error_responses import expect_final_error
from tests.api.job_requests import create_finished_job
from tests.api.raw_http import RawResponse, connect
from tests.harness.gateway_runner import RunningGateway
from tests.harness.raw_sockets import read_until_closed
from tests.harness.wait import wait_for_value


@pytest.fixture(scope="module")
def images(gateway_process: RunningGateway) -> list[dict[str, Any]]:
    gateway_process.sandbox.set_latency(0.0)
    created: list[dict[str, Any]] = create_finished_job(gateway_process, n=2)["images"]
    return created


@pytest.fixture
def anonymous_client() -> Any:
    with httpx.Client(trust_env=False) as http:
        yield http


def make_url_signer(gateway: RunningGateway) -> UrlSigner:
    settings: Settings = load_settings({}, data=gateway.folder / "data")
    return UrlSigner(load_signing_secrets(settings), gateway.url)


def test_signed_url_needs_no_key_and_is_sandboxed_in_browsers(
    gateway: RunningGateway, anonymous_client: httpx.Client, images: list[dict[str, Any]]
) -> None:
    answer = anonymous_client.get(images[0]["url"])
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"].startswith("private")
    assert answer.headers["x-request-id"]


TAMPERED_URLS = {
    "another signature": lambda path, query: (path, query[:-1] + ("A" if query[-1] != "A" else "B")),
    "a later end": lambda path, query: (path, query.replace("exp=1", "exp=2")),
    "another image": lambda path, query: (path.replace("image-1-0-", "image-1-1-"), query),
    "another partition": lambda path, query: ("/files/00/" + path.split("/", 3)[3], query),
    "no signature": lambda path, query: (path, query.partition("&")[0]),
    "no query": lambda path, query: (path, ""),
    "two signatures": lambda path, query: (path, f"{query}&{query.partition('&')[2]}"),
    "another order": lambda path, query: (path, "&".join(reversed(query.split("&")))),
    "a parameter more": lambda path, query: (path, f"{query}&download=1"),
    "a slash at the end": lambda path, query: (f"{path}/", query),
    "two slashes at the start": lambda path, query: (f"/{path}", query),
    "two slashes within": lambda path, query: ("//".join(path.rsplit("/", 1)), query),
    "two slashes after the route": lambda path, query: (path.replace("/files/", "/files//"), query),
    "a slash in other words": lambda path, query: ("%2F".join(path.rsplit("/", 1)), query),
    "the route's slash in other words": lambda path, query: (path.replace("/files/", "/files%2F"), query),
    "a letter in other words": lambda path, query: (path.replace("image", "%69mage"), query),
    "a parameter of the path": lambda path, query: (f"{path};a=b", query),
    "a dot": lambda path, query: (path.replace("/files/", "/files/./"), query),
    "a longer path": lambda path, query: (f"{path}/more", query),
    "a detour": lambda path, query: (path.replace("/files/", "/files/x/%2e%2e/"), query),
    "out of the folder": lambda path, query: ("/files/..%2f..%2fsecret", query),
    "an absolute path": lambda path, query: ("/files//etc/passwd", query),
    "a NUL": lambda path, query: (f"{path}%00.png", query),
    "capitals": lambda path, query: (path.upper().replace("/FILES", "/files"), query),
}


@pytest.mark.parametrize("case", TAMPERED_URLS)
def test_tampered_signed_url_is_rejected(gateway: RunningGateway, images: list[dict[str, Any]], case: str) -> None:
    """Over a plain socket, since client libraries correct much of it before they send it."""
    path, _, query = images[0]["url"].removeprefix(gateway.url).partition("?")
    path, query = TAMPERED_URLS[case](path, query)
    with connect(gateway) as connection:
        target = f"{path}?{query}" if query else path
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = RawResponse(read_until_closed(connection))
    assert answer.status in (403, 404), answer.raw[:300]
    assert answer.error["code"] == {403: "link_invalid", 404: "route_not_found"}[answer.status]


def test_signed_url_is_rejected_after_its_expiry(
    gateway: RunningGateway, anonymous_client: httpx.Client, images: list[dict[str, Any]]
) -> None:
    key = images[0]["url"].removeprefix(f"{gateway.url}/files/").partition("?")[0]
    signer = make_url_signer(gateway)
    expect_final_error(anonymous_client.get(signer.sign(key, 1_000_000_000)), 403, "link_invalid")
    assert anonymous_client.get(signer.sign(key, 4_000_000_000)).status_code == 200


def get_stored_file(gateway: RunningGateway, key: str) -> Path:
    folder, name = locate_file(key)
    return gateway.folder.joinpath("data", "images", *folder, name)


def test_deleted_image_is_410(gateway: RunningGateway, anonymous_client: httpx.Client) -> None:
    image_entry = create_finished_job(gateway)["images"][0]
    key = image_entry["url"].removeprefix(f"{gateway.url}/files/").partition("?")[0]
    get_stored_file(gateway, key).unlink()
    expect_final_error(anonymous_client.get(image_entry["url"]), 410, "image_deleted")


def test_no_image_file_stays_open_after_its_client_disconnects(gateway: RunningGateway) -> None:
    """After the headers, after a part, within a part, and before any byte."""
    image_entry = create_finished_job(gateway)["images"][0]
    target = image_entry["url"].removeprefix(gateway.url)
    stored = get_stored_file(gateway, target.removeprefix("/files/").partition("?")[0])
    # More than socket buffers hold.
    stored.write_bytes(bytes(30 << 20))
    connections = [connect(gateway) for _ in range(15)]
    for number, connection in enumerate(connections):
        method = ("GET", "HEAD")[number % 2]
        connection.sendall(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    for number, connection in enumerate(connections):
        if number % 3:
            assert connection.recv(1_000).startswith(b"HTTP/1.1 200 ")
    assert gateway.http.get(image_entry["url"]).content == bytes(30 << 20)
    for connection in connections:
        connection.close()
    wait_for_value(
        lambda: list_open_image_files(gateway),
        lambda files: not files,
        "all image files are closed",
    )
    gateway.expect_no_problem()


def list_open_image_files(gateway: RunningGateway) -> list[str]:
    folder, paths = str(gateway.folder / "data" / "images"), []
    for number in Path(f"/proc/{gateway.process.pid}/fd").iterdir():
        # The file may be closed at the same moment.
        with contextlib.suppress(FileNotFoundError):
            paths.append(os.readlink(number))
    return [path for path in paths if path.startswith(folder)]
