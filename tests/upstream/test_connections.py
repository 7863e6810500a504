"""Which connection a call uses, and which servers must never receive the API key."""

import asyncio

import pytest

from gateway.upstream.seller_client import CallOptions, SellerClient
from providers.adapter import Answer, Call
from providers.faults import FaultKind
from providers.order_status import NoAnswer
from tests.upstream.fake_servers import (
    API_KEY,
    GET_CALL,
    ORDER_CALL,
    QUICK_OPTIONS,
    ConnectionHandler,
    build_response,
    get_fault_kind,
    make_responder,
    make_seller,
    read_request,
    run_async,
    run_server,
    serve_requests,
)


async def answer_once_then_drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Responds with keep-alive, and drops the connection at the next request."""
    await read_request(reader)
    writer.write(build_response())
    await writer.drain()
    await read_request(reader)


async def close_while_idle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(build_response())
    await writer.drain()


async def _send_twice(
    handle: ConnectionHandler, call: Call, *, fresh_connection: bool, pause: float
) -> tuple[Answer | NoAnswer, int]:
    async with run_server(handle) as server, SellerClient() as client:
        seller = make_seller(server.url)
        first = await client.send(call, seller, CallOptions(timeout_seconds=5.0, fresh_connection=fresh_connection))
        assert isinstance(first, Answer)
        await asyncio.sleep(pause)
        second = await client.send(call, seller, CallOptions(timeout_seconds=5.0, fresh_connection=fresh_connection))
        return second, server.connection_count


def test_idle_connection_is_reused() -> None:
    second, connections = run_async(_send_twice(serve_requests, ORDER_CALL, fresh_connection=False, pause=0.0))
    assert isinstance(second, Answer)
    assert connections == 1


def test_fresh_order_opens_a_new_connection() -> None:
    second, connections = run_async(_send_twice(serve_requests, ORDER_CALL, fresh_connection=True, pause=0.0))
    assert isinstance(second, Answer)
    assert connections == 2


def test_fresh_order_never_uses_a_dead_connection() -> None:
    for handle in (answer_once_then_drop, close_while_idle):
        second, connections = run_async(_send_twice(handle, ORDER_CALL, fresh_connection=True, pause=0.0))
        assert isinstance(second, Answer)
        assert connections == 2


def test_order_on_a_dying_connection_is_response_lost_and_not_resent() -> None:
    second, connections = run_async(_send_twice(answer_once_then_drop, ORDER_CALL, fresh_connection=False, pause=0.0))
    assert get_fault_kind(second) is FaultKind.RESPONSE_LOST
    assert connections == 1


def test_get_on_a_dying_connection_is_resent() -> None:
    second, connections = run_async(_send_twice(answer_once_then_drop, GET_CALL, fresh_connection=False, pause=0.0))
    assert isinstance(second, Answer)
    assert connections == 2


@pytest.mark.parametrize("call", [GET_CALL, ORDER_CALL], ids=["get", "order"])
def test_connection_closed_while_idle_is_not_reused(call: Call) -> None:
    second, connections = run_async(_send_twice(close_while_idle, call, fresh_connection=False, pause=0.1))
    assert isinstance(second, Answer)
    assert connections == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("call", [GET_CALL, ORDER_CALL], ids=["get", "order"])
def test_redirects_are_not_followed(status: int, call: Call) -> None:
    async def send_call() -> tuple[Answer | NoAnswer, int]:
        async with run_server(serve_requests) as canary, SellerClient() as client:
            redirect = make_responder(build_response(b"", f"{status} Moved", [f"Location: {canary.url}/stolen"]))
            async with run_server(redirect) as server:
                outcome = await client.send(call, make_seller(server.url), QUICK_OPTIONS)
            return outcome, canary.connection_count

    outcome, connections = run_async(send_call())
    assert isinstance(outcome, Answer)
    assert outcome.status == status
    assert connections == 0


def test_presigned_upload_uses_the_exact_url_and_no_api_key() -> None:
    """The URL is sent byte for byte as signed."""
    path = "/bucket/a%2Fb%20c/~d?X-Sig=a%2Fb%2B%3D&empty=&x=%7e"

    async def put() -> bytes:
        async with run_server(serve_requests) as store, SellerClient() as client:
            call = Call(
                method="PUT",
                location=store.url + path,
                headers={"Content-Type": "image/png", "Content-Length": "7"},
                body=b"pngdata",
                is_presigned=True,
            )
            # The upload's host may even be the account's own.
            outcome = await client.send(call, make_seller(store.url), QUICK_OPTIONS)
            assert isinstance(outcome, Answer)
            return store.request_heads[0]

    head = run_async(put())
    assert head.split(b" ")[1] == path.encode()
    assert API_KEY.encode() not in head
    assert b"authorization" not in head.lower()
    assert b"content-type: image/png" in head.lower()


def test_cookies_are_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    async def send_call() -> list[bytes]:
        async with run_server(_set_cookies) as server, SellerClient() as client:
            await client.send(GET_CALL, make_seller(server.url), QUICK_OPTIONS)
            await client.send(GET_CALL, make_seller(server.url), QUICK_OPTIONS)
            return server.request_heads

    heads = run_async(send_call())
    assert len(heads) == 2
    assert b"cookie" not in heads[1].lower()


async def _set_cookies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await read_request(reader)
        writer.write(build_response(headers=["Set-Cookie: session=1; Path=/"]))


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_direct_requests_ignore_proxy_environment_variables(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def send_call() -> tuple[int, int]:
        async with run_server(serve_requests) as proxy, run_server(serve_requests) as server:
            monkeypatch.setenv(name, proxy.url)
            async with SellerClient() as client:
                await client.send(GET_CALL, make_seller(server.url), QUICK_OPTIONS)
            return proxy.connection_count, server.connection_count

    assert run_async(send_call()) == (0, 1)
