"""The way out through an account's proxy: a tunnel to https, and plain HTTP asked for by its whole address.

The proxy looks names up and connects. So what a guard can judge here is only what a host is called.
"""

import httpx
import yarl

from gateway.config.proxy import Proxy
from gateway.upstream.address_guard import AddressBlocked, AddressCheck


class ProxyTransport(httpx.AsyncBaseTransport):
    """Over an engine that serves all proxies: it keeps connections apart by proxy, credentials and target."""

    def __init__(self, transport: httpx.AsyncBaseTransport, proxy: Proxy, is_allowed: AddressCheck) -> None:
        self._transport, self._proxy, self._is_allowed = transport, proxy, is_allowed

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not self._is_allowed(request.url.raw_host.decode("ascii")):
            raise httpx.ConnectError(AddressBlocked.__name__)
        auth_headers = {"Proxy-Authorization": self._proxy.credentials.reveal()} if self._proxy.credentials else {}
        if request.url.scheme == "http":
            # The request itself is the proxy's to read.
            request.headers.update(auth_headers)
        request.extensions["aiohttp_options"] = {
            "proxy": yarl.URL(self._proxy.address),
            # A tunnel is kept even where only one request is to pass it.
            "proxy_headers": {"User-Agent": request.headers["user-agent"], "Connection": "keep-alive", **auth_headers},
        }
        return await self._transport.handle_async_request(request)
