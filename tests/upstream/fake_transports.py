"""A transport pool with a single transport."""

import httpx

from gateway.upstream.transport_pool import TransportOptions, TransportPoolProtocol


class FixedTransportPool:
    """Returns `transport` for every host. It reports nothing about the progress of a request.

    `wrapped_pool`: is closed in place of the transport.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, wrapped_pool: TransportPoolProtocol | None = None) -> None:
        self._transport, self._wrapped_pool = transport, wrapped_pool

    def get(self, _: TransportOptions) -> httpx.AsyncBaseTransport:
        return self._transport

    async def aclose(self) -> None:
        await (self._wrapped_pool or self._transport).aclose()
