"""The memory store's additions for tests: calls that a test delays, fails or kills, and a history."""

import asyncio
from collections.abc import Callable

import pytest

from gateway.jobs.commit import Commit
from gateway.store.base import Applied, Store, StoreOutcomeUnknown, StoreUnavailable
from tests.harness.manual_clock import ManualClock
from tests.harness.memory_store import CallInterceptor, MemoryState, MemoryStore, StoreCall
from tests.store import job_factory
from tests.store.job_factory import NOON
from tests.store.store_harness import LEASE_SECONDS


class HookedCalls:
    """An interceptor that runs one hook before and one after each call, and records the names of the calls."""

    def __init__(
        self, before: Callable[[StoreCall], None] | None = None, after: Callable[[StoreCall], None] | None = None
    ) -> None:
        self.before, self.after = before, after
        self.names: list[str] = []

    async def before_call(self, call: StoreCall) -> None:
        self.names.append(call.name)
        if self.before:
            self.before(call)

    async def after_call(self, call: StoreCall, result: object) -> None:
        if self.after:
            self.after(call)


class HeldCalls:
    """An interceptor that holds each call before its effect until the test releases it."""

    def __init__(self) -> None:
        self.held: dict[StoreCall, asyncio.Event] = {}

    async def before_call(self, call: StoreCall) -> None:
        self.held[call] = asyncio.Event()
        await self.held[call].wait()

    async def after_call(self, call: StoreCall, result: object) -> None:
        pass


async def open_store(
    state: MemoryState, replica_id: str = "one", interceptor: CallInterceptor | None = None
) -> MemoryStore:
    clock = ManualClock(NOON)
    return await MemoryStore(
        state, replica_id=replica_id, lease=LEASE_SECONDS, clock=clock, interceptor=interceptor
    ).open()


def make_commit() -> Commit:
    return job_factory.make_create_commit(NOON)


def raise_error(error: Exception) -> Callable[[StoreCall], None]:
    def raise_it(call: StoreCall) -> None:
        raise error

    return raise_it


async def run_until_idle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_call_takes_effect_between_its_start_and_its_answer() -> None:
    async def scenario() -> None:
        state, commit = MemoryState(), make_commit()
        store: Store = await open_store(state)
        steps: list[bool] = []
        task = asyncio.create_task(store.commit(commit))
        while not task.done():
            await asyncio.sleep(0)
            steps.append(commit.job.id in state.jobs)
        assert steps[0] is False
        assert steps[1:] == [True] * (len(steps) - 1)
        assert len(steps) >= 3

    asyncio.run(scenario())


def test_calls_take_effect_in_the_order_of_their_start() -> None:
    async def scenario() -> None:
        state, commits = MemoryState(), [make_commit() for _ in range(20)]
        store = await open_store(state)
        assert await asyncio.gather(*map(store.commit, commits)) == [Applied()] * 20
        assert [applied.commit for applied in state.history] == commits

    asyncio.run(scenario())


def test_history_lists_applied_commits_once_with_replica_and_time() -> None:
    async def scenario() -> None:
        state, commit = MemoryState(), make_commit()
        one, two = await open_store(state), await open_store(state, "two")
        update = job_factory.make_update_commit(commit.job, job_factory.make_attempt_started(commit.job), NOON)
        for store, sent in ((one, commit), (two, commit), (one, update), (two, update)):
            assert await store.commit(sent) == Applied()
        assert [(applied.commit, applied.replica_id) for applied in state.history] == [(commit, "one"), (update, "one")]
        assert {applied.applied_at for applied in state.history} == {NOON}

    asyncio.run(scenario())


def test_error_before_the_effect_prevents_it() -> None:
    async def scenario() -> None:
        state = MemoryState()
        store = await open_store(state, interceptor=HookedCalls(before=raise_error(StoreUnavailable("down"))))
        with pytest.raises(StoreUnavailable, match="down"):
            await store.commit(make_commit())
        assert state.jobs == {}

    asyncio.run(scenario())


def test_error_after_the_effect_loses_the_answer() -> None:
    async def scenario() -> None:
        state, commit = MemoryState(), make_commit()
        store = await open_store(state, interceptor=HookedCalls(after=raise_error(StoreOutcomeUnknown("lost"))))
        with pytest.raises(StoreOutcomeUnknown, match="lost"):
            await store.commit(commit)
        assert state.jobs.keys() == {commit.job.id}

    asyncio.run(scenario())


def test_failed_call_may_take_effect_later() -> None:
    async def scenario() -> None:
        state, commit, interceptor = MemoryState(), make_commit(), HeldCalls()
        store = await open_store(state, interceptor=interceptor)
        pending = asyncio.create_task(store.commit(commit))
        await run_until_idle()
        ((call, release),) = interceptor.held.items()
        assert (call.name, call.arguments) == ("commit", (commit,))
        call.fail(StoreOutcomeUnknown("timeout"))
        with pytest.raises(StoreOutcomeUnknown):
            await pending
        assert state.jobs == {}
        release.set()
        await run_until_idle()
        assert state.jobs.keys() == {commit.job.id}

    asyncio.run(scenario())


def test_delayed_call_is_overtaken_and_finished_by_close() -> None:
    async def scenario() -> None:
        state, commits, interceptor = MemoryState(), [make_commit(), make_commit()], HeldCalls()
        store = await open_store(state, interceptor=interceptor)
        tasks = [asyncio.create_task(store.commit(commit)) for commit in commits]
        await run_until_idle()
        first, second = interceptor.held.values()
        tasks[0].cancel()
        second.set()
        assert await tasks[1] == Applied()
        closing = asyncio.create_task(store.close())
        await run_until_idle()
        assert not closing.done()
        first.set()
        await closing
        assert tasks[0].cancelled()
        assert [applied.commit for applied in state.history] == commits[::-1]

    asyncio.run(scenario())


@pytest.mark.parametrize("has_effect", [False, True])
def test_killed_replica_gets_no_answer_and_another_claims_its_jobs(has_effect: bool) -> None:
    async def scenario() -> None:
        state, commit = MemoryState(), make_commit()
        interceptor = HookedCalls()
        store = await open_store(state, interceptor=interceptor)
        job = (await store.commit(commit) == Applied()) and commit.job
        assert job
        update = job_factory.make_update_commit(job, job_factory.make_attempt_started(job), NOON)

        def kill(call: StoreCall) -> None:
            store.kill()

        interceptor.before, interceptor.after = (None, kill) if has_effect else (kill, None)
        for _ in range(2):
            with pytest.raises(asyncio.CancelledError):
                await store.commit(update)
        await store.close()
        two = MemoryStore(state, replica_id="two", clock=lambda: NOON + LEASE_SECONDS)
        (claimed,) = await (await two.open()).claim_jobs()
        assert (claimed.job, claimed.fence) == (update.job if has_effect else job, 2)
        assert interceptor.names == ["commit", "commit"]

    asyncio.run(scenario())


def test_pending_calls_of_a_killed_replica_have_no_effect() -> None:
    async def scenario() -> None:
        state, interceptor = MemoryState(), HeldCalls()
        store = await open_store(state, interceptor=interceptor)
        pending = asyncio.create_task(store.commit(make_commit()))
        await run_until_idle()
        store.kill()
        for release in interceptor.held.values():
            release.set()
        with pytest.raises(asyncio.CancelledError):
            await pending
        await run_until_idle()
        assert state.jobs == {}

    asyncio.run(scenario())


def test_callers_of_a_killed_replica_are_removed_and_those_of_a_closed_one_stay() -> None:
    async def scenario(is_killed: bool) -> bool:
        state = MemoryState()
        store = await open_store(state)
        first, again = (job_factory.make_body_key(False, caller_id=caller_id) for caller_id in ("one:1", "two:1"))
        await store.commit(job_factory.make_create_commit(NOON, idempotency=first))
        if is_killed:
            store.kill()
        await store.close()
        two = await open_store(state, "two")
        return await two.commit(job_factory.make_create_commit(NOON, idempotency=again)) == Applied()

    assert not asyncio.run(scenario(is_killed=True))
    assert asyncio.run(scenario(is_killed=False))


def test_two_equal_runs_wake_watches_in_the_same_order() -> None:
    async def scenario() -> list[int]:
        store, commit = await open_store(MemoryState()), make_commit()
        woken: list[int] = []

        async def await_change(number: int) -> None:
            with store.watch(commit.job.id) as watch:
                assert await watch.wait_for_change(1.0)
                woken.append(number)

        tasks = [asyncio.create_task(await_change(number)) for number in range(50)]
        await run_until_idle()
        await store.commit(commit)
        await asyncio.gather(*tasks)
        return woken

    assert asyncio.run(scenario()) == list(range(50))
