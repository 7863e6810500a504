"""Checks that a Redis server keeps jobs safe, and recovers after a restart of the server."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.store.base import StoreMisconfigured, StoreUnavailable
from gateway.store.inspection import Durability, StoreProblem
from gateway.store.redis.keys import SERVER_RUNS
from gateway.store.redis.redis_client import RedisClient
from gateway.store.redis.scripts import RECORD_SERVER_RUNS
from gateway.store.redis.write_refusals import FULL

MIN_VERSION = (7, 0)
MAX_MEMORY_RATIO = 0.8


async def check_servers(client: RedisClient, durability: Durability) -> tuple[str, ...]:
    """Checks all servers. Returns warnings. Raises StoreMisconfigured if jobs would be lost."""
    problems = await find_server_problems(client, durability)
    for problem in problems:
        if problem.loses_jobs:
            raise StoreMisconfigured(str(problem))
    return tuple(map(str, problems))


async def find_server_problems(client: RedisClient, durability: Durability) -> tuple[StoreProblem, ...]:
    """Finds what is wrong with any of the servers: each problem once, in the order of the checks."""
    problems: list[StoreProblem] = []
    for server in await client.execute_on_primaries("INFO", "server"):
        problems += _check_version(parse_info(server))
    for option in ("maxmemory-policy", "appendonly", "appendfsync"):
        for reply in await client.execute_on_primaries("CONFIG", "GET", option):
            problems += _check_option(option, reply, durability)
    for memory in await client.execute_on_primaries("INFO", "memory"):
        problems += _check_memory(parse_info(memory))
    if client.min_replicas:
        problems += await _check_replicas(client)
    return tuple(dict.fromkeys(problems))


async def _check_replicas(client: RedisClient) -> list[StoreProblem]:
    if not client.is_single:
        message = "store.wait_replicas is not supported with a Cluster."
        return [StoreProblem(message, "Set it to 0, or use Sentinel.", loses_jobs=True)]
    [reply] = await client.execute_on_primaries("INFO", "replication")
    lines = parse_info(reply).items()
    # Parsed by the driver, a line is a dictionary.
    count = sum("online" in value for name, value in lines if re.fullmatch(r"slave\d+", name))
    if count >= client.min_replicas:
        return []
    message = f"Redis has {count} connected replicas, and store.wait_replicas is {client.min_replicas}: commits fail."
    return [StoreProblem(message, "Start the replicas, or set store.wait_replicas to 0.")]


def _check_memory(memory: dict[str, str]) -> list[StoreProblem]:
    used = int(memory.get("used_memory", 0)) - int(memory.get("mem_not_counted_for_evict", 0))
    limit = int(memory.get("maxmemory", 0))
    if not limit or used <= MAX_MEMORY_RATIO * limit:
        return []
    if used > limit:
        return [FULL]
    # Without the size in use, the text stays the same, and is logged once.
    message = (
        f"Redis uses over {MAX_MEMORY_RATIO:.0%} of maxmemory, {limit >> 20} MiB. If it is full, no job is accepted."
    )
    return [StoreProblem(message, "Raise maxmemory, or shorten retention in gateway.yaml.")]


async def recover_from_restart(
    client: RedisClient, durability: Durability, repair: Callable[[], Awaitable[None]]
) -> None:
    """Recovers after a restart of a server: rewrites its append-only file and calls `repair`.

    A power failure may cut off the record of a script in the file. Without the rewrite, the next restart would execute
    only half of that script. Managed servers do not allow the rewrite and keep their data by other means.
    """
    current_runs = {parse_info(server)["run_id"] for server in await client.execute_on_primaries("INFO", "server")}
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
    await client.run_script(RECORD_SERVER_RUNS, [SERVER_RUNS], *sorted(current_runs))


def _check_version(server_info: dict[str, str]) -> list[StoreProblem]:
    version = server_info.get("redis_version", "0")
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers >= MIN_VERSION:
        return []
    return [StoreProblem(f"Redis {version} is too old: 7.0 or newer (or Valkey) is required.", loses_jobs=True)]


def _check_option(option: str, reply: Any, durability: Durability) -> list[StoreProblem]:
    if isinstance(reply, Exception):
        return [_report_hidden_option(option, reply, durability)]
    value = _read_option(reply, option)
    if option == "maxmemory-policy" and value != "noeviction":
        message = f"Redis evicts jobs when its memory is full (maxmemory-policy {value})."
        remedy = "Run CONFIG SET maxmemory-policy noeviction, and set it in redis.conf."
        return [StoreProblem(message, remedy, loses_jobs=True)]
    if option == "appendonly" and value != "yes":
        if durability == "checked":
            message = "Redis has no append-only file, so a restart would lose paid jobs."
            remedy = (
                "Run CONFIG SET appendonly yes, and set it in redis.conf; or set store.durability: declared, if the "
                "data is safe otherwise."
            )
            return [StoreProblem(message, remedy, loses_jobs=True)]
        message = "Redis has no append-only file. Its durability is declared, so a restart may lose jobs."
        return [StoreProblem(message)]
    if option == "appendfsync" and value != "always":
        message = f"Redis uses appendfsync {value}: a power failure may lose the last seconds."
        return [StoreProblem(message, "`always` loses nothing.")]
    return []


def _report_hidden_option(option: str, error: Exception, durability: Durability) -> StoreProblem:
    """Returns the problem of an option that a managed server does not show."""
    if durability == "checked":
        remedy = (
            "Allow it for this user, or set store.durability: declared for a managed server that keeps all data and "
            "evicts nothing."
        )
        return StoreProblem(f"Redis does not allow CONFIG GET {option} ({error}).", remedy, loses_jobs=True)
    return StoreProblem(
        f"Redis does not allow CONFIG GET {option}. The option is not checked, because the durability is declared."
    )


def _read_option(reply: Any, option: str) -> str:
    pairs = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    return next((_decode_text(value) for name, value in pairs.items() if _decode_text(name) == option), "unknown")


def parse_info(reply: Any) -> dict[str, str]:
    if isinstance(reply, dict):
        return {str(name): str(value) for name, value in reply.items()}
    if isinstance(reply, Exception):
        raise StoreUnavailable(f"Redis refused INFO: {reply}") from reply
    lines = (line.partition(":") for line in _decode_text(reply).splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in lines}


def _decode_text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
