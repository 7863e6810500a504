"""Checks that a Redis server keeps jobs safe, and recovers after a restart of the server."""

import re
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from gateway.store.base import StoreMisconfigured, StoreUnavailable
from gateway.store.redis.keys import SERVER_RUNS
from gateway.store.redis.redis_client import RedisClient

Durability = Literal["checked", "declared"]
MIN_VERSION = (7, 0)


async def check_servers(client: RedisClient, durability: Durability) -> tuple[str, ...]:
    """Checks all servers. Returns warnings. Raises StoreMisconfigured if jobs would be lost."""
    for server in await client.execute_on_primaries("INFO", "server"):
        _require_version(_parse_info(server))
    warnings: list[str] = []
    for option in ("maxmemory-policy", "appendonly", "appendfsync"):
        for reply in await client.execute_on_primaries("CONFIG", "GET", option):
            warnings += _check_option(option, reply, durability)
    return tuple(dict.fromkeys(warnings))


async def recover_from_restart(
    client: RedisClient, durability: Durability, repair: Callable[[], Awaitable[None]]
) -> None:
    """Recovers after a restart of a server: rewrites its append-only file and calls `repair`.

    A power failure may cut off the record of a script in the file. Without the rewrite, the next restart would execute
    only half of that script. Managed servers do not allow the rewrite and keep their data by other means.
    """
    current_runs = {_parse_info(server)["run_id"] for server in await client.execute_on_primaries("INFO", "server")}
    known_runs = {run.decode() for run in await client.execute("SMEMBERS", SERVER_RUNS)}
    if current_runs <= known_runs:
        return
    for reply in await client.execute_on_primaries("BGREWRITEAOF"):
        is_refused = isinstance(reply, Exception) and "in progress" not in str(reply)
        if is_refused and durability == "checked":
            raise StoreUnavailable(
                f"Redis was restarted and refuses BGREWRITEAOF: {reply}. Allow the command, or declare its durability."
            )
    await repair()
    await client.execute("SADD", SERVER_RUNS, *current_runs)
    for old_run in known_runs - current_runs:
        await client.execute("SREM", SERVER_RUNS, old_run)


def _require_version(server_info: dict[str, str]) -> None:
    version = server_info.get("redis_version", "0")
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < MIN_VERSION:
        raise StoreMisconfigured(f"Redis {version} is too old: 7.0 or newer (or Valkey) is required.")


def _check_option(option: str, reply: Any, durability: Durability) -> list[str]:
    if isinstance(reply, Exception):
        return [_report_hidden_option(option, reply, durability)]
    value = _read_option(reply, option)
    if option == "maxmemory-policy" and value != "noeviction":
        raise StoreMisconfigured(
            f"Redis evicts jobs when its memory is full (maxmemory-policy {value}). "
            "Run CONFIG SET maxmemory-policy noeviction, and set it in redis.conf."
        )
    if option == "appendonly" and value != "yes":
        if durability == "checked":
            raise StoreMisconfigured(
                "Redis has no append-only file, so a restart would lose paid jobs. Run CONFIG SET appendonly yes, and "
                "set it in redis.conf; or set store.durability: declared, if the data is safe otherwise."
            )
        return ["Redis has no append-only file. Its durability is declared, so a restart may lose jobs."]
    if option == "appendfsync" and value != "always":
        return [f"Redis uses appendfsync {value}: a power failure may lose the last seconds. `always` loses nothing."]
    return []


def _report_hidden_option(option: str, error: Exception, durability: Durability) -> str:
    """Returns the warning for an option that a managed server does not show."""
    if durability == "checked":
        raise StoreMisconfigured(
            f"Redis does not allow CONFIG GET {option} ({error}). Allow it for this user, or set store.durability: "
            "declared for a managed server that keeps all data and evicts nothing."
        )
    return f"Redis does not allow CONFIG GET {option}. The option is not checked, because the durability is declared."


def _read_option(reply: Any, option: str) -> str:
    pairs = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    return next((_decode_text(value) for name, value in pairs.items() if _decode_text(name) == option), "unknown")


def _parse_info(reply: Any) -> dict[str, str]:
    if isinstance(reply, dict):
        return {str(name): str(value) for name, value in reply.items()}
    if isinstance(reply, Exception):
        raise StoreUnavailable(f"Redis refused INFO: {reply}")
    lines = (line.partition(":") for line in _decode_text(reply).splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in lines}


def _decode_text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
