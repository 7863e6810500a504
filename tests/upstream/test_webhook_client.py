"""The client of webhooks: what each kind of answer and failure is called, and to where it never connects."""

import asyncio
import ssl
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import pytest

from gateway.upstream.transport_pool import TransportPool
from gateway.upstream.webhook_client import MAX_RESPONSE_BYTES, WebhookAnswer, WebhookClient, WebhookRequest
from tests.harness.ports import reserve_port
from tests.upstream.fake_servers import (
    ConnectionHandler,
    build_response,
    hang_forever,
    make_responder,
    run_server,
)

TIMEOUT_SECONDS = 1.0
ParamsT = ParamSpec("ParamsT")


def in_event_loop(test: Callable[ParamsT, Coroutine[Any, Any, None]]) -> Callable[ParamsT, None]:
    """Makes an asynchronous test an ordinary one."""

    @wraps(test)
    def run_test(*args: ParamsT.args, **kwargs: ParamsT.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run_test


def make_request(url: str, *, is_private: bool = True) -> WebhookRequest:
    return WebhookRequest(url=url, is_private=is_private, tenant="acme", headers={"webhook-id": "1"}, body=b'{"a":1}')


async def send_to(handle: ConnectionHandler) -> tuple[WebhookAnswer, list[bytes]]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(run_server(handle))
        pool = TransportPool()
        stack.push_async_callback(pool.aclose)
        answer = await WebhookClient(pool).send(make_request(f"{server.url}/hook?a=b"), TIMEOUT_SECONDS)
        return answer, server.request_heads


async def send_without_server(url: str, *, is_private: bool = True) -> WebhookAnswer:
    pool = TransportPool()
    try:
        return await WebhookClient(pool).send(make_request(url, is_private=is_private), TIMEOUT_SECONDS)
    finally:
        await pool.aclose()


@in_event_loop
async def test_webhook_is_one_post_with_its_headers() -> None:
    answer, [head] = await send_to(make_responder(build_response(status="204 No Content", body=b"")))
    assert answer == WebhookAnswer(status=204)
    lines = head.decode().lower().split("\r\n")
    assert lines[0] == "post /hook?a=b http/1.1"
    assert {"content-type: application/json", "content-length: 7", "webhook-id: 1"} <= set(lines)
    assert not [line for line in lines if line.startswith(("authorization", "cookie"))]


@pytest.mark.parametrize("status", ["200 OK", "302 Found", "410 Gone", "500 Internal Server Error"])
@in_event_loop
async def test_status_is_the_answer_and_no_redirect_is_followed(status: str) -> None:
    location = "Location: http://127.0.0.1:1/"
    answer, heads = await send_to(make_responder(build_response(status=status, headers=[location])))
    assert (answer.status, answer.failure, len(heads)) == (int(status[:3]), None, 1)


@in_event_loop
async def test_retry_after_is_read() -> None:
    headers = ["Retry-After: 120"]
    answer, _ = await send_to(make_responder(build_response(status="503 Busy", headers=headers)))
    assert answer == WebhookAnswer(status=503, retry_after=120.0, body=b"{}")


@in_event_loop
async def test_large_or_broken_response_keeps_its_status() -> None:
    large, _ = await send_to(make_responder(build_response(bytes(4 * MAX_RESPONSE_BYTES))))
    broken, _ = await send_to(make_responder(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"))
    assert large == broken == WebhookAnswer(status=200)


@in_event_loop
async def test_silent_server_is_left_after_the_timeout() -> None:
    began_at = time.monotonic()
    answer, _ = await send_to(hang_forever)
    assert answer == WebhookAnswer(failure="timeout")
    assert TIMEOUT_SECONDS <= time.monotonic() - began_at < 10 * TIMEOUT_SECONDS


@in_event_loop
async def test_closed_connection_is_lost() -> None:
    answer, _ = await send_to(make_responder(b""))
    assert answer == WebhookAnswer(failure="connection_lost")


@in_event_loop
async def test_refused_connection_and_unknown_name() -> None:
    assert await send_without_server(f"http://127.0.0.1:{reserve_port()}/") == WebhookAnswer(failure="connect_failed")
    assert await send_without_server("http://no-such-host.invalid/") == WebhookAnswer(failure="name_not_found")


@pytest.mark.parametrize(
    "url",
    [
        *(
            "https://127.0.0.1/",
            "https://localhost/",
            "https://10.0.0.1/",
            "https://169.254.169.254/",
            "https://[::1]/",
        ),
        *("http://example.com/", "https://example.com:8443/", "https://2130706433/", "ftp://example.com/"),
    ],
)
@in_event_loop
async def test_public_webhook_never_connects_to_a_private_address(url: str) -> None:
    answer = await send_without_server(url, is_private=False)
    assert answer == WebhookAnswer(failure="address_blocked")


@in_event_loop
async def test_untrusted_certificate_is_refused(certificate: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    async with run_server(make_responder(build_response()), tls) as server:
        answer = await send_without_server(f"https://127.0.0.1:{server.port}/")
    assert answer == WebhookAnswer(failure="tls_failed")


@in_event_loop
async def test_cancelled_webhook_ends_at_once() -> None:
    async with run_server(hang_forever) as server:
        task = asyncio.create_task(send_without_server(server.url + "/"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
