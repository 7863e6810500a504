"""An HTTP proxy that records what passes through it."""

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.upstream.fake_proxies import make_forwarder
from tests.upstream.fake_servers import run_server

PROXIED_REQUEST = re.compile(rb"(GET|POST|PUT) http://\S+ HTTP/1.1\r\n")


@contextmanager
def run_proxy() -> Iterator[tuple[str, bytearray]]:
    """Runs the proxy. Yields its URL and the recorded bytes."""
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
