"""The explorer: runs one seed in virtual time and audits its end."""

import asyncio
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from gateway.api.callbacks import RetryLater
from gateway.catalogue import Catalogue
from gateway.jobs.job import Attempt
from gateway.store.base import DAY_SECONDS
from gateway.timeouts_and_intervals import Timing
from tests.explore.clients import Client
from tests.explore.contradictions import Contradictions
from tests.explore.deletion_audit import list_deletion_violations
from tests.explore.disturbances import (
    CLEANUP_FAILPOINTS,
    DELETION_FAILPOINTS,
    DisturbancePlan,
    add_unknown_failures,
    delay_first_answer,
    draw_disturbances,
    draw_failpoint_disturbances,
    pause_first_sender,
)
from tests.explore.final_audit import list_remains, list_violations
from tests.explore.operations import AccountChange, AccountState, Drain
from tests.explore.replica import BASE_URL, Replica, World
from tests.explore.scenario import (
    CONTRADICTION_SHARE,
    LATE_IMAGES_SHARE,
    Scenario,
    add_contradictions,
    add_variations,
    delete_before_late_images,
    draw_mood,
    draw_scenario,
)
from tests.explore.scripted_moderation import ScriptedHooks, list_moderation_violations
from tests.explore.scripted_sellers import ScriptedSellers
from tests.explore.scripted_webhooks import are_webhooks_pending, list_webhook_violations
from tests.explore.seller_scripts import SellerMood
from tests.explore.sellers_config import SPLIT_SUFFIX, TIMING, load_catalogue
from tests.explore.story import Story
from tests.harness.memory_storage import MemoryBackend
from tests.harness.memory_store import MemoryState
from tests.harness.timings import change_timing
from tests.harness.virtual_time_loop import Deadlock, Livelock, VirtualTimeLoop

# A job that is not settled by then is lost.
MAX_RUN_SECONDS = 400.0
CHECK_SECONDS = 2.0
# Of webhooks that are refused three times, after a kill.
MAX_WEBHOOK_SECONDS = 600.0
# Late callbacks may still arrive after the last job has ended.
QUIET_SECONDS = 1.0
# Jobs are deleted a week after their end. Images that a paused replica stores late come before that.
LATE_STORING_SECONDS, RETENTION_SECONDS, MAX_CLEANUPS = 30.0, 8 * DAY_SECONDS, 10
CLEANUP_INTERVAL_SECONDS, QUICK_FETCH_SECONDS = 5.0, 2.0
SPLIT_SHARE, MODERATION_SHARE = 0.25, 0.2


class RunResult(Struct, frozen=True):
    """The end of one run. `reached`: how often each failpoint was reached."""

    seed: int
    violations: tuple[str, ...]
    story: str
    reached: dict[str, int]
    virtual_seconds: float


def explore(
    seed: int, scenario: Scenario | None = None, plan: DisturbancePlan | None = None, *, has_variations: bool = True
) -> RunResult:
    """Runs the seed. The same seed always gives the same result, story included.

    `scenario` and `plan`: take the place of those that the seed draws. Without variations the scenario has no edits,
    no lost connections, no deletions and no operations.
    """
    loop, random = VirtualTimeLoop(), Random(seed)
    drawn = scenario or draw_scenario(random), plan or draw_disturbances(random)
    if has_variations and scenario is None:
        drawn = _add_all_variations(*drawn, seed)
    exploration = Exploration(seed, loop, random, *drawn)
    try:
        return loop.run_until_complete(exploration.run())
    except (Deadlock, Livelock) as error:
        return exploration.fail(error)
    finally:
        exploration.end()
        loop.end_all_tasks()
        loop.close()


def _add_all_variations(scenario: Scenario, plan: DisturbancePlan, seed: int) -> tuple[Scenario, DisturbancePlan]:
    """Adds each kind of variation from random numbers of its own, so that a new kind changes no other one."""
    scenario, plan = _add_variations(scenario, plan, Random(f"variations of {seed}"))
    scenario = _split_requests(scenario, Random(f"splits of {seed}"))
    has_moderation = Random(f"moderation of {seed}").random() < MODERATION_SHARE
    scenario = replace(scenario, has_moderation=has_moderation)
    scenario, plan = _add_mood(scenario, plan, Random(f"mood of {seed}"))
    plan = add_unknown_failures(plan, Random(f"unknown failures of {seed}"))
    random = Random(f"contradictions of {seed}")
    if random.random() < CONTRADICTION_SHARE:
        scenario = add_contradictions(scenario, random)
    random = Random(f"late images of {seed}")
    if random.random() < LATE_IMAGES_SHARE:
        scenario, plan = delete_before_late_images(scenario, random), pause_first_sender(random)
        scenario = replace(scenario, has_quick_fetches=random.random() < 0.5)
    return scenario, plan


def _add_variations(scenario: Scenario, plan: DisturbancePlan, random: Random) -> tuple[Scenario, DisturbancePlan]:
    scenario = add_variations(scenario, random)
    return scenario, replace(plan, by_failpoint=draw_failpoint_disturbances(random, _get_focus(scenario)))


def _add_mood(scenario: Scenario, plan: DisturbancePlan, random: Random) -> tuple[Scenario, DisturbancePlan]:
    scenario = draw_mood(scenario, random)
    is_slow = scenario.mood is SellerMood.SLOW
    return scenario, delay_first_answer(plan, random) if is_slow else plan


def _split_requests(scenario: Scenario, random: Random) -> Scenario:
    """Lets the clients of a quarter of the runs have their images ordered at two sellers at once."""
    if random.random() >= SPLIT_SHARE:
        return scenario
    clients = tuple(replace(client, policy=f"{client.policy}{SPLIT_SUFFIX}") for client in scenario.clients)
    return replace(scenario, clients=clients)


def _get_focus(scenario: Scenario) -> tuple[str, ...]:
    if scenario.operations.has_cleanup:
        return CLEANUP_FAILPOINTS
    has_deletion = any(client.deletes_after is not None for client in scenario.clients)
    return DELETION_FAILPOINTS if has_deletion else ()


class Exploration:
    """One run: its replicas, its clients and their end."""

    def __init__(
        self, seed: int, loop: VirtualTimeLoop, random: Random, scenario: Scenario, plan: DisturbancePlan
    ) -> None:
        self._seed, self._scenario = seed, scenario
        story = Story(loop.time)
        self._world = World(
            random=random,
            clock=loop.time,
            story=story,
            plan=plan,
            operations=scenario.operations,
            state=MemoryState(),
            images=MemoryBackend(),
            sellers=ScriptedSellers(random, story, scenario.is_calm, scenario.mood),
            has_callbacks=self._scenario.has_callbacks,
            hooks=ScriptedHooks(seed),
            timing=_choose_timing(scenario),
        )
        self._world.sellers.receive_callback = self._receive_callback
        if scenario.has_contradictions:
            contradictions = Contradictions(Random(f"contradictory answers of {seed}"), self._find_saved_attempt)
            self._world.sellers.contradictions = contradictions
        self._replicas: list[Replica] = []

    async def run(self) -> RunResult:
        world = self._world
        world.story.tell("explorer", f"runs seed {self._seed}: {self._scenario}; {world.plan}")
        for _ in range(self._scenario.replica_count):
            await self._start_replica()
        clients = [
            Client(world, plan, 1 if plan.repeats_first else number, self._pick_replica)
            for number, plan in enumerate(self._scenario.clients, 1)
        ]
        tasks = [asyncio.create_task(client.run()) for client in clients]
        helpers = [
            asyncio.create_task(helper)
            for helper in (
                *(self._kill_at_times(), self._pause_at_times(), self._replace_stopped_replicas()),
                *(self._drain_at_time(drain) for drain in self._scenario.operations.drains),
                *(self._change_account(change) for change in self._scenario.operations.account_changes),
            )
        ]
        await self._wait_for_end(tasks)
        await self._wait_for_webhooks()
        violations = [
            *list_violations(world),
            *self._list_failed_tasks(tasks),
            *_compare_jobs(world, clients),
            *list_webhook_violations(world.state, world.webhook_target),
            *list_deletion_violations(world, {client.job_id for client in clients if client.has_deleted}),
        ]
        if self._scenario.has_moderation:
            violations += list_moderation_violations(world.state, world.images, world.hooks)
        if self._scenario.operations.has_cleanup and not violations:
            await self._wait_for_cleanup()
            violations += list_remains(world)
        for task in helpers:
            task.cancel()
        return self._end_with(violations)

    def fail(self, error: Exception) -> RunResult:
        return self._end_with([f"{type(error).__name__}: {error}"])

    def end(self) -> None:
        """Ends the suspended tasks of killed replicas."""
        self._world.is_over = True

    def _end_with(self, violations: list[str]) -> RunResult:
        world = self._world
        for violation in violations:
            world.story.tell("audit", violation)
        return RunResult(self._seed, tuple(violations), world.story.text, dict(world.reached), world.story.seconds)

    async def _wait_for_end(self, client_tasks: "list[asyncio.Task[None]]") -> None:
        """Waits until all clients are done and all jobs are settled."""
        while self._world.story.seconds < MAX_RUN_SECONDS:
            await asyncio.sleep(CHECK_SECONDS)
            if all(task.done() for task in client_tasks) and not self._world.state.open_jobs:
                await asyncio.sleep(QUIET_SECONDS)
                return

    async def _wait_for_webhooks(self) -> None:
        """Waits until all webhooks have arrived: a lease after a kill, and some attempts more."""
        for _ in range(int(MAX_WEBHOOK_SECONDS / CHECK_SECONDS)):
            if not are_webhooks_pending(self._world.state):
                return
            await asyncio.sleep(CHECK_SECONDS)

    async def _wait_for_cleanup(self) -> None:
        """Lets days pass until all jobs are deleted."""
        await asyncio.sleep(LATE_STORING_SECONDS)
        world = self._world
        world.skipped_seconds = RETENTION_SECONDS
        for _ in range(MAX_CLEANUPS):
            await asyncio.sleep(CLEANUP_INTERVAL_SECONDS)
            if not world.state.jobs and not world.state.announced:
                return

    def _list_failed_tasks(self, tasks: "list[asyncio.Task[None]]") -> list[str]:
        open_tasks = [f"client: number {number} still waits" for number, task in enumerate(tasks, 1) if not task.done()]
        errors = [task.exception() for task in tasks if task.done() and not task.cancelled()]
        return open_tasks + [f"client: {error!r}" for error in errors if error is not None]

    def _find_saved_attempt(self, reference: str) -> Attempt | None:
        job_id, _, number = reference.rpartition("-")
        stored = self._world.state.jobs.get(job_id)
        return stored.job.get_attempt(int(number)) if stored else None

    # --- replicas

    async def _start_replica(self) -> None:
        number = len(self._replicas) + 1
        replica = Replica(self._world, number, self._get_catalogue(number))
        self._replicas.append(replica)
        await replica.start()
        self._world.story.tell(replica.name, "starts")

    @property
    def _running_replicas(self) -> list[Replica]:
        return [replica for replica in self._replicas if replica.is_running]

    def _pick_replica(self) -> Replica | None:
        running = self._running_replicas
        return self._world.random.choice(running) if running else None

    def _find_owner(self) -> Replica | None:
        """Finds a replica that has the lease of a job."""
        owners = {stored.owner for stored in self._world.state.open_jobs}
        return next((replica for replica in self._running_replicas if replica.name in owners), None)

    async def _kill_at_times(self) -> None:
        for kill_time in sorted(self._scenario.kill_times):
            await asyncio.sleep(max(0.0, kill_time - self._world.story.seconds))
            if replica := self._pick_replica():
                replica.kill()

    async def _pause_at_times(self) -> None:
        for pause_time, seconds in sorted(self._scenario.pauses):
            await asyncio.sleep(max(0.0, pause_time - self._world.story.seconds))
            owner = self._find_owner() if self._scenario.mood is SellerMood.SLOW else None
            if replica := owner or self._pick_replica():
                replica.pause(seconds)

    async def _replace_stopped_replicas(self) -> None:
        while True:
            await asyncio.sleep(self._scenario.restart_seconds)
            while len(self._running_replicas) < self._scenario.replica_count:
                await self._start_replica()

    # --- operations

    async def _drain_at_time(self, drain: Drain) -> None:
        await asyncio.sleep(drain.starts_at)
        if replica := self._pick_replica():
            replica.start_drain(drain)

    async def _change_account(self, change: AccountChange) -> None:
        for change_at in (change.starts_at, change.ends_at):
            await asyncio.sleep(max(0.0, change_at - self._world.story.seconds))
            for replica in self._running_replicas:
                if replica.is_running and _concerns(change, replica.number):
                    self._world.story.tell(replica.name, "reloads its configuration")
                    replica.reload(self._get_catalogue(replica.number))
                    await asyncio.sleep(change.reload_interval)

    def _get_catalogue(self, number: int) -> Catalogue:
        """Returns the configuration that the files of a replica contain now."""
        seconds = self._world.story.seconds
        for change in self._scenario.operations.account_changes:
            if change.starts_at <= seconds < change.ends_at and _concerns(change, number):
                is_moved = change.state is AccountState.MOVED
                without_key, moved = (None, change.account) if is_moved else (change.account, None)
                return load_catalogue(without_key, moved, has_moderation=self._scenario.has_moderation)
        return load_catalogue(has_moderation=self._scenario.has_moderation)

    # --- callbacks

    async def _receive_callback(self, url: str, headers: dict[str, str], body: bytes) -> bool:
        replica = self._pick_replica()
        if replica is None:
            return False
        adapter, job_id, attempt, signature = url.removeprefix(f"{BASE_URL}/callbacks/").split("/")
        url_parts = adapter, job_id, int(attempt), signature
        answer = asyncio.ensure_future(replica.components.callback_handler.handle(url_parts, headers, body))
        killed = asyncio.create_task(replica.killed.wait())
        await asyncio.wait((answer, killed), return_when=asyncio.FIRST_COMPLETED)
        killed.cancel()
        try:
            return answer.done() and answer.result()
        except Exception as error:  # noqa: BLE001  the API answers 503, so that the seller repeats the callback
            return _is_temporary(error, self._world)


def _choose_timing(scenario: Scenario) -> Timing:
    timing = TIMING
    if scenario.operations.has_cleanup:
        timing = change_timing(timing, maintenance={"cleanup_interval_seconds": CLEANUP_INTERVAL_SECONDS})
    if scenario.has_quick_fetches:
        timing = change_timing(timing, fetches={"max_fetch_seconds": QUICK_FETCH_SECONDS})
    return timing


def _concerns(change: AccountChange, number: int) -> bool:
    return change.is_everywhere or number % 2 == 0


def _compare_jobs(world: World, clients: list[Client]) -> list[str]:
    """Clients that sent the same request with the same Idempotency-Key must get the same job, unless it was
    withdrawn."""
    job_ids = {client.name: set[str]() for client in clients if client.has_key}
    for client in clients:
        if client.has_key and client.job_id and not world.state.jobs[client.job_id].job.is_withdrawn:
            job_ids[client.name].add(client.job_id)
    return [f"two jobs: {name} got {sorted(ids)}" for name, ids in job_ids.items() if len(ids) > 1]


def _is_temporary(error: Exception, world: World) -> bool:
    world.story.tell("callback", f"is answered with an error: {type(error).__name__} {error}")
    if not isinstance(error, RetryLater) and "store" not in str(error) and "outage" not in str(error):
        raise error
    return False
