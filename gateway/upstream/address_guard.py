"""Blocks connections to private addresses (SSRF protection). It checks the address of each connection right before
connecting.

So an unusual spelling, a redirect or DNS rebinding cannot lead into the network of the operator.
"""

import errno
import ipaddress
import re
import socket
from collections.abc import Callable

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType, SocketFactoryType

from gateway.upstream.dns_lookup import Lookup

AddressCheck = Callable[[str], bool]

# `is_global` of the standard library differs between Python's versions and lets several of these pass.
_BLOCKED_IPV4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"),
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata service
        "168.63.129.16/32",  # Azure's platform services, at an otherwise public address
        *("192.0.0.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.175.48.0/24"),  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        *("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"),  # documentation
        "198.18.0.0/15",  # benchmarks
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
# All addresses outside this range are local, mapped, translated (NAT64), multicast or unassigned.
_IPV6_UNICAST = ipaddress.IPv6Network("2000::/3")
_BLOCKED_IPV6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        *("2001:db8::/32", "3fff::/20"),  # documentation
        "2002::/16",  # 6to4: contains any IPv4 address
    )
)
# A name needs at least two labels. If the last one is a number, some resolvers read an address: 127.1, 0x7f.1.
_HOSTNAME = re.compile(r"(?:[a-z0-9_-]+\.)+[a-z][a-z0-9-]*\.?", re.ASCII | re.IGNORECASE)
# Top-level names that lead into a private network wherever they are resolved.
_LOCAL_DOMAINS = {
    *("localhost", "localdomain", "local", "internal", "intranet", "private", "corp", "home", "lan", "arpa")
}


class AddressBlocked(PermissionError):
    """The address guard blocked the connection."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "address blocked")


def is_public(address: str) -> bool:
    """Returns whether this is an ordinary address of the public internet."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not any(ip in network for network in _BLOCKED_IPV4)
    is_global_unicast = ip.scope_id is None and ip in _IPV6_UNICAST and ip.is_global
    return is_global_unicast and not any(ip in network for network in _BLOCKED_IPV6)


def is_public_host(host: str) -> bool:
    """Returns whether a host that a proxy will resolve is a public address, or a name that cannot be an address.

    Only the proxy can check to which address such a name resolves.
    """
    return is_public(host) or (
        bool(_HOSTNAME.fullmatch(host)) and host.lower().rstrip(".").split(".")[-1] not in _LOCAL_DOMAINS
    )


def allow_all(_: str) -> bool:
    """Allows every address. Used for accounts that the configuration calls private."""
    return True


def make_socket_factory(is_allowed: AddressCheck) -> SocketFactoryType:
    """Returns a factory of sockets to allowed addresses. Literal addresses are checked only here."""

    def create_socket(info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        if not is_allowed(str(address[0])):
            raise AddressBlocked
        return socket.socket(family, kind, protocol)

    return create_socket


class GuardedResolver(AbstractResolver):
    """Blocks a name if any of its addresses is blocked, since the address to connect to is chosen at random."""

    def __init__(self, is_allowed: AddressCheck, lookup: Lookup) -> None:
        self._is_allowed = is_allowed
        self._lookup = lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = await self._lookup(host)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no addresses")
        if not all(self._is_allowed(address) for address in addresses):
            raise AddressBlocked
        return [_make_result(host, address, port) for address in addresses]

    async def close(self) -> None:
        """Does nothing: the lookup is shared and closed by its owner."""


def _make_result(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
