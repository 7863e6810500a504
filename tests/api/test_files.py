"""Pictures by signed link: whoever holds one may fetch that picture until it expires, and nothing else."""

import contextlib
import os
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.assets.links import Links
from gateway.settings import Settings, secret_of, settings_from
from tests.api.answers import refused
from tests.api.sockets import Answer, connected, to_the_end, within
from tests.api.test_jobs import made
from tests.serving import Serving


@pytest.fixture(scope="module")
def pictures(gateway_process: Serving) -> list[dict[str, Any]]:
    gateway_process.vendors.latency(0.0)
    found: list[dict[str, Any]] = made(gateway_process, n=2)["images"]
    return found


@pytest.fixture
def stranger() -> Any:
    with httpx.Client(trust_env=False) as http:
        yield http


def links_of(gateway: Serving) -> Links:
    settings: Settings = settings_from({}, data=gateway.folder / "data")
    return Links(secret_of(settings), gateway.url)


def test_a_link_needs_no_key_and_the_answer_cannot_run_in_a_browser(
    gateway: Serving, stranger: httpx.Client, pictures: list[dict[str, Any]]
) -> None:
    answer = stranger.get(pictures[0]["url"])
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"].startswith("private")
    assert answer.headers["x-request-id"]


TAMPERED = {
    "another signature": lambda path, query: (path, query[:-1] + ("A" if query[-1] != "A" else "B")),
    "a later end": lambda path, query: (path, query.replace("exp=1", "exp=2")),
    "another picture": lambda path, query: (path.replace("image-1-0-", "image-1-1-"), query),
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


@pytest.mark.parametrize("case", TAMPERED)
def test_a_link_that_was_tampered_with_opens_nothing(
    gateway: Serving, pictures: list[dict[str, Any]], case: str
) -> None:
    """Over a plain socket: client libraries put much of it right before it is sent."""
    path, _, query = pictures[0]["url"].removeprefix(gateway.url).partition("?")
    path, query = TAMPERED[case](path, query)
    with connected(gateway) as connection:
        target = f"{path}?{query}" if query else path
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = Answer(to_the_end(connection))
    assert answer.status in (403, 404), answer.raw[:300]
    assert answer.error["code"] == {403: "link_invalid", 404: "route_not_found"}[answer.status]


def test_a_link_ends_at_its_second(gateway: Serving, stranger: httpx.Client, pictures: list[dict[str, Any]]) -> None:
    key = pictures[0]["url"].removeprefix(f"{gateway.url}/files/").partition("?")[0]
    links = links_of(gateway)
    refused(stranger.get(links.sign(key, 1_000_000_000)), 403, "link_invalid")
    assert stranger.get(links.sign(key, 4_000_000_000)).status_code == 200


def test_a_picture_that_is_gone_is_410(gateway: Serving, stranger: httpx.Client) -> None:
    picture = made(gateway)["images"][0]
    key = picture["url"].removeprefix(f"{gateway.url}/files/").partition("?")[0]
    (gateway.folder / "data" / "images" / key).unlink()
    refused(stranger.get(picture["url"]), 410, "image_expired")


def test_no_file_stays_open_however_its_reader_leaves(gateway: Serving) -> None:
    """After a head, after a part, in the middle of it, and before any of it."""
    picture = made(gateway)["images"][0]
    target = picture["url"].removeprefix(gateway.url)
    stored = gateway.folder / "data" / "images" / target.removeprefix("/files/").partition("?")[0]
    # More than what sockets take by themselves.
    stored.write_bytes(bytes(30 << 20))
    opened = [socket_to(gateway) for _ in range(15)]
    for number, connection in enumerate(opened):
        method = ("GET", "HEAD")[number % 2]
        connection.sendall(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    for number, connection in enumerate(opened):
        if number % 3:
            assert connection.recv(1_000).startswith(b"HTTP/1.1 200 ")
    assert gateway.http.get(picture["url"]).content == bytes(30 << 20)
    for connection in opened:
        connection.close()
    for _ in within(10):
        if not open_pictures(gateway):
            break
    assert [line for line in gateway.troubles() if line["event"] != "library"] == []


def socket_to(gateway: Serving) -> socket.socket:
    host, port = gateway.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def open_pictures(gateway: Serving) -> list[str]:
    folder, found = str(gateway.folder / "data" / "images"), []
    for number in Path(f"/proc/{gateway.process.pid}/fd").iterdir():
        # It may be closed in the same moment.
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(number))
    return [path for path in found if path.startswith(folder)]
