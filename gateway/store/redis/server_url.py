"""Parses REDIS_URL: one server, several servers of a Cluster, or the Sentinels of a service."""

import os
import re
from collections.abc import Sequence
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from gateway.store.base import StoreMisconfigured

SENTINEL_PORT, SERVER_PORT = 26_379, 6_379
_FILE_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SENTINEL_EXAMPLE = "redis+sentinel://user:password@host1:26379,host2:26379/service/0?sentinel_password=…"
_CLUSTER_EXAMPLE = "redis+cluster://user:password@host1:6379,host2:6379"
ServerKind = Literal["server", "sentinel", "cluster"]
_SCHEME = re.compile(r"(rediss?)\+(sentinel|cluster)://")
HostAndPort = tuple[str, int]


class ServerUrl(Struct, frozen=True, kw_only=True):
    """Where Redis is.

    `connection_url`: a URL with the credentials, database and options for each server; its host is the first one.
    `hosts`: the Sentinels, or the first known servers of a Cluster; empty for one server, which may belong to a
    Cluster. `service`: the name of the primary at the Sentinels.
    """

    connection_url: str
    kind: ServerKind = "server"
    hosts: tuple[HostAndPort, ...] = ()
    service: str = ""
    sentinel_username: str | None = None
    sentinel_password: str | None = None

    @property
    def is_tls(self) -> bool:
        return self.connection_url.startswith("rediss://")

    def select_server(self, host: str, port: int) -> "ServerUrl":
        """Returns the URL of one server, with the same credentials and options."""
        parts = urlsplit(self.connection_url)
        credentials = parts.netloc.rpartition("@")[0]
        address = parts._replace(netloc=_join_address(credentials, (host, port)))
        return replace(self, connection_url=address.geturl(), kind="server", hosts=())


def parse_server_url(text: str) -> ServerUrl:
    """Raises StoreMisconfigured if the URL has no host or no service."""
    match = _SCHEME.match(text)
    if not match:
        return ServerUrl(connection_url=text)
    scheme, kind = match.groups()
    parts = urlsplit(f"{scheme}://{text[match.end() :]}")
    credentials, _, addresses = parts.netloc.rpartition("@")
    if kind == "cluster":
        hosts = _parse_hosts(addresses, SERVER_PORT, _CLUSTER_EXAMPLE)
        url = parts._replace(netloc=_join_address(credentials, hosts[0])).geturl()
        return ServerUrl(connection_url=url, kind="cluster", hosts=hosts)
    hosts = _parse_hosts(addresses, SENTINEL_PORT, _SENTINEL_EXAMPLE)
    service, _, database = parts.path.removeprefix("/").partition("/")
    if not service or not re.fullmatch(r"\d*", database, re.ASCII):
        raise _make_error("names no service, or an invalid database", _SENTINEL_EXAMPLE)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    sentinel_username, sentinel_password = (
        options.pop("sentinel_username", None),
        options.pop("sentinel_password", None),
    )
    url = parts._replace(
        netloc=_join_address(credentials, hosts[0]), path=f"/{database or 0}", query=urlencode(options)
    ).geturl()
    return ServerUrl(
        connection_url=url,
        kind="sentinel",
        hosts=hosts,
        service=unquote(service),
        sentinel_username=sentinel_username,
        sentinel_password=sentinel_password,
    )


def check_files(url: ServerUrl) -> None:
    """Raises StoreMisconfigured if the URL names a file that cannot be read. The error of TLS would not name it."""
    for name, path in parse_qsl(urlsplit(url.connection_url).query):
        if name in _FILE_OPTIONS and not os.access(path, os.R_OK):
            raise StoreMisconfigured(f"REDIS_URL names {path} as {name}, and the file cannot be read.")


def _parse_hosts(addresses: str, default_port: int, example: str) -> tuple[HostAndPort, ...]:
    hosts = []
    for address in addresses.split(","):
        try:
            parts = urlsplit(f"//{address}")
            host, port = parts.hostname, parts.port or default_port
        except ValueError as error:
            raise _make_error("has an invalid host or port", example) from error
        if not host:
            raise _make_error("names no host", example)
        hosts.append((unquote(host), port))
    return tuple(hosts)


def _join_address(credentials: str, address: HostAndPort) -> str:
    host, port = address
    text = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"{credentials}@{text}" if credentials else text


def _make_error(problem: str, example: str) -> StoreMisconfigured:
    return StoreMisconfigured(f"REDIS_URL {problem}. It must be like {example}.")


def format_hosts(hosts: Sequence[HostAndPort]) -> str:
    return ", ".join(_join_address("", address) for address in hosts)
