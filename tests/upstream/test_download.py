"""Image downloads: redirects are checked at each hop, results are complete, URLs are never logged."""

import asyncio
import logging
import time
import traceback

import pytest

from gateway.upstream.download import DownloadError, DownloadLimits
from gateway.upstream.seller_client import SellerClient
from tests.harness.sandbox_runner import RunningSandbox
from tests.upstream.fake_servers import (
    ConnectionHandler,
    build_response,
    keep_hanging,
    make_responder,
    make_sequence,
    reset_connection,
    run_async,
    run_server,
    serve_requests,
)

IMAGE = b"\x89PNG" + bytes(range(256)) * 1000
SIGNED_PATH = "/canary-path?X-Sig=canary-signature"


async def _download_image(handle: ConnectionHandler, limits: DownloadLimits) -> bytes:
    async with run_server(handle) as server, SellerClient() as client:
        return await client.download(server.url + SIGNED_PATH, True, limits)


def download_image(handle: ConnectionHandler, **limits: object) -> bytes:
    return run_async(_download_image(handle, DownloadLimits(**limits)))  # type: ignore[arg-type]


def test_image_is_downloaded_completely() -> None:
    assert download_image(make_responder(build_response(IMAGE))) == IMAGE


def test_download_request_has_no_credentials() -> None:
    async def download_and_read_head() -> bytes:
        async with run_server(serve_requests) as server, SellerClient() as client:
            await client.download(server.url + SIGNED_PATH, private=True)
            return server.request_heads[0].lower()

    head = run_async(download_and_read_head())
    assert head.startswith(b"get " + SIGNED_PATH.lower().encode())
    assert b"accept-encoding: identity" in head
    assert b"authorization" not in head
    assert b"cookie" not in head


@pytest.mark.parametrize("status", [403, 404, 410])
def test_missing_image_is_a_permanent_error(status: int) -> None:
    with pytest.raises(DownloadError) as raised:
        download_image(make_responder(build_response(b"", f"{status} No")))
    assert raised.value.is_permanent


TRANSIENT_FAILURES = {
    "500": make_responder(build_response(b"", "500 Oops")),
    "503": make_responder(build_response(b"", "503 Later")),
    "204": make_responder(b"HTTP/1.1 204 None\r\n\r\n"),
    "304": make_responder(b"HTTP/1.1 304 Same\r\n\r\n"),
    "206": make_responder(build_response(IMAGE[:10], "206 Partial")),
    "shorter than declared": make_responder(build_response(IMAGE)[:-1]),
    "cut within a chunk": make_responder(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\nhalf"),
    "reset": make_sequence(make_responder(build_response(IMAGE)[:-1], interval=0.05), reset_connection),
    "closed": make_responder(b""),
    "garbage": make_responder(b"no HTTP\r\n\r\n"),
    "endless redirects": make_responder(build_response(b"", "302 Found", ["Location: /again"])),
}


@pytest.mark.parametrize("name", TRANSIENT_FAILURES)
def test_transient_failure_is_not_permanent(name: str) -> None:
    with pytest.raises(DownloadError) as raised:
        download_image(TRANSIENT_FAILURES[name])
    assert not raised.value.is_permanent


def test_image_larger_than_the_limit_is_a_permanent_error() -> None:
    assert len(download_image(make_responder(build_response(b"0" * 1000)), max_bytes=1000)) == 1000
    endless = make_responder(b"HTTP/1.1 200 OK\r\n\r\n", *[b"0" * 65536] * 2000)
    for handle in (make_responder(build_response(b"0" * 1001)), endless):
        with pytest.raises(DownloadError) as raised:
            download_image(handle, max_bytes=1000)
        assert raised.value.is_permanent


DRIPPING_RESPONSE = make_responder(*(bytes([byte]) for byte in build_response(IMAGE)[:99]), interval=0.2)


@pytest.mark.parametrize(
    "handle",
    [make_sequence(make_responder(b"HTTP/1.1 200 OK\r\n"), keep_hanging), DRIPPING_RESPONSE],
    ids=["hangs", "drips"],
)
def test_slow_download_times_out(handle: ConnectionHandler) -> None:
    started_at = time.monotonic()
    with pytest.raises(DownloadError) as raised:
        download_image(handle, timeout_seconds=0.4)
    assert not raised.value.is_permanent
    assert time.monotonic() - started_at < 10


def _make_redirect_chain(hops: int, last_location: bytes = b"") -> ConnectionHandler:
    """/0 redirects to /1, and so on; the last hop returns an image, or redirects to `last_location`."""

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        hop = int(head.split(b" ")[1].strip(b"/").split(b"?")[0])
        target = last_location if hop == hops - 1 and last_location else b"/%d" % (hop + 1)
        is_last = hop >= hops
        writer.write(
            build_response(IMAGE) if is_last else build_response(b"", "302 Found", [f"Location: {target.decode()}"])
        )
        await writer.drain()

    return redirect


@pytest.mark.parametrize(("hops", "arrives"), [(0, True), (1, True), (3, True), (4, False)])
def test_up_to_three_redirects_are_followed(hops: int, arrives: bool) -> None:
    async def follow() -> bytes:
        async with run_server(_make_redirect_chain(hops)) as server, SellerClient() as client:
            return await client.download(f"{server.url}/0", private=True)

    if arrives:
        assert run_async(follow()) == IMAGE
    else:
        with pytest.raises(DownloadError):
            run_async(follow())


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://1.1.1.1/", "https://user@1.1.1.1/", "data:,x", "gopher://1.1.1.1/"]
)
def test_redirect_to_a_forbidden_url_is_a_permanent_error(url: str) -> None:
    async def follow() -> None:
        async with run_server(_make_redirect_chain(2, url.encode())) as server, SellerClient() as client:
            await client.download(f"{server.url}/0", private=True)

    with pytest.raises(DownloadError) as raised:
        run_async(follow())
    assert raised.value.is_permanent


def test_signed_urls_are_never_logged_or_reported(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    not_compressed = make_responder(build_response(b"{}", headers=["Content-Encoding: gzip"]))
    for handle in (*TRANSIENT_FAILURES.values(), make_responder(build_response(b"", "404 No")), not_compressed):
        with pytest.raises(DownloadError) as raised:
            download_image(handle)
        error = raised.value
        assert "canary" not in "".join(traceback.format_exception_only(error))
        assert (error.__cause__, error.__context__) == (None, None)
    assert "canary" not in caplog.text


def test_sandbox_sample_image_is_downloaded(sandbox: RunningSandbox) -> None:
    async def fetch() -> bytes:
        async with SellerClient() as client:
            return await client.download(f"{sandbox.url}/_/sample.png?w=64&h=48", private=True)

    assert run_async(fetch()).startswith(b"\x89PNG")
