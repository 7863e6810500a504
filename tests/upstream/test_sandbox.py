"""The simulated sellers, bought from through the real client: JSON, forms, uploads to addresses that were signed."""

import asyncio
import email.policy
import io
from email.parser import BytesParser
from typing import Any

import pytest
from PIL import Image

from gateway.catalogue import Account
from gateway.catalogue import Seller as Sold
from gateway.config.values import Secret
from gateway.upstream.client import Exchange, Upstream
from providers import ADAPTERS
from providers.orders import AutoSize, Feature, Inline, Operation
from providers.progress import Unanswered
from providers.spec import Answer, Call, DataUri, FormPart, InputRoute, Multipart, Upload
from tests.contract import cases
from tests.contract.driver import Seller
from tests.contract.sockets import EACH, SIMULATED, VENDOR, look, order
from tests.upstream.servers import ORDER, QUICK, answer, asked, run, seller, server
from tests.vendors import Vendors


class Shop(Seller):
    """The contract tests' plain engine, with the gateway's own client below."""

    def perform(self, call: Call) -> Answer | Unanswered:
        simulated = cases.simulated(self.adapter)
        account = Account(
            name=simulated["vendor"],
            base_url=self.vendors.url + simulated["path"],
            secret=Secret(simulated["key"]),
            replay_trusted=False,
            callback_secrets=(),
            private=True,
        )
        sold = Sold(name=self.adapter.name, account=account, adapter=self.adapter)

        async def exchanged() -> Answer | Unanswered:
            async with Upstream() as upstream:
                return await upstream.perform(call, sold, Exchange(seconds=10.0, fresh=call.method == "POST"))

        return asyncio.run(exchanged())


@EACH
def test_a_picture_is_bought(sandbox: Vendors, name: str) -> None:
    shop = Shop(ADAPTERS[name], sandbox)
    (data,) = shop.pictures(shop.buy(order(shop.adapter)))
    assert look(data)[2] == "png"
    assert len(sandbox.charges()) == 1


EDITS = [
    pytest.param(name, type(route), id=f"{name}-{type(route).__name__}")
    for name in SIMULATED
    for route in ADAPTERS[name].inputs
    if isinstance(route, Multipart | DataUri | Upload)
]


@pytest.mark.parametrize(("name", "route"), EDITS)
def test_an_edit_takes_its_inputs_by_every_route(sandbox: Vendors, name: str, route: type[InputRoute]) -> None:
    shop = Shop(ADAPTERS[name], sandbox)
    image = Inline(sandbox.sample(640, 320), "image/png", 'in "größe".png')
    masked = Feature.MASK in shop.adapter.speaks.edit
    edit = order(
        shop.adapter,
        operation=Operation.EDIT,
        sources=tuple(shop.bring(image, route) for _ in range(2)),
        mask=shop.bring(_mask(640, 320), route) if masked else None,
        size=AutoSize(),
    )
    (data,) = shop.pictures(shop.buy(edit))
    width, height, _ = look(data)
    assert width / height == pytest.approx(1.5 if VENDOR[name] == "openai" else 2, rel=0.03)


def _mask(width: int, height: int) -> Inline:
    data = io.BytesIO()
    Image.new("RGBA", (width, height), (0, 0, 0, 0)).save(data, "PNG")
    return Inline(data.getvalue(), "image/png", "mask.png")


def test_a_form_holds_exactly_what_it_was_given() -> None:
    """Names are escaped as browsers do, so that none ends its line or its quotes."""
    parts = (
        FormPart("prompt", "größe\r\nzwei".encode()),
        FormPart("n", b"1"),
        FormPart("image[]", bytes(range(256)) * 3000, 'a"b\r\nx: y.png', "image/png"),
        FormPart("image[]", b"", "größe.png", "image/png"),
        FormPart("mask", b"\r\n--\r\n", "untyped"),
        FormPart('odd"\r\nname', b"x"),
    )
    received: list[Any] = []

    async def reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await asked(reader)
        received.append(body)
        writer.write(answer())
        await writer.drain()

    async def sends() -> bytes:
        call = Call(method="POST", location="/", body=parts)
        async with server(reads) as running, Upstream() as upstream:
            assert isinstance(await upstream.perform(call, seller(running.url), QUICK), Answer)
            return running.requests[0]

    head = run(sends())
    whole = BytesParser(policy=email.policy.HTTP).parsebytes(head.partition(b"\r\n")[2] + received[0])
    assert int(str(whole["content-length"])) == len(received[0])
    found = list(whole.iter_parts())
    assert [part.get_payload(decode=True) for part in found] == [part.data for part in parts]
    assert [part.get_content_type() if "content-type" in part else None for part in found] == [
        *(None, None, "image/png", "image/png", "application/octet-stream", None)
    ]
    raw = received[0]
    assert b'name="image[]"; filename="a%22b%0D%0Ax: y.png"\r\n' in raw
    assert 'name="image[]"; filename="größe.png"\r\n'.encode() in raw
    assert b'name="odd%22%0D%0Aname"\r\n\r\nx\r\n' in raw


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 1 << 20, (3 << 20) + 1])
def test_bodies_of_every_size_arrive_whole(size: int) -> None:
    body = (bytes(range(251)) * (size // 251 + 1))[:size]
    received: list[bytes] = []

    async def reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await asked(reader))
        writer.write(answer(received[-1]))
        await writer.drain()

    async def sends() -> None:
        async with server(reads) as running, Upstream() as upstream:
            call = Call(method="POST", location=ORDER.location, body=body)
            for fresh in (True, False):
                outcome = await upstream.perform(call, seller(running.url), Exchange(seconds=5.0, fresh=fresh))
                assert isinstance(outcome, Answer)
                assert outcome.body == body

    run(sends())
    assert received == [body, body]
