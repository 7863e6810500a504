"""Inspects Redis servers without opening a store: version, settings, memory, clock, and whether they accept writes."""

import secrets

from gateway.store.base import StoreError, StoreFull
from gateway.store.inspection import Clock, ClockSample, Durability, StoreInspection, StoreProblem
from gateway.store.redis.access_problems import ACL_REMEDY, find_access_problem, make_permission_problem
from gateway.store.redis.keys import CHANGES_CHANNEL
from gateway.store.redis.redis_client import RedisClient, connect
from gateway.store.redis.scripts import CHECK_PERMISSIONS
from gateway.store.redis.server_checks import find_server_problems, parse_info
from gateway.store.redis.server_url import parse_server_url
from gateway.store.redis.write_refusals import find_write_refusal
from gateway.timeouts_and_intervals import StoreTiming

TIMING = StoreTiming(command_timeout_seconds=3.0)
TEST_KEY_PREFIX, TEST_KEY_SECONDS = "igw:inspection:", 60
MICROSECONDS = 1_000_000
# One command of each kind that the gateway and its scripts execute; `%` is a key of the gateway.
_READS = ("GET %", "HGETALL %", "HSCAN % 0", "LRANGE % 0 0", "SMEMBERS %", "ZRANGE % 0 0", "SCAN 0", "TIME")
_WRITES = ("SET % 1", "DEL %", "EXPIRE % 1", "HSET % 1 1", "RPUSH % 1", "SADD % 1", "ZADD % 1 1")
_CHANNELS = (f"PUBLISH {CHANGES_CHANNEL} 1", f"SUBSCRIBE {CHANGES_CHANNEL}", "PING")
_CLIENT_LIST = "CLIENT LIST"


async def inspect_servers(
    url: str, durability: Durability, wall_clock: Clock, wait_replicas: int = 0
) -> StoreInspection:
    """Inspects all servers. Raises StoreUnavailable if they do not answer."""
    try:
        return await _inspect_servers(url, durability, wall_clock, wait_replicas)
    except StoreError as error:
        if (problem := find_access_problem(error)) is None:
            raise
        return StoreInspection(description="Redis", problems=(problem,))


async def _inspect_servers(url: str, durability: Durability, wall_clock: Clock, wait_replicas: int) -> StoreInspection:
    client = RedisClient(await connect(parse_server_url(url), TIMING), TIMING, wait_replicas)
    try:
        versions = [parse_info(reply) for reply in await client.execute_on_primaries("INFO", "server")]
        problems = (
            *await _check_permissions(client, durability),
            *await find_server_problems(client, durability),
            *await _check_write(client),
        )
        names = sorted({_format_version(version) for version in versions})
        return StoreInspection(
            description=f"{', '.join(names)}, {len(versions)} {'server' if len(versions) == 1 else 'servers'}",
            problems=problems,
            clock_samples=await _compare_clocks(client, wall_clock),
        )
    finally:
        await client.close()


def _format_version(server_info: dict[str, str]) -> str:
    if "valkey_version" in server_info:
        return f"Valkey {server_info['valkey_version']}"
    return f"Redis {server_info.get('redis_version', 'of an unknown version')}"


async def _check_permissions(client: RedisClient, durability: Durability) -> list[StoreProblem]:
    """Finds the commands that this user may not execute. Executes none of them."""
    rewrite = ("BGREWRITEAOF",) if durability == "checked" else ()
    wait = ("WAIT 1 1",) if client.min_replicas else ()
    commands, key = (*_READS, *_WRITES, *_CHANNELS, *rewrite, *wait, _CLIENT_LIST), f"{TEST_KEY_PREFIX}permissions"
    replies = await client.run_script(CHECK_PERMISSIONS, [key], *(command.replace("%", key) for command in commands))
    denied = [reply.decode() for reply in replies]
    problems = []
    if names := ", ".join(command.split()[0] for command in denied if command != _CLIENT_LIST):
        problems.append(make_permission_problem(f"it may not execute {names}"))
    if _CLIENT_LIST in denied:
        message = (
            f"The user in REDIS_URL may not execute {_CLIENT_LIST}: jobs of a killed replica wait for their leases."
        )
        problems.append(StoreProblem(message, ACL_REMEDY))
    return problems


async def _check_write(client: RedisClient) -> list[StoreProblem]:
    """Writes a key that expires, reads it, and deletes it."""
    key, value = f"{TEST_KEY_PREFIX}{secrets.token_hex(8)}", secrets.token_hex(8)
    try:
        await client.execute("SET", key, value, "EX", TEST_KEY_SECONDS)
        is_readable = await client.execute("GET", key) == value.encode()
        await client.execute("DEL", key)
    except StoreError as error:
        # Full memory and a user that may not write are found by other checks.
        if isinstance(error, StoreFull) or find_access_problem(error):
            return []
        problem = StoreProblem(f"Redis refuses to write: {error}", loses_jobs=True)
        return [find_write_refusal(error) or problem]
    return [] if is_readable else [StoreProblem("Redis does not return what was written.", loses_jobs=True)]


async def _compare_clocks(client: RedisClient, wall_clock: Clock) -> tuple[ClockSample, ...]:
    sent_at = wall_clock()
    replies = await client.execute_on_primaries("TIME")
    received_at = wall_clock()
    return tuple(
        ClockSample.measure("Redis", int(reply[0]) + int(reply[1]) / MICROSECONDS, sent_at, received_at)
        for reply in replies
        if not isinstance(reply, Exception)
    )
