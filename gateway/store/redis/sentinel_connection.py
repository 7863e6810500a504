"""Connections to the server that is the primary of a service, as its Sentinels report it.

Each new connection asks a Sentinel, and then the server itself whether it is a primary: a Sentinel that was cut off
from the others may name an old one.
"""

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import Connection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ConnectionError, RedisError

from gateway.store.redis.access_problems import find_tls_problem
from gateway.store.redis.server_url import HostAndPort, ServerUrl, format_hosts
from gateway.timeouts_and_intervals import StoreTiming

# Options that hold for servers only, or that the locator sets.
_SERVER_OPTIONS = ("host", "port", "db", "username", "password", "connection_class")
_NOT_FOR_SENTINELS = ("socket_timeout", "socket_connect_timeout")


class PrimaryLocator:
    """Asks the Sentinels one after the other, first the one that answered last."""

    def __init__(self, url: ServerUrl, timing: StoreTiming) -> None:
        self._service = url.service
        self._hosts = list(url.hosts)
        options = dict(parse_url(url.connection_url))
        is_tls = options.get("connection_class") is SSLConnection
        self._options: dict[str, Any] = {
            **{name: value for name, value in options.items() if name not in (*_SERVER_OPTIONS, *_NOT_FOR_SENTINELS)},
            "username": url.sentinel_username,
            "password": url.sentinel_password,
            "ssl": is_tls,
            "socket_timeout": timing.sentinel_timeout_seconds,
            "socket_connect_timeout": timing.sentinel_timeout_seconds,
            "retry": Retry(NoBackoff(), 0),
        }

    async def find_primary(self) -> HostAndPort:
        """Returns the address of the primary. Raises ConnectionError if no Sentinel reports one."""
        errors = []
        for address in tuple(self._hosts):
            try:
                primary = await self._ask_sentinel(address)
            except (RedisError, OSError) as error:
                errors.append(_describe_failure(address, error))
                continue
            if primary is not None:
                self._hosts.remove(address)
                self._hosts.insert(0, address)
                return primary
            errors.append(f"{format_hosts([address])} has no such service")
        raise ConnectionError(f"No Sentinel reports a primary of {self._service!r}: {'; '.join(errors)}")

    async def _ask_sentinel(self, address: HostAndPort) -> HostAndPort | None:
        host, port = address
        async with Redis(host=host, port=port, **self._options) as client:
            reply = await client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)  # type: ignore[no-untyped-call]
        return (_decode(reply[0]), int(reply[1])) if reply else None


class PrimaryConnection(Connection):
    """A connection to the primary."""

    def __init__(self, *, locator: PrimaryLocator, **options: Any) -> None:
        self._locator = locator
        super().__init__(**options)

    async def _connect(self) -> None:
        self.host, self.port = await self._locator.find_primary()
        await super()._connect()  # type: ignore[no-untyped-call]

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        await super().on_connect_check_health(check_health=check_health)
        await self.send_command("INFO", "replication", check_health=False)
        if b"role:master" not in await self.read_response(disable_decoding=True):
            raise ConnectionError(f"{self.host}:{self.port} is not a primary at the moment.")


class TlsPrimaryConnection(PrimaryConnection, SSLConnection):
    """The same with TLS."""


def make_primary_options(url: ServerUrl, timing: StoreTiming) -> dict[str, Any]:
    """Returns the options of a pool whose connections lead to the primary."""
    options = dict(parse_url(url.connection_url))
    is_tls = options.pop("connection_class", None) is SSLConnection
    del options["host"], options["port"]
    connection_class = TlsPrimaryConnection if is_tls else PrimaryConnection
    return {**options, "connection_class": connection_class, "locator": PrimaryLocator(url, timing)}


def _describe_failure(address: HostAndPort, error: Exception) -> str:
    """Describes the failure without its type, so that it is not taken for one of the servers."""
    if isinstance(error, AuthenticationError):
        return f"{format_hosts([address])} refuses sentinel_username or sentinel_password of REDIS_URL"
    return f"{format_hosts([address])}: {find_tls_problem(error) or error}"


def _decode(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
