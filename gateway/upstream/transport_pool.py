"""HTTP transports, with a separate set for each source of host names: operator, seller, client, webhook.

So no source can use up the connections or lookups of another.
"""

import ssl
from enum import Enum
from typing import Protocol

import httpx
from msgspec import Struct

from gateway.config.account_proxy import Proxy
from gateway.timeouts_and_intervals import ConnectionTiming
from gateway.upstream import address_guard
from gateway.upstream.dns_lookup import DnsLookup, Lookup, LookupLimits, SystemResolver
from gateway.upstream.proxy_transport import ProxyTransport
from gateway.upstream.transport import AiohttpTransport, ProgressConnector


class HostSource(Enum):
    """Who chose a host's name: the operator, a seller, a client for its inputs, or a team for its webhooks."""

    OPERATOR = "operator"
    SELLER = "seller"
    CLIENT = "client"
    WEBHOOK = "webhook"


MAX_CONNECTIONS = 2_000
# The operator names few hosts. Each has at most one lookup at a time, which never waits for others.
LOOKUP_LIMITS = {
    HostSource.OPERATOR: LookupLimits(max_total=64, max_per_tenant=4, stale_seconds=3_600.0),
    HostSource.SELLER: LookupLimits(max_total=32, max_per_tenant=8),
    # The system's resolver retries after 5 s, so 6 s tolerate one lost packet.
    HostSource.CLIENT: LookupLimits(max_total=32, max_per_tenant=8, timeout_seconds=6.0),
    HostSource.WEBHOOK: LookupLimits(max_total=32, max_per_tenant=8, timeout_seconds=6.0),
}


class TransportOptions(Struct, frozen=True, kw_only=True):
    """The transport that a request needs. `private`: its host may have a private address."""

    private: bool
    fresh_connection: bool
    proxy: Proxy | None = None
    source: HostSource = HostSource.OPERATOR


class TransportPoolProtocol(Protocol):
    """The interface of `TransportPool`; tests substitute their own."""

    def get(self, options: TransportOptions) -> httpx.AsyncBaseTransport: ...

    async def aclose(self) -> None: ...


class _SourceTransports:
    """The transports to hosts whose names come from one source.

    There is one for each combination of: public addresses only or any address, kept-alive or fresh connections, direct
    or through a proxy. A fresh connection is a new one, or one that answered within the last second.
    """

    def __init__(
        self,
        lookup: Lookup,
        proxy_lookup: Lookup,
        tls: ssl.SSLContext | None,
        max_connections: int,
        timing: ConnectionTiming,
    ) -> None:
        def make_transport(
            is_allowed: address_guard.AddressCheck, lookup: Lookup, fresh_connection: bool
        ) -> httpx.AsyncBaseTransport:
            connector = ProgressConnector(
                resolver=address_guard.GuardedResolver(is_allowed, lookup),
                # DnsLookup caches names for all connectors.
                use_dns_cache=False,
                socket_factory=address_guard.make_socket_factory(is_allowed),
                ssl=tls or True,
                limit=max_connections,
                keepalive_timeout=timing.fresh_connection_seconds if fresh_connection else timing.keepalive_seconds,
            )
            return AiohttpTransport(connector)

        self.direct = {
            (private, fresh_connection): make_transport(
                address_guard.allow_all if private else address_guard.is_public, lookup, fresh_connection
            )
            for private in (False, True)
            for fresh_connection in (False, True)
        }
        self.via_proxy = {
            fresh_connection: make_transport(address_guard.allow_all, proxy_lookup, fresh_connection)
            for fresh_connection in (False, True)
        }

    async def aclose(self) -> None:
        for transport in (*self.direct.values(), *self.via_proxy.values()):
            await transport.aclose()


class TransportPool:
    """The transports of one process. Proxies may have any address, since the operator chooses them."""

    def __init__(
        self,
        lookup: Lookup | None = None,
        tls: ssl.SSLContext | None = None,
        max_connections: int = MAX_CONNECTIONS,
        timing: ConnectionTiming = ConnectionTiming(),
    ) -> None:
        self._lookups = {
            source: DnsLookup(lookup or SystemResolver(), limits, timing) for source, limits in LOOKUP_LIMITS.items()
        }
        proxy_lookup = self._lookups[HostSource.OPERATOR]
        self._transports = {
            source: _SourceTransports(source_lookup, proxy_lookup, tls, max_connections, timing)
            for source, source_lookup in self._lookups.items()
        }

    def get(self, options: TransportOptions) -> httpx.AsyncBaseTransport:
        transports = self._transports[options.source]
        if options.proxy is None:
            return transports.direct[options.private, options.fresh_connection]
        return ProxyTransport(
            transports.via_proxy[options.fresh_connection],
            options.proxy,
            address_guard.allow_all if options.private else address_guard.is_public_host,
        )

    async def aclose(self) -> None:
        for transports in self._transports.values():
            await transports.aclose()
        for lookup in self._lookups.values():
            lookup.close()
