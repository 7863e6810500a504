"""DNS lookups: shared by concurrent callers, cached, limited per tenant."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import pytest

from gateway.timeouts_and_intervals import ConnectionTiming
from gateway.upstream import dns_lookup
from gateway.upstream.dns_lookup import (
    DnsLookup,
    LookupLimits,
    LookupTimeout,
    SystemResolver,
    TenantLookupLimitReached,
    current_tenant,
)
from tests.harness.virtual_time_loop import run_in_virtual_time
from tests.harness.wait import GUARD_SECONDS, wait_until_async
from tests.upstream.fake_servers import run_async

LIMITS = LookupLimits(max_total=8, max_per_tenant=2, timeout_seconds=0.2)


class FakeNameServer:
    """A name server that answers known names and stays silent about others until `may_fail` is set."""

    def __init__(self, **addresses: Sequence[str] | OSError) -> None:
        self.addresses = addresses
        self.lookup_counts: Counter[str] = Counter()
        self.may_fail = asyncio.Event()

    async def __call__(self, host: str) -> Sequence[str]:
        self.lookup_counts[host] += 1
        if host not in self.addresses:
            await self.may_fail.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        result = self.addresses[host]
        if isinstance(result, OSError):
            raise result
        return result


async def look_up_for_tenant(lookup: DnsLookup, host: str, tenant_name: str = "alpha") -> Sequence[str]:
    current_tenant.set(tenant_name)
    return await lookup(host)


async def look_up_or_error(lookup: DnsLookup, host: str, tenant_name: str = "alpha") -> Sequence[str] | type[OSError]:
    try:
        return await asyncio.create_task(look_up_for_tenant(lookup, host, tenant_name))
    except OSError as error:
        return type(error)


def run_with_name_server(
    scenario: Callable[[FakeNameServer], Awaitable[None]], **addresses: Sequence[str] | OSError
) -> None:
    """Runs the scenario in virtual time."""

    async def run_scenario() -> None:
        name_server = FakeNameServer(**addresses)
        await scenario(name_server)
        name_server.may_fail.set()
        await asyncio.sleep(0)

    run_in_virtual_time(run_scenario())


def get_time() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("is_full", [False, True])
def test_concurrent_lookups_of_a_name_share_one_query_and_are_cached(is_full: bool) -> None:
    """Callers that had to wait for a free lookup share it, too."""

    async def scenario(name_server: FakeNameServer) -> None:
        lookup = DnsLookup(name_server, LIMITS)
        if is_full:
            for other in "wxyz":
                await lookup._thread_slots.acquire(other, 0.0, 2)
            asyncio.get_running_loop().call_later(0.1, lookup._thread_slots.release, "w", 2)
        assert (
            await asyncio.gather(*(look_up_or_error(lookup, "there", tenant_name) for tenant_name in "abcdefgh" * 3))
            == [["1.1.1.1"]] * 24
        )
        assert await look_up_or_error(lookup, "there") == ["1.1.1.1"]
        assert name_server.lookup_counts == {"there": 1}

    run_with_name_server(scenario, there=["1.1.1.1"])


def test_silent_lookup_times_out_and_holds_its_slot_until_it_ends() -> None:
    async def scenario(name_server: FakeNameServer) -> None:
        lookup, started_at = DnsLookup(name_server, LIMITS), get_time()
        assert (
            await asyncio.gather(*(look_up_or_error(lookup, f"dead-{number}", "beta") for number in range(2)))
            == [LookupTimeout] * 2
        )
        assert get_time() - started_at == pytest.approx(LIMITS.timeout_seconds)
        assert await look_up_or_error(lookup, "dead-2", "beta") is TenantLookupLimitReached
        assert name_server.lookup_counts == {"dead-0": 1, "dead-1": 1}
        name_server.may_fail.set()
        await wait_until_async(lambda: not lookup._running, "no lookup is running")
        name_server.may_fail.clear()
        assert await look_up_or_error(lookup, "dead-2", "beta") is LookupTimeout

    run_with_name_server(scenario)


def test_tenant_with_silent_lookups_does_not_delay_others() -> None:
    async def scenario(name_server: FakeNameServer) -> None:
        lookup = DnsLookup(name_server, LIMITS, ConnectionTiming(lookup_thread_timeout_seconds=5.0))
        lookups = [asyncio.create_task(look_up_or_error(lookup, f"dead-{number}", "beta")) for number in range(20)]
        lookups.append(asyncio.create_task(look_up_or_error(lookup, "there", "beta")))
        await asyncio.sleep(0.01)
        started_at = get_time()
        assert await look_up_or_error(lookup, "there", "alpha") == ["1.1.1.1"]
        assert get_time() == started_at
        name_server.may_fail.set()
        await asyncio.gather(*lookups)

    run_with_name_server(scenario, there=["1.1.1.1"])


def test_late_lookup_result_is_cached() -> None:
    async def scenario(name_server: FakeNameServer) -> None:
        async def resolve_late(host: str) -> Sequence[str]:
            await asyncio.sleep(0.4)
            return ["1.1.1.1"]

        lookup = DnsLookup(resolve_late, LIMITS)
        assert await look_up_or_error(lookup, "late") is LookupTimeout
        await asyncio.sleep(0.3)
        assert await look_up_or_error(lookup, "late") == ["1.1.1.1"]

    run_with_name_server(scenario)


@pytest.mark.parametrize("is_silent", [True, False])
def test_cached_addresses_are_used_while_the_name_server_is_down(is_silent: bool) -> None:
    limits = LookupLimits(max_total=8, max_per_tenant=2, stale_seconds=0.5)
    timing = ConnectionTiming(lookup_cache_ttl_seconds=0.1, stale_lookup_timeout_seconds=0.05)

    async def scenario(name_server: FakeNameServer) -> None:
        lookup = DnsLookup(name_server, limits, timing)
        assert await look_up_or_error(lookup, "seller") == ["1.1.1.1"]
        if is_silent:
            del name_server.addresses["seller"]
        else:
            name_server.addresses["seller"] = socket.gaierror(socket.EAI_AGAIN, "no answer")
        await asyncio.sleep(0.15)
        started_at = get_time()
        assert await look_up_or_error(lookup, "seller") == ["1.1.1.1"]
        assert get_time() - started_at == pytest.approx(0.05 if is_silent else 0.0)
        assert await asyncio.gather(*(look_up_or_error(lookup, "seller") for _ in range(10))) == [["1.1.1.1"]] * 10
        assert name_server.lookup_counts == {"seller": 2}, "asked again once after a while"
        name_server.may_fail.set()
        await wait_until_async(lambda: not lookup._running, "no lookup is running")
        await asyncio.sleep(0.5)
        assert await look_up_or_error(lookup, "seller") is socket.gaierror, "only for a limited time"

    run_with_name_server(scenario, seller=["1.1.1.1"])


def test_deleted_name_is_not_served_from_the_cache() -> None:
    limits = LookupLimits(max_total=8, max_per_tenant=2, stale_seconds=60.0)

    async def scenario(name_server: FakeNameServer) -> None:
        lookup = DnsLookup(name_server, limits, ConnectionTiming(lookup_cache_ttl_seconds=0.0))
        assert await look_up_or_error(lookup, "seller") == ["1.1.1.1"]
        name_server.addresses["seller"] = socket.gaierror(socket.EAI_NONAME, "no such name")
        assert await look_up_or_error(lookup, "seller") is socket.gaierror
        name_server.addresses["seller"] = ["2.2.2.2"]
        assert await look_up_or_error(lookup, "seller") == ["2.2.2.2"]

    run_with_name_server(scenario, seller=["1.1.1.1"])


def test_cache_size_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_lookup, "MAX_CACHED_HOSTS", 5)

    async def scenario(_: FakeNameServer) -> None:
        async def resolve_any_name(host: str) -> Sequence[str]:
            return [host]

        lookup = DnsLookup(resolve_any_name, LIMITS)
        for number in range(100):
            assert await look_up_or_error(lookup, str(number)) == [str(number)]
        assert list(lookup._cache) == ["95", "96", "97", "98", "99"]

    run_with_name_server(scenario)


def test_system_resolver_thread_ends_with_its_lookup() -> None:
    async def scenario() -> None:
        before = threading.active_count()
        assert "127.0.0.1" in await SystemResolver()("localhost")
        with pytest.raises(socket.gaierror):
            await SystemResolver()("no such name.invalid")
        with pytest.raises(socket.gaierror):
            await SystemResolver()("a" * 300 + ".invalid")
        await wait_until_async(lambda: threading.active_count() <= before, "the lookup thread has ended")

    run_async(scenario())


def test_lookup_result_after_the_loop_closed_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unhandled exception in the thread would fail this test (filterwarnings)."""
    may_end = threading.Event()

    def wait_and_return_nothing(*_: object, **__: object) -> list[object]:
        may_end.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", wait_and_return_nothing)
    before = threading.active_count()

    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(SystemResolver()("anything.example"), 0.05)

    run_async(scenario())
    may_end.set()
    run_async(wait_until_async(lambda: threading.active_count() <= before, "the lookup thread has ended"))


def test_process_exits_despite_a_silent_name_server() -> None:
    script = (
        "import asyncio, socket, time; from gateway.upstream.dns_lookup import SystemResolver\n"
        "socket.getaddrinfo = lambda *_, **__: time.sleep(3600)\n"
        "async def main():\n"
        "    asyncio.ensure_future(SystemResolver()('silent.example'))\n"
        "    await asyncio.sleep(0.1)\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=GUARD_SECONDS)
