"""HTTP transport through the proxy of an account: a CONNECT tunnel for https, absolute-form requests for http.

The proxy resolves names and connects, so here the address guard can check only the name of the host.
"""

import httpx
import yarl

from gateway.config.account_proxy import Proxy
from gateway.upstream.address_guard import AddressBlocked, AddressCheck


class ProxyTransport(httpx.AsyncBaseTransport):
    """Sends requests through one proxy, with a transport that serves all proxies.

    That transport keeps connections of different proxies, credentials and targets separate.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, proxy: Proxy, is_allowed: AddressCheck) -> None:
        self._transport, self._proxy, self._is_allowed = transport, proxy, is_allowed

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not self._is_allowed(request.url.raw_host.decode("ascii")):
            raise httpx.ConnectError(AddressBlocked.__name__)
        auth_headers = {"Proxy-Authorization": self._proxy.credentials.reveal()} if self._proxy.credentials else {}
        if request.url.scheme == "http":
            # The proxy reads the request itself.
            request.headers.update(auth_headers)
        request.extensions["aiohttp_options"] = {
            "proxy": yarl.URL(self._proxy.address),
            # The proxy must keep the tunnel open, even for a single request.
            "proxy_headers": {"User-Agent": request.headers["user-agent"], "Connection": "keep-alive", **auth_headers},
        }
        return await self._transport.handle_async_request(request)
