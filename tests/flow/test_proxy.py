"""An account with a proxy, given to a running gateway: its orders, questions and pictures all leave through it."""

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.flow.flow_config import SELLERS, VENDOR_BY_SELLER
from tests.flow.order_flow import OrderFlow
from tests.upstream.fake_proxies import BASIC_CREDENTIALS, PROXY_PASSWORD, PROXY_USER, make_forwarder
from tests.upstream.fake_servers import run_server

PROXIED_REQUEST = re.compile(rb"(GET|POST|PUT) http://\S+ HTTP/1.1\r\n")


@contextmanager
def run_proxy() -> Iterator[tuple[str, bytearray]]:
    """Where it is, and all that it passes on."""
    traffic, urls = bytearray(), list[str]()
    started, stopped = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with run_server(make_forwarder(recorded=traffic)) as running:
            urls.append(running.url)
            started.set()
            await stopped.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert started.wait(10)
        yield urls[0], traffic
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(10)
        loop.close()


@contextmanager
def configure_proxy(flow: OrderFlow, account: str, url: str) -> Iterator[None]:
    """With credentials, which stand in a file."""
    folder = flow.gateway.callback_secret_path.parent
    proxy_path, accounts = folder / "proxy", folder / "config" / "accounts.yaml"
    proxy_path.write_text(url.replace("//", f"//{PROXY_USER}:{PROXY_PASSWORD}@"))
    before = accounts.read_text()
    config = json.loads(before)
    config["accounts"][account]["proxy"] = f"file:{proxy_path}"
    accounts.write_text(json.dumps(config))
    try:
        flow.gateway.reload_config()
        yield
    finally:
        accounts.write_text(before)
        flow.gateway.reload_config()


@pytest.mark.parametrize("seller", SELLERS)
def test_all_requests_of_an_account_use_its_proxy(flow: OrderFlow, seller: str) -> None:
    with run_proxy() as (url, traffic):
        with configure_proxy(flow, VENDOR_BY_SELLER[seller], url):
            job = flow.buy(seller)
            assert job["status"] == "completed"
            assert len(flow.fetch_images(job)) == 1
            flow.gateway.wait_until_idle()
        sent = [entry["method"] for entry in flow.sandbox.list_requests(VENDOR_BY_SELLER[seller])]
        assert sorted(sent) == sorted(method.decode() for method in PROXIED_REQUEST.findall(bytes(traffic)))
        assert traffic.count(BASIC_CREDENTIALS.encode()) == len(sent)


def test_account_with_unreachable_proxy_sends_nothing(flow: OrderFlow) -> None:
    with run_proxy() as (url, traffic):
        stopped_proxy_url = url
    with configure_proxy(flow, "runflow", stopped_proxy_url):
        job = flow.buy_with_failover("runflow-run")
        flow.gateway.wait_until_idle()
    assert job["status"] == "completed"
    assert flow.sandbox.list_requests("runflow") == []
    assert flow.count_orders("runapi") == 1
    assert traffic == b""
