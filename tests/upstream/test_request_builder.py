"""Requests as sent, and malformed calls that are never sent."""

import asyncio

import httpx
import pytest

from gateway.upstream.seller_client import CallOptions, SellerClient
from providers.adapter import Answer, Call, FormPart
from providers.faults import FaultKind
from providers.order_status import NoAnswer
from tests.upstream.fake_servers import (
    API_KEY,
    GET_CALL,
    ORDER_CALL,
    QUICK_OPTIONS,
    get_fault_kind,
    make_seller,
    run_async,
    run_server,
    serve_requests,
)
from tests.upstream.fake_transports import FixedTransportPool

UNSENDABLE_CALLS = {
    "a line break in a header": Call(method="GET", location="/", headers={"x-id": "1\r\nauthorization: Bearer mine"}),
    "a line feed in a header": Call(method="GET", location="/", headers={"x-id": "1\nx: y"}),
    "a NUL in a header": Call(method="GET", location="/", headers={"x-id": "1\0"}),
    "characters that a header cannot contain": Call(method="GET", location="/", headers={"x-id": "größe 東京"}),
    "a lone surrogate": Call(method="GET", location="/", headers={"x-id": "\ud800"}),
    "a header's name with a colon": Call(method="GET", location="/", headers={"x:y": "1"}),
    "a header without a name": Call(method="GET", location="/", headers={"": "1"}),
    "another content length": Call(method="POST", location="/", headers={"Content-Length": "3"}, body=b"{}"),
    "another transfer encoding": Call(
        method="POST", location="/", headers={"Transfer-Encoding": "chunked"}, body=b"{}"
    ),
    "another host": Call(method="GET", location="/", headers={"Host": "other.example"}),
    "an expectation": Call(method="POST", location="/", headers={"Expect": "100-continue"}, body=b"{}"),
    "a line break in the address": Call(method="GET", location="/things\r\nx: y"),
    "a space in the address": Call(method="GET", location="/things HTTP/1.1"),
    "an address that starts elsewhere": Call(method="GET", location="@other.example/things"),
    "an address that continues the host": Call(method="GET", location=".other.example/things"),
    "an address that names a port": Call(method="GET", location=":1/things"),
    "a path that leaves the base URL": Call(method="GET", location="/things/../../admin"),
    "backslashes": Call(method="GET", location="/\\other.example"),
    "a form with two lines in a type": Call(
        method="POST", location="/", body=(FormPart("image", b"", "a.png", "image/png\r\nx: y"),)
    ),
    "a form with a type that is not ASCII": Call(
        method="POST", location="/", body=(FormPart("image", b"", "a.png", "größe"),)
    ),
    "a form with a lone surrogate": Call(method="POST", location="/", body=(FormPart("\ud800", b""),)),
}


@pytest.mark.parametrize("name", UNSENDABLE_CALLS)
def test_unsendable_call_is_not_sent(name: str) -> None:
    async def send_call() -> tuple[Answer | NoAnswer, int]:
        async with run_server(serve_requests) as server, SellerClient() as client:
            return await client.send(
                UNSENDABLE_CALLS[name], make_seller(server.url), QUICK_OPTIONS
            ), server.connection_count

    outcome, connections = run_async(send_call())
    assert get_fault_kind(outcome) is FaultKind.NOT_SENT
    assert connections == 0


@pytest.mark.parametrize("secret", [None, "two\r\nlines", "größe"])
def test_call_without_a_usable_api_key_is_not_sent(secret: str | None) -> None:
    async def send_call() -> tuple[Answer | NoAnswer, int]:
        async with run_server(serve_requests) as server, SellerClient() as client:
            outcome = await client.send(ORDER_CALL, make_seller(server.url, api_key=secret), QUICK_OPTIONS)
            return outcome, server.connection_count

    outcome, connections = run_async(send_call())
    assert get_fault_kind(outcome) is FaultKind.NOT_SENT
    assert connections == 0


def test_request_line_and_headers() -> None:
    async def send_call() -> list[bytes]:
        async with run_server(serve_requests) as server, SellerClient() as client:
            url = f"{server.url}/base"
            await client.send(GET_CALL, make_seller(url), QUICK_OPTIONS)
            await client.send(ORDER_CALL, make_seller(url), CallOptions(timeout_seconds=30.0, fresh_connection=True))
            return [head.replace(str(server.port).encode(), b"PORT") for head in server.request_heads]

    get_request, order_request = run_async(send_call())
    assert get_request.split(b"\r\n")[0] == b"GET /base/things/1 HTTP/1.1"
    assert sorted(get_request.lower().split(b"\r\n")[1:-2]) == [
        b"accept-encoding: identity",
        b"accept: */*",
        b"authorization: bearer " + API_KEY.encode(),
        b"host: 127.0.0.1:port",
        b"user-agent: image-gateway",
    ]
    assert {b"content-length: 7", b"content-type: application/json"} <= set(order_request.lower().split(b"\r\n"))
    assert b"connection: close" not in order_request.lower()


def test_foreign_transport_that_hangs_is_response_lost() -> None:
    async def hang_request(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(3600)
        raise AssertionError

    async def send_call() -> Answer | NoAnswer:
        async with SellerClient(FixedTransportPool(httpx.MockTransport(hang_request))) as client:
            return await client.send(ORDER_CALL, make_seller("http://127.0.0.1:1"), CallOptions(timeout_seconds=0.1))

    assert get_fault_kind(run_async(send_call())) is FaultKind.RESPONSE_LOST


def test_response_of_a_foreign_transport_is_returned() -> None:
    def echo(request: httpx.Request) -> httpx.Response:
        return httpx.Response(201, headers={"X-Method": request.method}, content=b"{}")

    async def send_call() -> Answer | NoAnswer:
        async with SellerClient(FixedTransportPool(httpx.MockTransport(echo))) as client:
            return await client.send(ORDER_CALL, make_seller("http://127.0.0.1:1"), QUICK_OPTIONS)

    outcome = run_async(send_call())
    assert isinstance(outcome, Answer)
    assert (outcome.status, outcome.headers["x-method"], outcome.body) == (201, "POST", b"{}")
