"""One replica of the gateway, in memory and in virtual time. A run can kill it at each failpoint."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from msgspec import Struct, field

from gateway.assets.backend import StorageUnavailable
from gateway.assets.storage import ImageStorage
from gateway.catalogue import Catalogue, CatalogueInForce, carry_over_draining
from gateway.components import Components, Environment, Factories, build_components, configure_accounts
from gateway.events import ErrorReported, Event
from gateway.slewing_clock import SlewingClock
from gateway.store.base import StoreOutcomeUnknown, StoreUnavailable
from gateway.task_supervisor import TaskSupervisor
from gateway.timeouts_and_intervals import Timing
from tests.explore.answer_recorder import AnswerRecorder
from tests.explore.disturbances import PERIODIC_EFFECTS, Disturbance, DisturbanceKind, DisturbancePlan
from tests.explore.failpoints import Interceptor
from tests.explore.operations import Drain, OperationsPlan
from tests.explore.resend_check import ResendCheck
from tests.explore.scripted_moderation import ScriptedHooks
from tests.explore.scripted_sellers import ScriptedSellers
from tests.explore.scripted_webhooks import ScriptedTarget, make_sender
from tests.explore.sellers_config import LEASE_SECONDS
from tests.explore.story import Story
from tests.harness.memory_storage import MemoryBackend
from tests.harness.memory_store import MemoryState, MemoryStore

BASE_URL = "https://gateway.test"
SIGNING_SECRETS = (b"the signing secret of all replicas",)
MAX_STORE_SECONDS = 0.004
# How long a claim takes during which a drain begins.
SLOW_CLAIM_SECONDS = 0.5
# The monotonic clocks of two processes have nothing in common.
MONOTONIC_OFFSET_SECONDS = 500.0


class World(Struct, kw_only=True):
    """The parts that the replicas of one run share. `is_over`: suspended tasks are being cancelled.

    `skipped_seconds`: how far the clock of the store is ahead, since days have passed in which nothing happened.
    `violations`: what the replicas and clients have found wrong during the run. `answered_at`, `found_at`: when
    a replica has learned that a seller has accepted an order.
    """

    random: Random
    clock: Callable[[], float]
    story: Story
    plan: DisturbancePlan
    operations: OperationsPlan
    state: MemoryState
    images: MemoryBackend
    sellers: ScriptedSellers
    has_callbacks: bool
    hooks: ScriptedHooks
    timing: Timing
    webhook_target: ScriptedTarget = field(default_factory=ScriptedTarget)
    is_over: bool = False
    skipped_seconds: float = 0.0
    disturbance_count: int = 0
    # Whether a replica was killed that had stored images, and discarded none since.
    has_killed_storing_replica: bool = False
    effect_count: int = 0
    periodic_count: int = 0
    reached: Counter[str] = field(default_factory=Counter)
    standing_still: list["asyncio.Future[None]"] = field(default_factory=list)
    errors: list[ErrorReported] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    answered_at: dict[tuple[str, str], float] = field(default_factory=dict)
    found_at: dict[tuple[str, str], float] = field(default_factory=dict)

    def read_store_clock(self) -> float:
        return self.clock() + self.skipped_seconds


class Replica:
    """A process of the gateway. After `kill`, none of its effects happens and none of its tasks continues."""

    def __init__(self, world: World, number: int, catalogue: Catalogue) -> None:
        self.world, self.number, self.name = world, number, f"replica-{number}"
        self.killed = asyncio.Event()
        self.is_draining = self.has_stopped = False
        self._paused_until = 0.0
        self._catalogue = CatalogueInForce(catalogue)
        # The requests that are being served.
        self.requests: set[asyncio.Future[Any]] = set()
        self._claim_drain: Drain | None = None
        self._has_stored_images = False
        self._drain_task: asyncio.Task[None] | None = None
        self._store = MemoryStore(world.state, replica_id=self.name, lease=LEASE_SECONDS, clock=world.read_store_clock)
        self.components = self._build_components()

    def _build_components(self) -> Components:
        world = self.world
        factories = Factories(
            system_clock=self._read_system_clock,
            monotonic=self._read_monotonic_clock,
            draw_random=world.random.random,
            draw_bytes=world.random.randbytes,
            make_moderation_client=lambda *_: Interceptor("moderation_client", world.hooks, self._run_effect),
        )
        return build_components(
            Environment(
                factories=factories,
                wall_clock=SlewingClock(self._read_system_clock, self._read_monotonic_clock),
                store=Interceptor("store", self._store, self._run_effect),
                storage=Interceptor("storage", ImageStorage(world.images), self._run_effect),
                seller_client=ResendCheck(
                    AnswerRecorder(
                        Interceptor("seller_client", world.sellers, self._run_effect),
                        self.name,
                        world.clock,
                        world.answered_at,
                        world.found_at,
                    ),
                    lambda: self.components.engine,
                    world.violations,
                ),
                catalogue=self._catalogue,
                emit=self._on_event,
                lease_seconds=LEASE_SECONDS,
                base_url=BASE_URL,
                callback_url=BASE_URL if world.has_callbacks else None,
                signing_secrets=SIGNING_SECRETS,
                is_draining=lambda: self.is_draining,
                timing=world.timing,
            )
        )

    async def start(self) -> None:
        await self._store.open()
        self.components.engine.start(TaskSupervisor(self._on_event, self.world.clock))
        sender = make_sender(
            self.world.webhook_target, self._store, self._catalogue.get, self._on_event, self.world.read_store_clock
        )
        TaskSupervisor(self._on_event, self.world.clock).run("webhooks.send", sender.run)

    def _read_system_clock(self) -> float:
        offsets, steps = self.world.operations.clock_offsets, self.world.operations.clock_steps
        seconds = self.world.story.seconds
        return (
            self.world.clock()
            + offsets[self.number % len(offsets)]
            + sum(step for set_at, step in steps if set_at <= seconds)
        )

    def _read_monotonic_clock(self) -> float:
        return self.world.clock() + self.number * MONOTONIC_OFFSET_SECONDS

    @property
    def is_killed(self) -> bool:
        return self.killed.is_set()

    @property
    def is_running(self) -> bool:
        return not self.is_killed and not self.has_stopped

    def kill(self) -> None:
        if not self.is_killed:
            self.world.story.tell(self.name, "is killed")
            self.killed.set()
            self.world.has_killed_storing_replica |= self._has_stored_images
            self._store.kill()

    def pause(self, seconds: float) -> None:
        """Stops the process for a while: none of its effects happens, and no answer reaches it."""
        self.world.disturbance_count += 1
        self.world.story.tell(self.name, f"is paused for {seconds:.0f} s")
        self._paused_until = self.world.clock() + seconds

    def reload(self, catalogue: Catalogue) -> None:
        """Applies another configuration, as the composition root does."""
        previous = self._catalogue.get()
        self._catalogue.set_configured(carry_over_draining(catalogue, previous, self._read_monotonic_clock()))
        configure_accounts(self.components, self._catalogue.get())

    # --- graceful shutdown

    def start_drain(self, drain: Drain) -> None:
        """Starts the drain: at once, or while the replica claims jobs."""
        if drain.awaits_claim and self._claim_drain is None:
            self._claim_drain = drain
        elif not self.is_draining:
            self.is_draining = True
            self._drain_task = asyncio.create_task(self._drain(drain))
            self._drain_task.add_done_callback(self._on_drained)

    async def _drain(self, drain: Drain) -> None:
        engine, worker_ids = self.components.engine, set(self.components.engine.workers)
        self.world.story.tell(self.name, "drains")
        if drain.hurries_after is not None:
            asyncio.get_running_loop().call_later(drain.hurries_after, engine.hand_over_all_jobs)
        handed_over = await engine.drain(drain.timeout)
        await self._stand_still()
        # The server accepts no more connections.
        self.has_stopped = True
        await self._finish_requests()
        handed_over += await engine.drain(0.0)
        await self._stand_still()
        self.world.story.tell(self.name, f"has drained: {handed_over} handed over")
        self._check_no_lease(worker_ids)
        await self._store.close()

    def _on_drained(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()):
            self.world.violations.append(f"drain: {self.name} failed with {error!r}")

    async def _finish_requests(self) -> None:
        """Waits for responses to clients, as the server does after the drain, and then cancels their requests."""
        if requests := set(self.requests):
            _, unfinished = await asyncio.wait(requests, timeout=self.world.timing.api.shutdown_timeout_seconds)
            for request in unfinished:
                request.cancel()
            await asyncio.wait(requests)

    def _check_no_lease(self, worker_ids: set[str]) -> None:
        """A drained replica has handed over the jobs that it worked on, unless there were disturbances."""
        for stored in self.world.state.open_jobs:
            if stored.job.id in worker_ids and stored.owner == self.name and not self.world.disturbance_count:
                self.world.violations.append(f"drain: {self.name} has stopped, but owns {stored.job.id}")

    def _on_event(self, event: Event) -> None:
        if isinstance(event, ErrorReported) and not self.is_killed:
            self.world.errors.append(event)
            self.world.story.tell(self.name, f"reports an error of {event.component}: {event.message}")

    # --- effects

    async def _run_effect(self, failpoint: str, effect: str, perform: Callable[[], Awaitable[Any]]) -> Any:
        """Performs one effect, with the disturbance that the plan has for it."""
        disturbance = self._take_disturbance(failpoint, effect)
        if disturbance is not None:
            self.world.disturbance_count += 1
            self.world.story.tell(self.name, f"{failpoint}: {disturbance.kind}")
        try:
            await self._disturb(disturbance, effect, is_before_effect=True)
            await self._stand_still()
            self._has_stored_images |= effect == "storage.put"
            result = await self._perform(effect, perform)
            self._has_stored_images &= effect != "storage.delete_prefix"
            if effect == "store.claim_jobs" and result and self._claim_drain is not None:
                self.start_drain(self._claim_drain)
                await asyncio.sleep(SLOW_CLAIM_SECONDS)
            await self._stand_still()
            await self._disturb(disturbance, effect, is_before_effect=False)
        except asyncio.CancelledError:
            # The store cancels the calls of a killed replica.
            await self._stand_still()
            raise
        await self._stand_still()
        if effect not in PERIODIC_EFFECTS:
            self.world.story.tell(self.name, f"{failpoint}: {_describe(result)}")
        return result

    async def _perform(self, effect: str, perform: Callable[[], Awaitable[Any]]) -> Any:
        if effect.startswith("store.") and (outage := self._find_outage()):
            self.world.disturbance_count += 1
            _, _, has_effect = outage
            if has_effect:
                await perform()
            is_unknown = has_effect or self.world.plan.has_unknown_failures
            raise StoreOutcomeUnknown("outage") if is_unknown else StoreUnavailable("outage")
        if effect not in PERIODIC_EFFECTS:
            await asyncio.sleep(self.world.random.random() * MAX_STORE_SECONDS)
        return await perform()

    def _find_outage(self) -> tuple[float, float, bool] | None:
        now = self.world.story.seconds
        return next((outage for outage in self.world.plan.outages if outage[0] <= now < outage[1]), None)

    def _take_disturbance(self, failpoint: str, effect: str) -> Disturbance | None:
        world = self.world
        if self.is_killed:
            return None
        world.reached[failpoint] += 1
        planned = world.plan.by_failpoint.get(failpoint, ())
        if world.reached[failpoint] <= len(planned):
            return planned[world.reached[failpoint] - 1]
        if effect in PERIODIC_EFFECTS:
            world.periodic_count += 1
            return world.plan.by_periodic_number.get(world.periodic_count)
        world.effect_count += 1
        return world.plan.by_effect_number.get(world.effect_count)

    async def _disturb(self, disturbance: Disturbance | None, effect: str, *, is_before_effect: bool) -> None:
        """Makes the planned disturbance, if it belongs to this moment."""
        if disturbance is None or disturbance.kind.is_before_effect is not is_before_effect:
            return
        match disturbance.kind:
            case DisturbanceKind.KILL_BEFORE | DisturbanceKind.KILL_AFTER:
                self.kill()
            case DisturbanceKind.PAUSE_BEFORE | DisturbanceKind.PAUSE_AFTER:
                self.pause(disturbance.delay)
            case DisturbanceKind.DELAY_BEFORE | DisturbanceKind.DELAY_AFTER:
                await asyncio.sleep(disturbance.delay)
            case DisturbanceKind.FAIL_BEFORE:
                make_error = StoreOutcomeUnknown if self.world.plan.has_unknown_failures else StoreUnavailable
                _raise_failure(effect, make_error("the store did nothing"))
            case DisturbanceKind.FAIL_AFTER:
                _raise_failure(effect, StoreOutcomeUnknown("the answer of the store was lost"))

    async def _stand_still(self) -> None:
        """Waits until a pause ends. Never returns in a killed replica."""
        if self._paused_until > self.world.clock():
            await asyncio.sleep(self._paused_until - self.world.clock())
        if self.world.is_over:
            raise asyncio.CancelledError
        if self.is_killed:
            # Kept, so that the task is not collected as garbage.
            forever: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.world.standing_still.append(forever)
            await forever


def _raise_failure(effect: str, store_error: StoreUnavailable) -> None:
    """Sellers have their own scripts, so only the store and the storage fail here."""
    if effect.startswith("store."):
        raise store_error
    if effect.startswith("storage."):
        raise StorageUnavailable("the storage failed")


def _describe(result: Any) -> str:
    if isinstance(result, Struct):
        status = getattr(result, "status", None)
        fault = getattr(result, "fault", None)
        return f"{type(result).__name__} {status or (fault.kind if fault and hasattr(fault, 'kind') else '')}".strip()
    return type(result).__name__
