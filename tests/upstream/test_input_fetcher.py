"""Links that clients name, whatever they lead to: within their team's part, and at no seller's expense."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager

import pytest

from gateway.upstream import input_fetcher
from gateway.upstream.client import Upstream
from gateway.upstream.download import DownloadError, DownloadLimits
from gateway.upstream.input_fetcher import FetchRefused, InputFetcher, InputsTooLarge
from gateway.upstream.transport import Ways
from providers.spec import Answer, Call
from tests.upstream.servers import (
    GET,
    ORDER,
    QUICK,
    Behaviour,
    answer,
    asked,
    hangs,
    run,
    says,
    seller,
    server,
    serves,
    until,
)

MIB = 1 << 20
PICTURE = bytes(MIB)
DOWNLOADS, TEAM_DOWNLOADS = 4, 2


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "MAX_DOWNLOADS": DOWNLOADS,
        "MAX_TEAM_DOWNLOADS": TEAM_DOWNLOADS,
        "MAX_BYTES": 8 * MIB,
        "MAX_TEAM_BYTES": 4 * MIB,
        "WAIT_SECONDS": 0.2,
        "INPUT_LIMITS": DownloadLimits(most_bytes=4 * MIB, seconds=1.0),
    }.items():
        monkeypatch.setattr(input_fetcher, name, value)


@asynccontextmanager
async def fetching(behave: Behaviour) -> AsyncIterator[tuple[InputFetcher, str]]:
    async with server(behave) as running, Upstream() as upstream:
        fetcher = InputFetcher(upstream.ways, private=True)
        yield fetcher, running.url
        assert (fetcher.downloads.in_use, fetcher.memory.in_use) == (0, 0)


async def fetched(fetcher: InputFetcher, team: str, *urls: str) -> Sequence[object]:
    with fetcher.request(team) as inputs:
        return await asyncio.gather(*map(inputs.fetch, urls), return_exceptions=True)


async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asked(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b" ")
        await asyncio.sleep(0.05)


def chunked(size: int) -> Behaviour:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return says(head, b"%x\r\n" % size + bytes(size) + b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("behave", [hangs, drips], ids=["never answers", "drips"])
def test_team_whose_downloads_hang_is_refused_and_another_is_served(behave: Behaviour) -> None:
    async def fetches() -> None:
        async with fetching(behave) as (fetcher, url), server(says(answer(PICTURE))) as quick:
            stuck = asyncio.create_task(fetched(fetcher, "beta", url, url))
            await until(lambda: fetcher.downloads.in_use == TEAM_DOWNLOADS)
            [refused] = await fetched(fetcher, "beta", url)
            assert isinstance(refused, FetchRefused)
            assert (refused.is_own, refused.limit) == (True, "2 downloads of input images")
            assert await fetched(fetcher, "alpha", quick.url) == [PICTURE]
            assert [type(one) for one in await stuck] == [DownloadError] * 2

    run(fetches())


def test_gateway_that_is_full_of_several_teams_says_so() -> None:
    async def fetches() -> None:
        async with fetching(hangs) as (fetcher, url):
            stuck = [asyncio.create_task(fetched(fetcher, team, url, url)) for team in ("one", "two")]
            await until(lambda: fetcher.downloads.in_use == DOWNLOADS)
            [refused] = await fetched(fetcher, "alpha", url)
            assert isinstance(refused, FetchRefused)
            assert (refused.is_own, refused.limit) == (False, "4 downloads of input images")
            await asyncio.gather(*stuck)

    run(fetches())


def test_images_are_held_until_their_request_ends_and_a_team_has_its_part_of_memory() -> None:
    async def fetches() -> None:
        async with fetching(chunked(2 * MIB)) as (fetcher, url):
            with ExitStack() as requests:
                for _ in range(2):
                    await requests.enter_context(fetcher.request("beta")).fetch(url)
                assert fetcher.memory.in_use == 2 * (2 * MIB - 65536), "what was taken ahead is given back"
                [refused] = await fetched(fetcher, "beta", url)
                assert isinstance(refused, FetchRefused)
                assert (refused.is_own, refused.limit) == (True, "4 MiB of input images")
                assert await fetched(fetcher, "alpha", url) == [bytes(2 * MIB)]
            assert await fetched(fetcher, "beta", url) == [bytes(2 * MIB)]

    run(fetches())


def test_images_of_one_request_that_are_too_large_together_are_refused() -> None:
    async def fetches() -> None:
        async with fetching(chunked(3 * MIB)) as (fetcher, url):
            with fetcher.request("alpha") as inputs:
                assert await inputs.fetch(url) == bytes(3 * MIB)
                with pytest.raises(InputsTooLarge):
                    await inputs.fetch(url)
            assert await fetched(fetcher, "alpha", url) == [bytes(3 * MIB)]

    run(fetches())


def test_one_request_has_its_time_for_all_its_links(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_fetcher, "REQUEST_SECONDS", 0.5)

    async def fetches() -> None:
        async with fetching(drips) as (fetcher, url):
            began = time.monotonic()
            with fetcher.request("alpha") as inputs:
                for _ in range(3):
                    with pytest.raises(DownloadError) as late:
                        await inputs.fetch(url)
                    assert late.value.public_reason == "it did not come in time"
            assert time.monotonic() - began < 1.5

    run(fetches())


def test_redirects_count_as_one_download() -> None:
    async def round_and_round(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        await asyncio.sleep(0.1)
        writer.write(answer(b"", "302 Found", ["Location: /again"]))
        await writer.drain()

    async def fetches() -> None:
        async with fetching(round_and_round) as (fetcher, url):
            chasing = asyncio.create_task(fetched(fetcher, "beta", url, url))
            most = 0
            while not chasing.done():
                most = max(most, fetcher.downloads.in_use)
                await asyncio.sleep(0.01)
            assert [str(one) for one in await chasing] == ["too many redirects"] * 2
            assert most == 2

    run(fetches())


def test_download_that_is_given_up_holds_nothing() -> None:
    async def fetches() -> None:
        async with fetching(drips) as (fetcher, url):
            giving_up = asyncio.create_task(fetched(fetcher, "alpha", url, url))
            await until(lambda: fetcher.downloads.in_use == 2)
            giving_up.cancel()
            await asyncio.wait([giving_up])
            assert fetcher.downloads.in_use == 0

    run(fetches())


@pytest.mark.parametrize("source", ["a client", "a seller"])
def test_hosts_that_hang_take_no_connection_from_orders(source: str) -> None:
    """Of a gateway that may have three at once to each kind of host."""

    async def orders() -> None:
        async with server(hangs) as hanging, server(serves) as quick, Upstream(Ways(most_connections=3)) as upstream:
            for connection in _stuck(upstream, hanging.url, source):
                connection.add_done_callback(lambda task: task.cancelled() or task.exception())
            await until(lambda: hanging.connections >= 2)
            for _ in range(20):
                assert isinstance(await upstream.perform(GET, seller(quick.url), QUICK), Answer)

    run(orders())


def _stuck(upstream: Upstream, url: str, source: str) -> Iterator["asyncio.Task[object]"]:
    upload = Call(method="PUT", location=url, body=PICTURE, presigned=True)
    for number in range(6):
        if source == "a client":
            fetcher = InputFetcher(upstream.ways, private=True)
            yield asyncio.create_task(fetched(fetcher, f"team-{number}", url))
        elif number % 2:
            yield asyncio.create_task(upstream.download(url, True))
        else:
            yield asyncio.create_task(upstream.perform(upload, seller(url), QUICK))


@pytest.mark.parametrize("source", ["a client", "a seller"])
def test_names_that_hang_take_no_lookup_from_orders(source: str) -> None:
    """More of them than there are threads for any kind of hosts, each of a team or account of its own."""
    silent = asyncio.Event()

    async def lookup(host: str) -> Sequence[str]:
        if not host.startswith("seller-"):
            await silent.wait()
        return ["127.0.0.1"]

    async def orders() -> None:
        async with server(serves) as quick, Upstream(Ways(lookup)) as upstream:
            fetcher = InputFetcher(upstream.ways, private=True)
            for number in range(100):
                url = f"http://silent-{number}.example/"
                stuck = (
                    asyncio.create_task(fetched(fetcher, f"team-{number}", url))
                    if source == "a client"
                    else asyncio.create_task(upstream.download(url, True, account=f"account-{number}"))
                )
                stuck.add_done_callback(lambda task: task.cancelled() or task.exception())
            await asyncio.sleep(0.1)
            for number in range(10):
                url = quick.url.replace("127.0.0.1", f"seller-{number}.example")
                assert isinstance(await upstream.perform(ORDER, seller(url), QUICK), Answer)
            silent.set()

    run(orders())
