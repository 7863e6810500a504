"""Pictures: redirects checked hop by hop, whole or not at all, and not a word about their addresses."""

import asyncio
import logging
import time
import traceback

import pytest

from gateway.upstream.client import Upstream
from gateway.upstream.download import DownloadError, DownloadLimits
from tests.upstream.servers import Behaviour, answer, hang, reset, run, says, server, serves, then
from tests.vendors import Vendors

PICTURE = b"\x89PNG" + bytes(range(256)) * 1000
SECRET = "/canary-path?X-Sig=canary-signature"


async def _fetched(behave: Behaviour, limits: DownloadLimits) -> bytes:
    async with server(behave) as running, Upstream() as upstream:
        return await upstream.download(running.url + SECRET, True, limits)


def fetched(behave: Behaviour, **limits: object) -> bytes:
    return run(_fetched(behave, DownloadLimits(**limits)))  # type: ignore[arg-type]


def test_a_picture_arrives_whole() -> None:
    assert fetched(says(answer(PICTURE))) == PICTURE


def test_what_we_ask_with() -> None:
    async def ask() -> bytes:
        async with server(serves) as running, Upstream() as upstream:
            await upstream.download(running.url + SECRET, private=True)
            return running.requests[0].lower()

    head = run(ask())
    assert head.startswith(b"get " + SECRET.lower().encode())
    assert b"accept-encoding: identity" in head
    assert b"authorization" not in head
    assert b"cookie" not in head


@pytest.mark.parametrize("status", [403, 404, 410])
def test_what_is_gone_is_gone(status: int) -> None:
    with pytest.raises(DownloadError) as raised:
        fetched(says(answer(b"", f"{status} No")))
    assert raised.value.gone


TRANSIENT = {
    "500": says(answer(b"", "500 Oops")),
    "503": says(answer(b"", "503 Later")),
    "204": says(b"HTTP/1.1 204 None\r\n\r\n"),
    "304": says(b"HTTP/1.1 304 Same\r\n\r\n"),
    "206": says(answer(PICTURE[:10], "206 Partial")),
    "shorter than announced": says(answer(PICTURE)[:-1]),
    "cut within a chunk": says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\nhalf"),
    "reset": then(says(answer(PICTURE)[:-1], every=0.05), reset),
    "closed": says(b""),
    "garbage": says(b"no HTTP\r\n\r\n"),
    "round and round": says(answer(b"", "302 Found", ["Location: /again"])),
}


@pytest.mark.parametrize("name", TRANSIENT)
def test_what_may_work_next_time(name: str) -> None:
    with pytest.raises(DownloadError) as raised:
        fetched(TRANSIENT[name])
    assert not raised.value.gone


def test_nothing_larger_than_agreed() -> None:
    assert len(fetched(says(answer(b"0" * 1000)), most_bytes=1000)) == 1000
    endless = says(b"HTTP/1.1 200 OK\r\n\r\n", *[b"0" * 65536] * 2000)
    for behave in (says(answer(b"0" * 1001)), endless):
        with pytest.raises(DownloadError) as raised:
            fetched(behave, most_bytes=1000)
        assert raised.value.gone


DRIPPING = says(*(bytes([byte]) for byte in answer(PICTURE)[:99]), every=0.2)


@pytest.mark.parametrize("behave", [then(says(b"HTTP/1.1 200 OK\r\n"), hang), DRIPPING], ids=["hangs", "drips"])
def test_wall_time_is_limited(behave: Behaviour) -> None:
    started = time.monotonic()
    with pytest.raises(DownloadError) as raised:
        fetched(behave, seconds=0.4)
    assert not raised.value.gone
    assert time.monotonic() - started < 1.0


def _leading(hops: int, end: bytes = b"") -> Behaviour:
    """/0 leads to /1, and so on; what is at the end is a picture, or an address."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        at = int(head.split(b" ")[1].strip(b"/").split(b"?")[0])
        to = end if at == hops - 1 and end else b"/%d" % (at + 1)
        done = at >= hops
        writer.write(answer(PICTURE) if done else answer(b"", "302 Found", [f"Location: {to.decode()}"]))
        await writer.drain()

    return behave


@pytest.mark.parametrize(("hops", "arrives"), [(0, True), (1, True), (3, True), (4, False)])
def test_a_few_redirects_are_followed(hops: int, arrives: bool) -> None:
    async def follow() -> bytes:
        async with server(_leading(hops)) as running, Upstream() as upstream:
            return await upstream.download(f"{running.url}/0", private=True)

    if arrives:
        assert run(follow()) == PICTURE
    else:
        with pytest.raises(DownloadError):
            run(follow())


@pytest.mark.parametrize(
    "end", ["file:///etc/passwd", "ftp://1.1.1.1/", "https://user@1.1.1.1/", "data:,x", "gopher://1.1.1.1/"]
)
def test_a_redirect_may_lead_nowhere_else(end: str) -> None:
    async def follow() -> None:
        async with server(_leading(2, end.encode())) as running, Upstream() as upstream:
            await upstream.download(f"{running.url}/0", private=True)

    with pytest.raises(DownloadError) as raised:
        run(follow())
    assert raised.value.gone


def test_nobody_repeats_a_signed_address(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    unpacked = says(answer(b"{}", headers=["Content-Encoding: gzip"]))
    for behave in (*TRANSIENT.values(), says(answer(b"", "404 No")), unpacked):
        with pytest.raises(DownloadError) as raised:
            fetched(behave)
        error = raised.value
        assert "canary" not in "".join(traceback.format_exception_only(error))
        assert (error.__cause__, error.__context__) == (None, None)
    assert "canary" not in caplog.text


def test_the_sandbox_draws_and_we_fetch(sandbox: Vendors) -> None:
    async def fetch() -> bytes:
        async with Upstream() as upstream:
            return await upstream.download(f"{sandbox.url}/_/sample.png?w=64&h=48", private=True)

    assert run(fetch()).startswith(b"\x89PNG")
