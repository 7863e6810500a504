"""Input images by URL: slow or large ones use up their team's share only, and nothing that orders need."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager

import pytest

from gateway.timeouts_and_intervals import InputTiming
from gateway.upstream import input_fetcher
from gateway.upstream.download import DownloadError
from gateway.upstream.input_fetcher import FetchLimitReached, InputFetcher, InputsTooLarge
from gateway.upstream.seller_client import SellerClient
from gateway.upstream.transport_pool import TransportPool
from providers.adapter import Answer, Call
from tests.harness.wait import wait_until_async
from tests.upstream.fake_servers import (
    GET_CALL,
    ORDER_CALL,
    QUICK_OPTIONS,
    ConnectionHandler,
    build_response,
    hang_forever,
    make_responder,
    make_seller,
    read_request,
    run_async,
    run_server,
    serve_requests,
)

MIB = 1 << 20
IMAGE = bytes(MIB)
TIMING = InputTiming(queue_timeout_seconds=0.2, max_image_bytes=4 * MIB, download_timeout_seconds=1.0)
MAX_TEST_DOWNLOADS, MAX_TEST_TEAM_DOWNLOADS = 4, 2


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "MAX_DOWNLOADS": MAX_TEST_DOWNLOADS,
        "MAX_TEAM_DOWNLOADS": MAX_TEST_TEAM_DOWNLOADS,
        "MAX_BYTES": 8 * MIB,
        "MAX_TEAM_BYTES": 4 * MIB,
    }.items():
        monkeypatch.setattr(input_fetcher, name, value)


@asynccontextmanager
async def run_fetcher(
    handle: ConnectionHandler, timing: InputTiming = TIMING
) -> AsyncIterator[tuple[InputFetcher, str]]:
    async with run_server(handle) as server, SellerClient() as client:
        fetcher = InputFetcher(client.transport_pool, timing, private=True)
        yield fetcher, server.url
        assert (fetcher.downloads.in_use, fetcher.memory.in_use) == (0, 0)


async def fetch_all(fetcher: InputFetcher, team: str, *urls: str) -> Sequence[object]:
    with fetcher.open_request(team) as inputs:
        return await asyncio.gather(*map(inputs.fetch, urls), return_exceptions=True)


async def drip_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b" ")
        await asyncio.sleep(0.05)


def make_chunked_responder(size: int) -> ConnectionHandler:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return make_responder(head, b"%x\r\n" % size + bytes(size) + b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("handle", [hang_forever, drip_body], ids=["never answers", "drips"])
def test_team_with_hanging_downloads_is_rejected_and_others_are_served(handle: ConnectionHandler) -> None:
    async def scenario() -> None:
        async with run_fetcher(handle) as (fetcher, url), run_server(make_responder(build_response(IMAGE))) as quick:
            hanging_fetch = asyncio.create_task(fetch_all(fetcher, "beta", url, url))
            await wait_until_async(
                lambda: fetcher.downloads.in_use == MAX_TEST_TEAM_DOWNLOADS, "the downloads have started"
            )
            [rejection] = await fetch_all(fetcher, "beta", url)
            assert isinstance(rejection, FetchLimitReached)
            assert (rejection.is_own, rejection.limit) == (True, "2 downloads of input images")
            assert await fetch_all(fetcher, "alpha", quick.url) == [IMAGE]
            assert [type(error) for error in await hanging_fetch] == [DownloadError] * 2

    run_async(scenario())


def test_total_download_limit_is_reported_as_not_the_teams_own() -> None:
    async def scenario() -> None:
        async with run_fetcher(hang_forever) as (fetcher, url):
            hanging_fetches = [asyncio.create_task(fetch_all(fetcher, team, url, url)) for team in ("one", "two")]
            await wait_until_async(lambda: fetcher.downloads.in_use == MAX_TEST_DOWNLOADS, "the downloads have started")
            [rejection] = await fetch_all(fetcher, "alpha", url)
            assert isinstance(rejection, FetchLimitReached)
            assert (rejection.is_own, rejection.limit) == (False, "4 downloads of input images")
            await asyncio.gather(*hanging_fetches)

    run_async(scenario())


def test_image_memory_is_held_until_the_request_ends_and_limited_per_team() -> None:
    async def scenario() -> None:
        async with run_fetcher(make_chunked_responder(2 * MIB)) as (fetcher, url):
            with ExitStack() as requests:
                for _ in range(2):
                    await requests.enter_context(fetcher.open_request("beta")).fetch(url)
                assert fetcher.memory.in_use == 2 * (2 * MIB - 65536), "memory reserved in advance is released"
                [rejection] = await fetch_all(fetcher, "beta", url)
                assert isinstance(rejection, FetchLimitReached)
                assert (rejection.is_own, rejection.limit) == (True, "4 MiB of input images")
                assert await fetch_all(fetcher, "alpha", url) == [bytes(2 * MIB)]
            assert await fetch_all(fetcher, "beta", url) == [bytes(2 * MIB)]

    run_async(scenario())


def test_images_of_one_request_that_are_too_large_together_are_rejected() -> None:
    async def scenario() -> None:
        async with run_fetcher(make_chunked_responder(3 * MIB)) as (fetcher, url):
            with fetcher.open_request("alpha") as inputs:
                assert await inputs.fetch(url) == bytes(3 * MIB)
                with pytest.raises(InputsTooLarge):
                    await inputs.fetch(url)
            assert await fetch_all(fetcher, "alpha", url) == [bytes(3 * MIB)]

    run_async(scenario())


def test_request_timeout_covers_all_its_urls() -> None:
    timing = InputTiming(request_timeout_seconds=0.5, download_timeout_seconds=20.0)

    async def scenario() -> None:
        async with run_fetcher(drip_body, timing) as (fetcher, url):
            started_at = time.monotonic()
            with fetcher.open_request("alpha") as inputs:
                for _ in range(3):
                    with pytest.raises(DownloadError) as late:
                        await inputs.fetch(url)
                    assert late.value.public_reason == "it did not arrive in time"
            assert time.monotonic() - started_at < 15

    run_async(scenario())


def test_redirects_count_as_one_download() -> None:
    async def redirect_to_itself(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await asyncio.sleep(0.1)
        writer.write(build_response(b"", "302 Found", ["Location: /again"]))
        await writer.drain()

    async def scenario() -> None:
        async with run_fetcher(redirect_to_itself) as (fetcher, url):
            fetching = asyncio.create_task(fetch_all(fetcher, "beta", url, url))
            max_in_use = 0
            while not fetching.done():
                max_in_use = max(max_in_use, fetcher.downloads.in_use)
                await asyncio.sleep(0.01)
            assert [str(error) for error in await fetching] == ["too many redirects"] * 2
            assert max_in_use == 2

    run_async(scenario())


def test_cancelled_download_releases_its_slots() -> None:
    async def scenario() -> None:
        async with run_fetcher(drip_body) as (fetcher, url):
            fetching = asyncio.create_task(fetch_all(fetcher, "alpha", url, url))
            await wait_until_async(lambda: fetcher.downloads.in_use == 2, "the downloads have started")
            fetching.cancel()
            await asyncio.wait([fetching])
            assert fetcher.downloads.in_use == 0

    run_async(scenario())


@pytest.mark.parametrize("source", ["a client", "a seller"])
def test_hanging_hosts_use_no_connections_of_orders(source: str) -> None:
    """The pools allow at most three connections to each kind of host."""

    async def scenario() -> None:
        async with (
            run_server(hang_forever) as hanging,
            run_server(serve_requests) as quick,
            SellerClient(TransportPool(max_connections=3)) as client,
        ):
            for connection in _start_hanging_requests(client, hanging.url, source):
                connection.add_done_callback(lambda task: task.cancelled() or task.exception())
            await wait_until_async(lambda: hanging.connection_count >= 2, "two connections hang")
            for _ in range(20):
                assert isinstance(await client.send(GET_CALL, make_seller(quick.url), QUICK_OPTIONS), Answer)

    run_async(scenario())


def _start_hanging_requests(client: SellerClient, url: str, source: str) -> Iterator["asyncio.Task[object]"]:
    upload = Call(method="PUT", location=url, body=IMAGE, is_presigned=True)
    for number in range(6):
        if source == "a client":
            fetcher = InputFetcher(client.transport_pool, TIMING, private=True)
            yield asyncio.create_task(fetch_all(fetcher, f"team-{number}", url))
        elif number % 2:
            yield asyncio.create_task(client.download(url, True))
        else:
            yield asyncio.create_task(client.send(upload, make_seller(url), QUICK_OPTIONS))


@pytest.mark.parametrize("source", ["a client", "a seller"])
def test_hanging_dns_names_use_no_lookups_of_orders(source: str) -> None:
    """More names than lookup threads for any kind of host, each of another team or account."""
    silent = asyncio.Event()

    async def lookup(host: str) -> Sequence[str]:
        if not host.startswith("seller-"):
            await silent.wait()
        return ["127.0.0.1"]

    async def scenario() -> None:
        async with run_server(serve_requests) as quick, SellerClient(TransportPool(lookup)) as client:
            fetcher = InputFetcher(client.transport_pool, TIMING, private=True)
            for number in range(100):
                url = f"http://silent-{number}.example/"
                hanging_fetch = (
                    asyncio.create_task(fetch_all(fetcher, f"team-{number}", url))
                    if source == "a client"
                    else asyncio.create_task(client.download(url, True, account=f"account-{number}"))
                )
                hanging_fetch.add_done_callback(lambda task: task.cancelled() or task.exception())
            await asyncio.sleep(0.1)
            for number in range(10):
                url = quick.url.replace("127.0.0.1", f"seller-{number}.example")
                assert isinstance(await client.send(ORDER_CALL, make_seller(url), QUICK_OPTIONS), Answer)
            silent.set()

    run_async(scenario())
