"""The way out through an account's proxy: a tunnel to https, and plain HTTP asked for by its whole address.

The proxy looks names up and connects. So what a guard can judge here is only what a host is called.
"""

import httpx
import yarl

from gateway.config.proxies import Proxy
from gateway.upstream.guard import AddressRefused, Guard


class ThroughProxy(httpx.AsyncBaseTransport):
    """Over an engine that serves all proxies: it keeps connections apart by proxy, credentials and target."""

    def __init__(self, engine: httpx.AsyncBaseTransport, proxy: Proxy, guard: Guard) -> None:
        self._engine, self._proxy, self._guard = engine, proxy, guard

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not self._guard(request.url.raw_host.decode("ascii")):
            raise httpx.ConnectError(AddressRefused.__name__)
        shown = {"Proxy-Authorization": self._proxy.credentials.reveal()} if self._proxy.credentials else {}
        if request.url.scheme == "http":
            # The request itself is the proxy's to read.
            request.headers.update(shown)
        request.extensions["engine"] = {
            "proxy": yarl.URL(self._proxy.address),
            # A tunnel is kept even where only one request is to pass it.
            "proxy_headers": {"User-Agent": request.headers["user-agent"], "Connection": "keep-alive", **shown},
        }
        return await self._engine.handle_async_request(request)
