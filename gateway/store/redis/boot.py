"""What a Redis must be like to be trusted with paid jobs, and what is done when one was started anew."""

import re
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from gateway.store.base import StoreUnavailable, StoreUnfit
from gateway.store.redis.keys import RUNS
from gateway.store.redis.link import Link

Durability = Literal["checked", "declared"]
OLDEST = (7, 0)


async def check(link: Link, durability: Durability) -> tuple[str, ...]:
    """What to be warned of. StoreUnfit if jobs would be lost."""
    for server in await link.on_each("INFO", "server"):
        _require_version(_info(server))
    warnings: list[str] = []
    for option in ("maxmemory-policy", "appendonly", "appendfsync"):
        for answer in await link.on_each("CONFIG", "GET", option):
            warnings += _judged(option, answer, durability)
    return tuple(dict.fromkeys(warnings))


async def settle_restart(link: Link, durability: Durability, mend: Callable[[], Awaitable[None]]) -> None:
    """If a server is another process than anybody saw last, its append-only file is written anew at once: a tail that
    was torn in the middle of a script would otherwise be carried out by half at the restart after it. Then `mend`.

    Managed servers do not allow that, and keep their data in ways of their own.
    """
    runs = {_info(server)["run_id"] for server in await link.on_each("INFO", "server")}
    seen = {run.decode() for run in await link.command("SMEMBERS", RUNS)}
    if runs <= seen:
        return
    for answer in await link.on_each("BGREWRITEAOF"):
        is_refused = isinstance(answer, Exception) and "in progress" not in str(answer)
        if is_refused and durability == "checked":
            raise StoreUnavailable(f"Redis was restarted and cannot write its append-only file anew: {answer}")
    await mend()
    await link.command("SADD", RUNS, *runs)
    for gone in seen - runs:
        await link.command("SREM", RUNS, gone)


def _require_version(server: dict[str, str]) -> None:
    version = server.get("redis_version", "0")
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST:
        raise StoreUnfit(f"Redis {version} is too old: 7.0 or newer (or Valkey) runs scripts whole or not at all")


def _judged(option: str, answer: Any, durability: Durability) -> list[str]:
    if isinstance(answer, Exception):
        return [_unknown(option, answer, durability)]
    value = _value(answer, option)
    if option == "maxmemory-policy" and value != "noeviction":
        raise StoreUnfit(
            f"Redis would throw jobs away when its memory is full (maxmemory-policy {value}): "
            "run CONFIG SET maxmemory-policy noeviction, and set it in redis.conf"
        )
    if option == "appendonly" and value != "yes":
        if durability == "checked":
            raise StoreUnfit(
                "Redis keeps no append-only file, so a restart would lose paid jobs: run CONFIG SET appendonly yes, "
                "and set it in redis.conf; where the operator keeps data safe otherwise, set store.durability: declared"
            )
        return ["Redis keeps no append-only file: what a restart loses is up to whoever declared it durable"]
    if option == "appendfsync" and value != "always":
        return [f"Redis writes with appendfsync {value}: a power failure may lose the last seconds (always loses none)"]
    return []


def _unknown(option: str, error: Exception, durability: Durability) -> str:
    """Managed servers do not show their configuration."""
    if durability == "checked":
        raise StoreUnfit(
            f"Redis does not show its {option} ({error}): allow CONFIG GET to this user, or, on a managed server that "
            "is known to keep all data and to evict nothing, set store.durability: declared"
        )
    return f"Redis does not show its {option}: believed to be right, since its durability is declared"


def _value(answer: Any, option: str) -> str:
    pairs = answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
    return next((_text(value) for name, value in pairs.items() if _text(name) == option), "unknown")


def _info(answer: Any) -> dict[str, str]:
    if isinstance(answer, dict):
        return {str(name): str(value) for name, value in answer.items()}
    if isinstance(answer, Exception):
        raise StoreUnavailable(f"Redis does not say what it is: {answer}")
    lines = (line.partition(":") for line in _text(answer).splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in lines}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
