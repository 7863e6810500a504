"""Pictures by signed link: whoever holds one may fetch that picture until it expires, and nothing else."""

from typing import Any

import httpx
import pytest

from gateway.assets.links import Links
from gateway.settings import Settings, secret_of, settings_from
from tests.api.answers import refused
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
    "a longer path": lambda path, query: (f"{path}/more", query),
    "a detour": lambda path, query: (path.replace("/files/", "/files/x/%2e%2e/"), query),
    "out of the folder": lambda path, query: ("/files/..%2f..%2fsecret", query),
    "an absolute path": lambda path, query: ("/files//etc/passwd", query),
    "a NUL": lambda path, query: (f"{path}%00.png", query),
    "capitals": lambda path, query: (path.upper().replace("/FILES", "/files"), query),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_a_link_that_was_tampered_with_opens_nothing(
    gateway: Serving, stranger: httpx.Client, pictures: list[dict[str, Any]], case: str
) -> None:
    path, _, query = pictures[0]["url"].removeprefix(gateway.url).partition("?")
    path, query = TAMPERED[case](path, query)
    refused(stranger.get(f"{gateway.url}{path}?{query}" if query else gateway.url + path), 403, "link_invalid")


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
