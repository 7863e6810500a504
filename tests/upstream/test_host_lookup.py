"""Names that are looked up: once at a time, within each tenant's part, and none waits for another's."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import pytest

from gateway.upstream import host_lookup
from gateway.upstream.host_lookup import HostLookup, LookupLimits, LookupTimeout, OwnLookupsFull, SystemLookup, tenant
from tests.upstream.servers import run, until

LIMITS = LookupLimits(at_once=8, per_tenant=2, seconds=0.2)


class Names:
    """A name server: what it knows it says, what it does not it keeps to itself until `over`."""

    def __init__(self, **known: Sequence[str] | OSError) -> None:
        self.known = known
        self.asked: Counter[str] = Counter()
        self.over = asyncio.Event()

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked[host] += 1
        if host not in self.known:
            await self.over.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        found = self.known[host]
        if isinstance(found, OSError):
            raise found
        return found


async def look_up(lookup: HostLookup, host: str, who: str = "alpha") -> Sequence[str]:
    tenant.set(who)
    return await lookup(host)


async def outcome(lookup: HostLookup, host: str, who: str = "alpha") -> Sequence[str] | type[OSError]:
    try:
        return await asyncio.create_task(look_up(lookup, host, who))
    except OSError as error:
        return type(error)


def run_with_names(test: Callable[[Names], Awaitable[None]], **known: Sequence[str] | OSError) -> None:
    async def body() -> None:
        names = Names(**known)
        await test(names)
        names.over.set()
        await asyncio.sleep(0)

    run(body())


@pytest.mark.parametrize("is_full", [False, True])
def test_name_is_looked_up_once_by_all_who_ask_and_remembered(is_full: bool) -> None:
    """Also by those who had to wait until they could have asked themselves."""

    async def test(names: Names) -> None:
        lookup = HostLookup(names, LIMITS)
        if is_full:
            for other in "wxyz":
                await lookup._threads.acquire(other, 0.0, 2)
            asyncio.get_running_loop().call_later(0.1, lookup._threads.release, "w", 2)
        assert await asyncio.gather(*(outcome(lookup, "there", who) for who in "abcdefgh" * 3)) == [["1.1.1.1"]] * 24
        assert await outcome(lookup, "there") == ["1.1.1.1"]
        assert names.asked == {"there": 1}

    run_with_names(test, there=["1.1.1.1"])


def test_silent_name_ends_in_time_and_counts_until_its_lookup_does() -> None:
    async def test(names: Names) -> None:
        lookup, began = HostLookup(names, LIMITS), time.monotonic()
        assert await asyncio.gather(*(outcome(lookup, f"dead-{n}", "beta") for n in range(2))) == [LookupTimeout] * 2
        assert time.monotonic() - began < 1.0
        assert await outcome(lookup, "dead-2", "beta") is OwnLookupsFull
        assert names.asked == {"dead-0": 1, "dead-1": 1}
        names.over.set()
        await until(lambda: not lookup._running)
        names.over.clear()
        assert await outcome(lookup, "dead-2", "beta") is LookupTimeout

    run_with_names(test)


def test_tenant_full_of_silent_names_delays_nobody_else_also_not_at_the_same_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host_lookup, "THREAD_SECONDS", 5.0)

    async def test(names: Names) -> None:
        lookup = HostLookup(names, LIMITS)
        crowd = [asyncio.create_task(outcome(lookup, f"dead-{n}", "beta")) for n in range(20)]
        crowd.append(asyncio.create_task(outcome(lookup, "there", "beta")))
        await asyncio.sleep(0.01)
        began = time.monotonic()
        assert await outcome(lookup, "there", "alpha") == ["1.1.1.1"]
        assert time.monotonic() - began < 0.5
        names.over.set()
        await asyncio.gather(*crowd)

    run_with_names(test, there=["1.1.1.1"])


def test_name_that_answers_late_is_remembered_for_the_next_time() -> None:
    async def test(names: Names) -> None:
        async def late(host: str) -> Sequence[str]:
            await asyncio.sleep(0.4)
            return ["1.1.1.1"]

        lookup = HostLookup(late, LIMITS)
        assert await outcome(lookup, "late") is LookupTimeout
        await asyncio.sleep(0.3)
        assert await outcome(lookup, "late") == ["1.1.1.1"]

    run_with_names(test)


@pytest.mark.parametrize("is_silent", [True, False])
def test_known_addresses_stand_in_for_a_name_server_that_is_away(
    is_silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_lookup, "FRESH_SECONDS", 0.1)
    monkeypatch.setattr(host_lookup, "STALE_AFTER_SECONDS", 0.05)

    async def test(names: Names) -> None:
        lookup = HostLookup(names, LookupLimits(at_once=8, per_tenant=2, stale_seconds=0.5))
        assert await outcome(lookup, "seller") == ["1.1.1.1"]
        if is_silent:
            del names.known["seller"]
        else:
            names.known["seller"] = socket.gaierror(socket.EAI_AGAIN, "no answer")
        await asyncio.sleep(0.15)
        began = time.monotonic()
        assert await outcome(lookup, "seller") == ["1.1.1.1"]
        assert time.monotonic() - began < 0.3
        assert await asyncio.gather(*(outcome(lookup, "seller") for _ in range(10))) == [["1.1.1.1"]] * 10
        assert names.asked == {"seller": 2}, "asked again later, and not by each"
        names.over.set()
        await until(lambda: not lookup._running)
        await asyncio.sleep(0.5)
        assert await outcome(lookup, "seller") is socket.gaierror, "not for ever"

    run_with_names(test, seller=["1.1.1.1"])


def test_name_that_is_gone_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_lookup, "FRESH_SECONDS", 0.0)

    async def test(names: Names) -> None:
        lookup = HostLookup(names, LookupLimits(at_once=8, per_tenant=2, stale_seconds=60.0))
        assert await outcome(lookup, "seller") == ["1.1.1.1"]
        names.known["seller"] = socket.gaierror(socket.EAI_NONAME, "no such name")
        assert await outcome(lookup, "seller") is socket.gaierror
        names.known["seller"] = ["2.2.2.2"]
        assert await outcome(lookup, "seller") == ["2.2.2.2"]

    run_with_names(test, seller=["1.1.1.1"])


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_lookup, "MAX_REMEMBERED", 5)

    async def test(_: Names) -> None:
        async def any_name(host: str) -> Sequence[str]:
            return [host]

        lookup = HostLookup(any_name, LIMITS)
        for number in range(100):
            assert await outcome(lookup, str(number)) == [str(number)]
        assert list(lookup._known) == ["95", "96", "97", "98", "99"]

    run_with_names(test)


def test_the_system_is_asked_in_a_thread_that_ends_with_it() -> None:
    async def asks() -> None:
        before = threading.active_count()
        assert "127.0.0.1" in await SystemLookup()("localhost")
        with pytest.raises(socket.gaierror):
            await SystemLookup()("no such name.invalid")
        with pytest.raises(socket.gaierror):
            await SystemLookup()("a" * 300 + ".invalid")
        await until(lambda: threading.active_count() == before)

    run(asks())


def test_loop_that_is_gone_when_the_answer_comes_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """As filterwarnings has it, an unhandled exception of a thread would fail this."""
    may_end = threading.Event()

    def waits(*_: object, **__: object) -> list[object]:
        may_end.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", waits)
    before = threading.active_count()

    async def gives_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(SystemLookup()("anything.example"), 0.05)

    run(gives_up())
    may_end.set()
    run(until(lambda: threading.active_count() == before))


def test_process_ends_although_a_name_server_is_silent() -> None:
    script = (
        "import asyncio, socket, time; from gateway.upstream.host_lookup import SystemLookup\n"
        "socket.getaddrinfo = lambda *_, **__: time.sleep(3600)\n"
        "async def main():\n"
        "    asyncio.ensure_future(SystemLookup()('silent.example'))\n"
        "    await asyncio.sleep(0.1)\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=20)
