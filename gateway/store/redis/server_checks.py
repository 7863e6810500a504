"""What a Redis must be like to be trusted with paid jobs, and what is done when one was started anew."""

import re
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from gateway.store.base import StoreMisconfigured, StoreUnavailable
from gateway.store.redis.keys import SERVER_RUNS
from gateway.store.redis.redis_client import RedisClient

Durability = Literal["checked", "declared"]
MIN_VERSION = (7, 0)


async def check_servers(client: RedisClient, durability: Durability) -> tuple[str, ...]:
    """What to be warned of. StoreUnfit if jobs would be lost."""
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
    """If a server is another process than anybody saw last, its append-only file is written anew at once: a tail that
    was torn in the middle of a script would otherwise be carried out by half at the restart after it. Then `repair`.

    Managed servers do not allow that, and keep their data in ways of their own.
    """
    current_runs = {_parse_info(server)["run_id"] for server in await client.execute_on_primaries("INFO", "server")}
    known_runs = {run.decode() for run in await client.execute("SMEMBERS", SERVER_RUNS)}
    if current_runs <= known_runs:
        return
    for reply in await client.execute_on_primaries("BGREWRITEAOF"):
        is_refused = isinstance(reply, Exception) and "in progress" not in str(reply)
        if is_refused and durability == "checked":
            raise StoreUnavailable(f"Redis was restarted and cannot write its append-only file anew: {reply}")
    await repair()
    await client.execute("SADD", SERVER_RUNS, *current_runs)
    for old_run in known_runs - current_runs:
        await client.execute("SREM", SERVER_RUNS, old_run)


def _require_version(server_info: dict[str, str]) -> None:
    version = server_info.get("redis_version", "0")
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < MIN_VERSION:
        raise StoreMisconfigured(
            f"Redis {version} is too old: 7.0 or newer (or Valkey) runs scripts whole or not at all"
        )


def _check_option(option: str, reply: Any, durability: Durability) -> list[str]:
    if isinstance(reply, Exception):
        return [_report_hidden_option(option, reply, durability)]
    value = _read_option(reply, option)
    if option == "maxmemory-policy" and value != "noeviction":
        raise StoreMisconfigured(
            f"Redis would throw jobs away when its memory is full (maxmemory-policy {value}): "
            "run CONFIG SET maxmemory-policy noeviction, and set it in redis.conf"
        )
    if option == "appendonly" and value != "yes":
        if durability == "checked":
            raise StoreMisconfigured(
                "Redis keeps no append-only file, so a restart would lose paid jobs: run CONFIG SET appendonly yes, "
                "and set it in redis.conf; where the operator keeps data safe otherwise, set store.durability: declared"
            )
        return ["Redis keeps no append-only file: what a restart loses is up to whoever declared it durable"]
    if option == "appendfsync" and value != "always":
        return [f"Redis writes with appendfsync {value}: a power failure may lose the last seconds (always loses none)"]
    return []


def _report_hidden_option(option: str, error: Exception, durability: Durability) -> str:
    """Managed servers do not show their configuration."""
    if durability == "checked":
        raise StoreMisconfigured(
            f"Redis does not show its {option} ({error}): allow CONFIG GET to this user, or, on a managed server that "
            "is known to keep all data and to evict nothing, set store.durability: declared"
        )
    return f"Redis does not show its {option}: believed to be right, since its durability is declared"


def _read_option(reply: Any, option: str) -> str:
    pairs = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    return next((_decode_text(value) for name, value in pairs.items() if _decode_text(name) == option), "unknown")


def _parse_info(reply: Any) -> dict[str, str]:
    if isinstance(reply, dict):
        return {str(name): str(value) for name, value in reply.items()}
    if isinstance(reply, Exception):
        raise StoreUnavailable(f"Redis does not say what it is: {reply}")
    lines = (line.partition(":") for line in _decode_text(reply).splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in lines}


def _decode_text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
