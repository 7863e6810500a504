"""What leaves, and what is never put on the wire."""

import asyncio

import httpx
import pytest

from gateway.config.proxies import Proxy
from gateway.upstream.client import Exchange, Upstream
from gateway.upstream.transport import HostSource, Ways
from providers.faults import FaultKind
from providers.progress import Unanswered
from providers.spec import Answer, Call, FormPart
from tests.upstream.servers import GET, KEY, ORDER, QUICK, kind, run, seller, server, serves

UNSENDABLE = {
    "a line break in a header": Call(method="GET", location="/", headers={"x-id": "1\r\nauthorization: Bearer mine"}),
    "a line feed in a header": Call(method="GET", location="/", headers={"x-id": "1\nx: y"}),
    "a NUL in a header": Call(method="GET", location="/", headers={"x-id": "1\0"}),
    "letters that no header can hold": Call(method="GET", location="/", headers={"x-id": "größe 東京"}),
    "a lone surrogate": Call(method="GET", location="/", headers={"x-id": "\ud800"}),
    "a header's name with a colon": Call(method="GET", location="/", headers={"x:y": "1"}),
    "a header without a name": Call(method="GET", location="/", headers={"": "1"}),
    "a length that is not ours": Call(method="POST", location="/", headers={"Content-Length": "3"}, body=b"{}"),
    "chunks that are not ours": Call(method="POST", location="/", headers={"Transfer-Encoding": "chunked"}, body=b"{}"),
    "another host": Call(method="GET", location="/", headers={"Host": "other.example"}),
    "an expectation": Call(method="POST", location="/", headers={"Expect": "100-continue"}, body=b"{}"),
    "a line break in the address": Call(method="GET", location="/things\r\nx: y"),
    "a space in the address": Call(method="GET", location="/things HTTP/1.1"),
    "an address that starts elsewhere": Call(method="GET", location="@other.example/things"),
    "an address that continues the host": Call(method="GET", location=".other.example/things"),
    "an address that names a port": Call(method="GET", location=":1/things"),
    "a way out of the base URL": Call(method="GET", location="/things/../../admin"),
    "backslashes": Call(method="GET", location="/\\other.example"),
    "a form with two lines in a type": Call(
        method="POST", location="/", body=(FormPart("image", b"", "a.png", "image/png\r\nx: y"),)
    ),
    "a form with no such type": Call(method="POST", location="/", body=(FormPart("image", b"", "a.png", "größe"),)),
    "a form with a lone surrogate": Call(method="POST", location="/", body=(FormPart("\ud800", b""),)),
}


@pytest.mark.parametrize("name", UNSENDABLE)
def test_what_cannot_be_written_is_not_sent(name: str) -> None:
    async def ask() -> tuple[Answer | Unanswered, int]:
        async with server(serves) as running, Upstream() as upstream:
            return await upstream.perform(UNSENDABLE[name], seller(running.url), QUICK), running.connections

    outcome, connections = run(ask())
    assert kind(outcome) is FaultKind.NOT_SENT
    assert connections == 0


@pytest.mark.parametrize("secret", [None, "two\r\nlines", "größe"])
def test_without_a_usable_key_nothing_is_sent(secret: str | None) -> None:
    async def ask() -> tuple[Answer | Unanswered, int]:
        async with server(serves) as running, Upstream() as upstream:
            outcome = await upstream.perform(ORDER, seller(running.url, secret=secret), QUICK)
            return outcome, running.connections

    outcome, connections = run(ask())
    assert kind(outcome) is FaultKind.NOT_SENT
    assert connections == 0


def test_the_request_is_written_as_agreed() -> None:
    async def ask() -> list[bytes]:
        async with server(serves) as running, Upstream() as upstream:
            url = f"{running.url}/base"
            await upstream.perform(GET, seller(url), QUICK)
            await upstream.perform(ORDER, seller(url), Exchange(seconds=5.0, fresh=True))
            return [head.replace(str(running.port).encode(), b"PORT") for head in running.requests]

    question, order = run(ask())
    assert question.split(b"\r\n")[0] == b"GET /base/things/1 HTTP/1.1"
    assert sorted(question.lower().split(b"\r\n")[1:-2]) == [
        b"accept-encoding: identity",
        b"accept: */*",
        b"authorization: bearer " + KEY.encode(),
        b"host: 127.0.0.1:port",
        b"user-agent: image-gateway",
    ]
    assert {b"connection: close", b"content-length: 7", b"content-type: application/json"} <= set(
        order.lower().split(b"\r\n")
    )


class _Refusing(Ways):
    """Somebody else's transport, which knows nothing of how far a request has come."""

    def __init__(self, behave: httpx.AsyncBaseTransport) -> None:
        self._behave = behave

    def way(
        self, *, private: bool, fresh: bool, proxy: Proxy | None = None, source: HostSource = HostSource.OPERATOR
    ) -> httpx.AsyncBaseTransport:
        return self._behave

    async def aclose(self) -> None:
        await self._behave.aclose()


def test_another_transport_that_hangs_may_have_sent() -> None:
    async def hanging(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(3600)
        raise AssertionError

    async def ask() -> Answer | Unanswered:
        async with Upstream(_Refusing(httpx.MockTransport(hanging))) as upstream:
            return await upstream.perform(ORDER, seller("http://127.0.0.1:1"), Exchange(seconds=0.1))

    assert kind(run(ask())) is FaultKind.LOST


def test_answers_from_another_transport_are_answers() -> None:
    def echo(request: httpx.Request) -> httpx.Response:
        return httpx.Response(201, headers={"X-Method": request.method}, content=b"{}")

    async def ask() -> Answer | Unanswered:
        async with Upstream(_Refusing(httpx.MockTransport(echo))) as upstream:
            return await upstream.perform(ORDER, seller("http://127.0.0.1:1"), QUICK)

    outcome = run(ask())
    assert isinstance(outcome, Answer)
    assert (outcome.status, outcome.headers["x-method"], outcome.body) == (201, "POST", b"{}")
