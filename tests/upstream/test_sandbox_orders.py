"""Orders at the simulated sellers through the real seller client: JSON, forms, uploads to presigned URLs."""

import asyncio
import email.policy
from email.parser import BytesParser
from typing import Any

import pytest

from gateway.catalogue import Seller, SellerAccount
from gateway.config.value_types import Secret
from gateway.upstream.seller_client import CallOptions, SellerClient
from providers import ADAPTERS
from providers.adapter import Answer, Call, DataUri, FormPart, InputTransport, Multipart, Upload
from providers.order_status import NoAnswer
from providers.orders import Feature, ImageBytes, Operation
from tests.contract import fixture_cases
from tests.contract.adapter_driver import AdapterDriver
from tests.contract.simulated_sellers import (
    EACH_SELLER,
    SANDBOX_ACCOUNTS,
    make_mask,
    make_order,
    make_wide_size,
    read_image_info,
)
from tests.harness.sandbox_runner import RunningSandbox
from tests.upstream.fake_servers import (
    ORDER_CALL,
    QUICK_OPTIONS,
    build_response,
    make_seller,
    read_request,
    run_async,
    run_server,
)


class SellerClientDriver(AdapterDriver):
    """The contract tests' driver on top of the gateway's client."""

    def send(self, call: Call) -> Answer | NoAnswer:
        sandbox_account = fixture_cases.get_sandbox_account(self.adapter)
        account = SellerAccount(
            name=sandbox_account["vendor"],
            base_url=self.sandbox.url + sandbox_account["path"],
            api_key=Secret(sandbox_account["key"]),
            replay_trusted=False,
            callback_secrets=(),
            allows_private_addresses=True,
        )
        seller = Seller(name=self.adapter.name, account=account, adapter=self.adapter)

        async def send_call() -> Answer | NoAnswer:
            async with SellerClient() as client:
                return await client.send(
                    call, seller, CallOptions(timeout_seconds=10.0, fresh_connection=call.method == "POST")
                )

        return asyncio.run(send_call())


@EACH_SELLER
def test_image_is_generated(sandbox: RunningSandbox, name: str) -> None:
    driver = SellerClientDriver(ADAPTERS[name], sandbox)
    (data,) = driver.fetch_images(driver.submit_and_poll(make_order(driver.adapter)))
    assert read_image_info(data)[2] == "png"
    assert len(sandbox.list_charges()) == 1


EDIT_CASES = [
    pytest.param(name, type(route), id=f"{name}-{type(route).__name__}")
    for name in SANDBOX_ACCOUNTS
    for route in ADAPTERS[name].input_transports
    if isinstance(route, Multipart | DataUri | Upload)
]


@pytest.mark.parametrize(("name", "route"), EDIT_CASES)
def test_edit_accepts_inputs_by_every_transport(
    sandbox: RunningSandbox, name: str, route: type[InputTransport]
) -> None:
    driver = SellerClientDriver(ADAPTERS[name], sandbox)
    image = ImageBytes(sandbox.fetch_sample_image(640, 320), "image/png", 'in "größe".png')
    has_mask = Feature.MASK in driver.adapter.capabilities.edit_features
    edit = make_order(
        driver.adapter,
        operation=Operation.EDIT,
        input_images=tuple(driver.upload_input(image, route) for _ in range(2)),
        mask=driver.upload_input(make_mask(640, 320), route) if has_mask else None,
        size=make_wide_size(driver.adapter),
    )
    (data,) = driver.fetch_images(driver.submit_and_poll(edit))
    width, height, _ = read_image_info(data)
    assert width / height == pytest.approx(2, rel=0.03)


def test_multipart_form_is_encoded_exactly() -> None:
    """Names are escaped as browsers do it, so that none ends its line or its quotes."""
    parts = (
        FormPart("prompt", "größe\r\nzwei".encode()),
        FormPart("n", b"1"),
        FormPart("image[]", bytes(range(256)) * 3000, 'a"b\r\nx: y.png', "image/png"),
        FormPart("image[]", b"", "größe.png", "image/png"),
        FormPart("mask", b"\r\n--\r\n", "untyped"),
        FormPart('odd"\r\nname', b"x"),
    )
    received: list[Any] = []

    async def handle_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await read_request(reader)
        received.append(body)
        writer.write(build_response())
        await writer.drain()

    async def send_form() -> bytes:
        call = Call(method="POST", location="/", body=parts)
        async with run_server(handle_request) as server, SellerClient() as client:
            assert isinstance(await client.send(call, make_seller(server.url), QUICK_OPTIONS), Answer)
            return server.request_heads[0]

    head = run_async(send_form())
    message = BytesParser(policy=email.policy.HTTP).parsebytes(head.partition(b"\r\n")[2] + received[0])
    assert int(str(message["content-length"])) == len(received[0])
    message_parts = list(message.iter_parts())
    assert [part.get_payload(decode=True) for part in message_parts] == [part.data for part in parts]
    assert [part.get_content_type() if "content-type" in part else None for part in message_parts] == [
        *(None, None, "image/png", "image/png", "application/octet-stream", None)
    ]
    raw = received[0]
    assert b'name="image[]"; filename="a%22b%0D%0Ax: y.png"\r\n' in raw
    assert 'name="image[]"; filename="größe.png"\r\n'.encode() in raw
    assert b'name="odd%22%0D%0Aname"\r\n\r\nx\r\n' in raw


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 1 << 20, (3 << 20) + 1])
def test_bodies_of_every_size_arrive_complete(size: int) -> None:
    body = (bytes(range(251)) * (size // 251 + 1))[:size]
    received: list[bytes] = []

    async def handle_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await read_request(reader))
        writer.write(build_response(received[-1]))
        await writer.drain()

    async def send_bodies() -> None:
        async with run_server(handle_request) as server, SellerClient() as client:
            call = Call(method="POST", location=ORDER_CALL.location, body=body)
            for fresh_connection in (True, False):
                outcome = await client.send(
                    call, make_seller(server.url), CallOptions(timeout_seconds=30.0, fresh_connection=fresh_connection)
                )
                assert isinstance(outcome, Answer)
                assert outcome.body == body

    run_async(send_bodies())
    assert received == [body, body]
