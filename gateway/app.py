"""The composition root: the only file that constructs things and joins them."""

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from litestar import Litestar
from msgspec.structs import replace

from gateway.api.counter import Tools
from gateway.api.refused_requests import RefusedRequests
from gateway.api.surface import application
from gateway.assets.links import Links
from gateway.assets.shelf import Shelf, ShelfRefused, ShelfUnavailable, public_words
from gateway.catalogue import Catalogue
from gateway.clock import SteadyClock
from gateway.config.located import Problem
from gateway.config.watching import Keeper
from gateway.config.watching import Reloaded as ReloadedFiles
from gateway.engine.callbacks import CallbackAddresses
from gateway.engine.engine import Engine
from gateway.engine.hands import Hands
from gateway.engine.hearing import Callbacks
from gateway.events import Event, Reloaded, trouble_of
from gateway.settings import Settings, secret_of
from gateway.store.base import DAY, Retention, Store
from gateway.store.redis import RedisStore
from gateway.store.sqlite import SqliteStore
from gateway.store.watching import Watches
from gateway.supervision import SupervisedTask, Supervisor
from gateway.telemetry.gauges import gauges
from gateway.telemetry.logs import Logs
from gateway.telemetry.metrics import Metrics
from gateway.upstream.client import Upstream
from gateway.upstream.health import Health
from gateway.upstream.input_fetcher import InputFetcher
from gateway.upstream.limits import Limits, OrderBudget

MONTH = 31 * DAY
# The engine writes to the store every second. After so long without having managed to, no new job can be kept, either.
UNWRITTEN_SECONDS = 5.0
LOOK_AT_LOGS_SECONDS = 1.0
STORAGE_SECONDS = 3.0
Change = Callable[[Catalogue], Catalogue]
MakeKeeper = Callable[[Callable[[ReloadedFiles], None]], Keeper]


class Gateway:
    """One process. `change` is how the sandbox's accounts take the place of the configured ones."""

    def __init__(
        self, settings: Settings, keeper: Callable[[Callable[[ReloadedFiles], None]], Keeper], change: Change
    ) -> None:
        self.settings = settings
        self.logs = Logs(settings.log_format)
        self.metrics = Metrics()
        self.keeper = keeper(self._reloaded)
        self._change = change
        self._changed: tuple[Catalogue, Catalogue] | None = None
        self.is_draining = False
        self.failure: Exception | None = None
        self._base = settings.public_url or ""
        self._calls_back = settings.public_url is not None
        self.engine: Engine | None = None
        self.supervisor = Supervisor(self.emit)
        self._clock = SteadyClock()
        self._lease = self.keeper.current.gateway.jobs.lease_seconds
        self.store: Store = self._make_store()
        self.app: Litestar = application(self._state(), self.emit, [self._life])

    def listens_at(self, url: str, for_sellers: bool) -> None:
        """Where it is reached, unless the settings say otherwise. `for_sellers`: they can reach it there, too."""
        self._base = self._base or url
        self._calls_back = self._calls_back or for_sellers

    # --- what is in force

    def catalogue(self) -> Catalogue:
        current = self.keeper.current
        if self._changed is None or self._changed[0] is not current:
            self._changed = current, self._change(current)
        return self._changed[1]

    def emit(self, event: Event) -> None:
        self.metrics(event)
        self.logs(event)

    def _reloaded(self, told: ReloadedFiles) -> None:
        problems = told.result.problems
        hash_ = told.result.catalogue.hash if told.result.catalogue else told.before
        self.emit(Reloaded(taken=told.taken, config=hash_, problems=len(problems)))
        for problem in problems:
            self.logs.say("error", "configuration refused", problem=str(problem))
        if told.taken and self.engine is not None:
            self._configure_limits()

    def readiness(self) -> dict[str, Any]:
        last, store, storage = self.keeper.last, self._store_state(), self._storage_state()
        return {
            "ready": not self.is_draining and store["takes_writes"] and storage["takes_images"],
            "draining": self.is_draining,
            "jobs": len(self.engine.owners) if self.engine else 0,
            "config": {
                "in_force": self.keeper.current.hash,
                "last_reload": "taken" if last.taken else "refused",
                "problems": [_shown(problem, self.keeper.folder) for problem in last.result.problems[:20]],
            },
            "store": store,
            "storage": storage,
            "tasks": self._tasks_state(),
        }

    def _tasks_state(self) -> dict[str, Any]:
        """The long-lived ones, and why which of them are down at the moment: each is started again by itself."""
        now = self.supervisor.clock()
        return {
            "running": len(self.supervisor.names),
            "down": {
                name: {"error": one.error, "failures": one.count, "seconds": round(now - one.since, 1)}
                for name, one in self.supervisor.failing().items()
            },
        }

    def _store_state(self) -> dict[str, Any]:
        engine = self.engine
        silent = engine.hands.clock() - engine.last_write if engine else None
        return {
            "kind": "redis" if self.settings.redis_url else "sqlite",
            "takes_writes": silent is not None and silent < UNWRITTEN_SECONDS,
            "seconds_since_write": None if silent is None else round(silent, 1),
            "warnings": list(self.store.warnings),
        }

    def _storage_state(self) -> dict[str, Any]:
        problem = self.engine.hands.shelf.problem if self.engine else None
        return {"takes_images": problem is None, "problem": problem and public_words(problem)}

    # --- life

    @asynccontextmanager
    async def _life(self, app: Litestar) -> AsyncIterator[None]:
        """In the server's own event loop; what was opened last is closed first."""
        try:
            async with AsyncExitStack() as opened:
                await self._open(app, opened)
                yield
        except Exception as error:
            self.failure = error
            raise
        finally:
            self.logs.close()

    async def _open(self, app: Litestar, opened: AsyncExitStack) -> None:
        secrets = secret_of(self.settings)
        opened.push_async_callback(self.supervisor.run_every("logs", LOOK_AT_LOGS_SECONDS, self.logs.revive).stop)
        shelf = Shelf(self.settings.assets or str(self.settings.data / "images"))
        opened.push_async_callback(shelf.close)
        await self._try_out(shelf)
        store = await self.store.open()
        opened.push_async_callback(store.close)
        upstream = Upstream()
        opened.push_async_callback(upstream.aclose)
        hands = self._hands(store, shelf, upstream, secrets)
        self.engine = Engine(hands, self._lease)
        self._configure_limits()
        app.state["tools"] = self._tools(self.engine, secrets)
        app.state["callbacks"] = Callbacks(self.engine)
        self.metrics.watch_gauges(partial(gauges, self.engine, self.catalogue, self.supervisor))
        self.engine.start(self.supervisor)
        opened.push_async_callback(self.engine.drain, 0.0)
        opened.push_async_callback(self.supervisor.run_every("storage", STORAGE_SECONDS, shelf.check_again).stop)
        opened.push_async_callback(self.supervisor.run("config.watch", self._watch_files).stop)
        for warning in store.warnings:
            self.logs.say("warning", "store", warning=warning)

    async def _watch_files(self, task: SupervisedTask) -> None:
        await self.keeper.watch(task.succeeded)

    async def _try_out(self, shelf: Shelf) -> None:
        """Checks the storage at the start. After a failure that may pass, the gateway serves stored images and
        refuses new jobs. A misconfiguration stops it."""
        try:
            await shelf.check()
        except ShelfRefused:
            raise
        except ShelfUnavailable as error:
            self.emit(trouble_of(error))

    async def drain(self) -> None:
        """Not ready any more, claims nothing, lets running jobs finish or hands them over."""
        self.is_draining = True
        if self.engine is not None:
            handed_over = await self.engine.drain(self.settings.drain_seconds)
            self.logs.say("info", "drained", handed_over=handed_over)

    def hurry(self) -> None:
        """Whoever drains hands over what is left, at once."""
        if self.engine is not None:
            self.engine.hurry()

    # --- parts

    def _state(self) -> dict[str, Any]:
        return {"readiness": self.readiness, "metrics": self.metrics.exposition}

    def _make_store(self) -> Store:
        options = self.keeper.current.gateway
        kept = options.retention
        retention = Retention(
            jobs=kept.jobs_days * DAY, ledger=kept.ledger_days * DAY, totals=kept.totals_months * MONTH
        )
        if self.settings.redis_url:
            durability = options.store.durability
            return RedisStore(
                self.settings.redis_url,
                lease=self._lease,
                retention=retention,
                durability=durability,
                supervisor=self.supervisor,
            )
        return SqliteStore(
            self.settings.data / "gateway.db",
            lease=self._lease,
            retention=retention,
            clock=self._clock,
            supervisor=self.supervisor,
        )

    def _hands(self, store: Store, shelf: Shelf, upstream: Upstream, secrets: tuple[bytes, ...]) -> Hands:
        return Hands(
            store=store,
            upstream=upstream,
            shelf=shelf,
            health=Health(store.owner),
            limits=Limits(time.monotonic),
            orders=OrderBudget(),
            catalogue=self.catalogue,
            callbacks=CallbackAddresses(self._base, secrets) if self._calls_back else None,
            waiting=Watches(),
            emit=self.emit,
            now=self._clock,
            clock=time.monotonic,
        )

    def _tools(self, engine: Engine, secrets: tuple[bytes, ...]) -> Tools:
        hands = engine.hands
        return Tools(
            engine=engine,
            store=hands.store,
            shelf=hands.shelf,
            inputs=InputFetcher(hands.upstream.ways),
            links=Links(secrets, self._base),
            refused=RefusedRequests(time.time),
            catalogue=self.catalogue,
            now=time.time,
            draw=random.random,
            draining=lambda: self.is_draining,
        )

    def _configure_limits(self) -> None:
        if self.engine is not None:
            accounts = self.catalogue().accounts
            self.engine.hands.limits.configure({name: account.limits for name, account in accounts.items()})


def _shown(problem: Problem, folder: Path) -> str:
    """To whoever asks: where on this machine the folder is, is nobody's business."""
    file = problem.place.file.removeprefix(str(folder)).lstrip("/") or folder.name
    return str(replace(problem, place=replace(problem.place, file=file)))
