"""An account with a proxy, given to a running gateway: its orders, questions and pictures all leave through it."""

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.flow.configuration import SELLERS, VENDOR
from tests.flow.gateways import Flow
from tests.upstream.proxies import BASIC, USER, WORD, forwards
from tests.upstream.servers import server

REQUEST = re.compile(rb"(GET|POST|PUT) http://\S+ HTTP/1.1\r\n")


@contextmanager
def proxy() -> Iterator[tuple[str, bytearray]]:
    """Where it is, and all that it passes on."""
    heard, urls = bytearray(), list[str]()
    begun, over = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with server(forwards(heard=heard)) as running:
            urls.append(running.url)
            begun.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert begun.wait(10)
        yield urls[0], heard
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()


@contextmanager
def leaving_through(flow: Flow, account: str, url: str) -> Iterator[None]:
    """With credentials, which stand in a file."""
    folder = flow.gateway.callback_secret.parent
    secret, accounts = folder / "proxy", folder / "config" / "accounts.yaml"
    secret.write_text(url.replace("//", f"//{USER}:{WORD}@"))
    before = accounts.read_text()
    config = json.loads(before)
    config["accounts"][account]["proxy"] = f"file:{secret}"
    accounts.write_text(json.dumps(config))
    try:
        flow.gateway.reload()
        yield
    finally:
        accounts.write_text(before)
        flow.gateway.reload()


@pytest.mark.parametrize("seller", SELLERS)
def test_everything_of_an_account_leaves_through_its_proxy(flow: Flow, seller: str) -> None:
    with proxy() as (url, heard):
        with leaving_through(flow, VENDOR[seller], url):
            job = flow.buy(seller)
            assert job["status"] == "completed"
            assert len(flow.pictures(job)) == 1
            flow.gateway.until_idle()
        sent = [entry["method"] for entry in flow.sandbox.requests(VENDOR[seller])]
        assert sorted(sent) == sorted(method.decode() for method in REQUEST.findall(bytes(heard)))
        assert heard.count(BASIC.encode()) == len(sent)


def test_without_its_proxy_nothing_of_an_account_leaves(flow: Flow) -> None:
    with proxy() as (url, heard):
        gone = url
    with leaving_through(flow, "runflow", gone):
        job = flow.buy_first("runflow-run")
        flow.gateway.until_idle()
    assert job["status"] == "completed"
    assert flow.sandbox.requests("runflow") == []
    assert flow.orders("runapi") == 1
    assert heard == b""
