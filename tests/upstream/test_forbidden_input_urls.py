"""URLs of clients never reach a forbidden address: every form, directly, by a redirect, and by DNS rebinding.

The fetcher opens real connections. Those to the one public address reach a site on loopback; all others reach the
canary, a server that counts its connections. So each forbidden address that the guard allows is a hit on the canary.
"""

import asyncio
import socket
import unicodedata
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, unquote_to_bytes

import pytest

from gateway.api.api_errors import ApiError
from gateway.api.webhooks.webhook_checks import require_valid_webhook
from gateway.timeouts_and_intervals import ConnectionTiming
from gateway.upstream import address_guard
from gateway.upstream.download import DownloadError
from gateway.upstream.input_fetcher import InputFetcher
from gateway.upstream.transport_pool import TransportPool
from tests.upstream.fake_servers import FakeServer, build_response, run_async, run_server
from tests.upstream.sample_addresses import DECEPTIVE_URLS, LOCAL_NAMES, PRIVATE_FORMS
from tests.upstream.tls_certificates import SELLER_HOST as PUBLIC_HOST
from tests.upstream.tls_certificates import make_client_context, make_server_context

PUBLIC_ADDRESS = "93.184.215.14"
IMAGE_URL = f"https://{PUBLIC_HOST}/image.png"
FORMS = [*PRIVATE_FORMS, *LOCAL_NAMES]
# The octal 00127 is 87, so this form resolves to a public address.
RESOLVABLE_FORMS = [form for form in FORMS if form != "00127.0.0.1"]
URLS = [*(f"https://{form}/image.png" for form in FORMS), *DECEPTIVE_URLS]


class FetchEnvironment:
    """A fetcher of input images, the public site, and the canary.

    `answers`: what the name server answers for the site, one entry per lookup; the last one is repeated.
    """

    def __init__(self, site: FakeServer, canary: FakeServer) -> None:
        self.site, self.canary = site, canary
        self.answers: list[Sequence[str]] = [[PUBLIC_ADDRESS]]

    async def look_up(self, host: str) -> Sequence[str]:
        """Answers like a hostile name server: all names except that of the site lead to the canary."""
        if host != PUBLIC_HOST:
            return [resolve_form(host)]
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def fetch(self, fetcher: InputFetcher, url: str) -> bytes:
        with fetcher.open_request("team") as inputs:
            return await inputs.fetch(url.replace("PORT", str(self.canary.port)))

    def divert_connections(self) -> None:
        """Replaces the function of the event loop that connects sockets."""
        loop = asyncio.get_running_loop()
        connect = loop.sock_connect

        async def connect_to_loopback(sock: socket.socket, address: Any) -> None:
            port = self.site.port if address[0] == PUBLIC_ADDRESS else self.canary.port
            await connect(sock, ("127.0.0.1" if sock.family == socket.AF_INET else "::ffff:127.0.0.1", port))

        loop.sock_connect = connect_to_loopback  # type: ignore[method-assign]


def resolve_form(host: str) -> str:
    """Returns the address that a tolerant resolver reads in a host; loopback for other names."""
    text = unicodedata.normalize("NFKC", unquote(host).strip("[]")).replace("。", ".").rstrip(".")
    try:
        return str(socket.getaddrinfo(text, None, flags=socket.AI_NUMERICHOST)[0][4][0])
    except OSError:
        return "127.0.0.1"


async def serve_site(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Redirects to the URL in the query, if there is one. Closes each connection, so that the next needs a lookup."""
    target = (await reader.readuntil(b"\r\n\r\n")).split()[1]
    location = unquote_to_bytes(target.partition(b"?to=")[2]).decode()
    headers = [f"Location: {location}", "Connection: close"] if location else ["Connection: close"]
    writer.write(build_response(b"image", "302 Found" if location else "200 OK", headers))


async def close_at_once(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Serves the canary: each connection is counted, whatever it sends."""


@asynccontextmanager
async def run_environment(certificate: Path) -> AsyncIterator[tuple[FetchEnvironment, InputFetcher]]:
    async with run_server(serve_site, make_server_context(certificate)) as site, run_server(close_at_once) as canary:
        environment = FetchEnvironment(site, canary)
        environment.divert_connections()
        timing = ConnectionTiming(lookup_cache_ttl_seconds=0.0)
        transport_pool = TransportPool(environment.look_up, make_client_context(certificate), timing=timing)
        try:
            yield environment, InputFetcher(transport_pool)
        finally:
            await transport_pool.aclose()


def make_redirect(url: str) -> str:
    return f"https://{PUBLIC_HOST}/?to={quote(url, safe='')}"


async def count_hits(certificate: Path, url: str, answers: Sequence[Sequence[str]] = ()) -> tuple[int, int]:
    """Fetches a URL. Returns the numbers of requests to the site and of hits on the canary."""
    async with run_environment(certificate) as (environment, fetcher):
        environment.answers = list(answers) or environment.answers
        with suppress(DownloadError):
            await environment.fetch(fetcher, url)
        return len(environment.site.request_heads), environment.canary.connection_count


@pytest.mark.parametrize("url", URLS)
def test_forbidden_url_is_blocked_directly(certificate: Path, url: str) -> None:
    assert run_async(count_hits(certificate, url)) == (0, 0)


@pytest.mark.parametrize("url", [url for url in URLS if url.isprintable()])
def test_forbidden_url_is_blocked_behind_a_redirect(certificate: Path, url: str) -> None:
    """A redirect to a URL without a host leads to the site itself."""
    request_count, hit_count = run_async(count_hits(certificate, make_redirect(url)))
    assert (request_count > 0, hit_count) == (True, 0)


@pytest.mark.parametrize("form", RESOLVABLE_FORMS)
@pytest.mark.parametrize("other_answers", [(), (PUBLIC_ADDRESS,)], ids=["alone", "mixed"])
def test_forbidden_address_is_blocked_after_rebinding(
    certificate: Path, form: str, other_answers: Sequence[str]
) -> None:
    """The name resolves to a public address first, then also to a forbidden one."""
    answers = [[PUBLIC_ADDRESS], [*other_answers, resolve_form(form)]]
    assert run_async(count_hits(certificate, make_redirect(IMAGE_URL), answers)) == (1, 0)


def test_public_url_is_fetched_directly_and_behind_a_redirect(certificate: Path) -> None:
    """Proves that the tests above do not pass only because every URL fails."""

    async def scenario() -> None:
        async with run_environment(certificate) as (environment, fetcher):
            for url in (IMAGE_URL, make_redirect(IMAGE_URL)):
                assert await environment.fetch(fetcher, url) == b"image"
            assert (len(environment.site.request_heads), environment.canary.connection_count) == (3, 0)

    run_async(scenario())


@pytest.mark.thorough
def test_disabled_guard_lets_at_least_60_forms_through(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves that each of the three ways detects a missing guard."""
    monkeypatch.setattr(address_guard, "is_public", address_guard.allow_all)

    ways = [0, 0, 0]
    for form in FORMS:
        url, answers = f"https://{form}/image.png", [[PUBLIC_ADDRESS], [resolve_form(form)]]
        results = [
            run_async(count_hits(certificate, url)),
            run_async(count_hits(certificate, make_redirect(url))),
            run_async(count_hits(certificate, make_redirect(IMAGE_URL), answers)),
        ]
        ways = [way + (hit_count > 0) for way, (_, hit_count) in zip(ways, results, strict=True)]
    assert min(ways) >= 60, ways


@pytest.mark.parametrize("url", [url for url in URLS if url.isprintable()])
def test_forbidden_url_is_rejected_as_webhook(url: str) -> None:
    with pytest.raises(ApiError) as raised:
        require_valid_webhook(url.replace("PORT", "8080"))
    assert (raised.value.status, raised.value.param) == (400, "webhook")
