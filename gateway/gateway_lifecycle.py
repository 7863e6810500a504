"""The composition root: constructs all components and connects them; startup, readiness, graceful shutdown."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from litestar import Litestar
from msgspec.structs import replace

from gateway.access.rate_limiter import SIGNAL_PREFIX, has_limits
from gateway.api.application import Application, create_application
from gateway.assets.storage import ImageStorage, StorageAccessDenied, StorageUnavailable, describe_problem
from gateway.catalogue import Catalogue, CatalogueInForce
from gateway.components import (
    Components,
    Environment,
    Factories,
    StoreOptions,
    build_components,
    configure_accounts,
    list_administration_tasks,
)
from gateway.config.reloader import WHY_NOT_APPLIED, ConfigReloader, ReloadResult
from gateway.config.timing_options import configure_timing, reload_timing
from gateway.config.yaml_nodes import Problem
from gateway.engine.account_checker import AccountChecker
from gateway.engine.engine import Engine
from gateway.events import ConfigReloaded, Event, LedgerEntryPosted, make_error_event
from gateway.settings import Settings, load_signing_secrets
from gateway.slewing_clock import SlewingClock
from gateway.store.base import Store
from gateway.task_supervisor import SupervisedTask, TaskSupervisor
from gateway.telemetry.event_loop_monitor import EventLoopMonitor
from gateway.telemetry.gauges import GaugeReader, GaugeSources
from gateway.telemetry.logs import EventLogger
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.store_metrics import StoreMetricReader
from gateway.telemetry.team_labels import TeamLabels
from gateway.telemetry.tracing import Tracer
from gateway.timeouts_and_intervals import Timing
from gateway.upstream.seller_client import SellerClient

CatalogueTransform = Callable[[Catalogue, EventLogger], Catalogue]
DEFAULT_FACTORIES = Factories()
MakeReloader = Callable[[Callable[[ReloadResult], None]], ConfigReloader]


class Gateway:
    """One gateway process. `transform_catalogue` replaces the configured accounts by those of the sandbox.

    `factories`: make the store, the storage and the seller client. `timing`: the times that the configuration does not
    set.
    """

    def __init__(
        self,
        settings: Settings,
        make_reloader: MakeReloader,
        transform_catalogue: CatalogueTransform,
        factories: Factories = DEFAULT_FACTORIES,
        timing: Timing = Timing(),
    ) -> None:
        self.settings = settings
        self.logs = EventLogger(settings.log_format, has_debug_lines=settings.log_level == "debug")
        self.reloader = make_reloader(self._on_reload)
        self._transform_catalogue = transform_catalogue
        self.catalogue = CatalogueInForce(transform_catalogue(self.reloader.current, self.logs))
        self._team_labels = TeamLabels(self.catalogue.get)
        self.metrics = Metrics(
            self._team_labels.get_label, factories.monotonic, timing.maintenance.new_series_zero_seconds
        )
        self._tracer: Tracer | None = None
        self._default_timing = timing
        self.timing = configure_timing(timing, self.reloader.current.gateway.timing)
        self.is_draining = False
        self.lifespan_error: Exception | None = None
        self._scraped_at: float | None = None
        self._base_url = settings.public_url or ""
        self._callback_url = settings.callback_url or settings.public_url
        self.components: Components | None = None
        self.supervisor = TaskSupervisor(self.emit, factories.monotonic, timing.tasks)
        self._factories = factories
        self._wall_clock = SlewingClock(factories.system_clock, factories.monotonic)
        self._lease_seconds = self.reloader.current.gateway.jobs.lease_seconds
        self.store = factories.make_store(
            StoreOptions(
                settings=settings,
                config=self.reloader.current.gateway,
                wall_clock=self._wall_clock,
                supervisor=self.supervisor,
                timing=self.timing.store,
            )
        )
        self._config_applied_at = factories.system_clock()
        self.app: Application = create_application(
            self._build_app_state(),
            self.emit,
            [self._lifespan],
            self.timing.api,
            lambda: self.reloader.current.gateway.cors.origins,
        )
        with self.logs.capture_library_logs():
            self._tracer = factories.make_tracer(
                self.store.replica_id, self._log_trace_warning, self.metrics.count_dropped_spans
            )
        if self._tracer is not None:
            self.app.start_span = self._tracer.start_span

    def set_base_url(self, url: str, is_reachable_by_sellers: bool) -> None:
        """Sets the base URL unless the settings define one.

        `is_reachable_by_sellers`: sellers can send callbacks to it.
        """
        self._base_url = self._base_url or url
        if is_reachable_by_sellers:
            self._callback_url = self._callback_url or url

    @property
    def engine(self) -> Engine | None:
        return self.components.engine if self.components else None

    # --- configuration in force

    def emit(self, event: Event) -> None:
        self.metrics(event)
        self.logs(event)
        if self._tracer is not None:
            self._tracer(event)
        if isinstance(event, LedgerEntryPosted) and self.components is not None:
            self.components.threshold_announcer.note_spending(event)

    def _log_trace_warning(self, warning: str) -> None:
        self.logs.log("warning", "trace warning", warning=warning)

    def _on_reload(self, reload: ReloadResult) -> None:
        if reload.is_applied:
            self.catalogue.set_configured(self._transform_catalogue(self.reloader.current, self.logs))
        problems = reload.resolved.problems
        config_hash = reload.resolved.catalogue.hash if reload.resolved.catalogue else reload.previous_hash
        self.emit(ConfigReloaded(applied=reload.is_applied, config=config_hash, problems=len(problems)))
        for problem in problems:
            self.logs.log("error", "configuration rejected", problem=str(problem))
        for reference in reload.unapplied_secrets:
            self.logs.log("error", "changed secret not applied", secret=reference, reason=WHY_NOT_APPLIED)
        self.log_config_warnings()
        if reload.is_applied:
            configured = configure_timing(self._default_timing, self.reloader.current.gateway.timing)
            self.timing = reload_timing(self.timing, configured)
            self._config_applied_at = self._factories.system_clock()
            if self.components is not None:
                self.components.engine.context.timing = self.timing
                configure_accounts(self.components, self.catalogue.get())

    def log_config_warnings(self) -> None:
        for warning in self.reloader.last_result.resolved.warnings:
            self.logs.log("warning", "configuration warning", warning=str(warning))

    def describe_readiness(self) -> dict[str, Any]:
        last, store, storage = self.reloader.last_result, self._describe_store(), self._describe_storage()
        return {
            "ready": not self.is_draining and store["takes_writes"] and storage["takes_images"],
            "draining": self.is_draining,
            "jobs": len(self.engine.workers) if self.engine else 0,
            "config": {
                "in_force": self.reloader.current.hash,
                "last_reload": "applied" if last.is_applied else "rejected",
                "problems": [_format_problem(problem, self.reloader.folder) for problem in last.resolved.problems[:20]],
            },
            "store": store,
            "storage": storage,
            "tasks": self._describe_tasks(),
            "metrics": {"seconds_since_scrape": self._get_scrape_age()},
        }

    def _render_metrics(self, accept: str) -> tuple[bytes, str]:
        self._scraped_at = self.supervisor.clock()
        return self.metrics.render(accept)

    def _get_scrape_age(self) -> float | None:
        """Returns how long ago /metrics was read, or None if it never was."""
        return None if self._scraped_at is None else round(self.supervisor.clock() - self._scraped_at, 1)

    def _describe_tasks(self) -> dict[str, Any]:
        """Describes the long-running tasks, with the errors of those that are down. Each restarts by itself."""
        now = self.supervisor.clock()
        return {
            "running": len(self.supervisor.task_names),
            "down": {
                name: {
                    "error": failure.error,
                    "failures": failure.count,
                    "seconds": round(now - failure.first_failed_at, 1),
                }
                for name, failure in self.supervisor.get_failures().items()
            },
        }

    def _describe_store(self) -> dict[str, Any]:
        engine = self.engine
        return {
            "kind": "redis" if self.settings.redis_url else "sqlite",
            "takes_writes": engine is not None and engine.can_write,
            "seconds_since_write": round(engine.seconds_since_write, 1) if engine else None,
            "warnings": list(self.store.warnings),
        }

    def _describe_storage(self) -> dict[str, Any]:
        problem = self.engine.context.storage.problem if self.engine else None
        return {"takes_images": problem is None, "problem": problem and describe_problem(problem)}

    # --- lifecycle

    @asynccontextmanager
    async def _lifespan(self, app: Litestar) -> AsyncIterator[None]:
        """Starts the components in the server's event loop, and closes them in reverse order."""
        try:
            async with AsyncExitStack() as exit_stack:
                await self._start_components(app, exit_stack)
                yield
        except Exception as error:
            self.lifespan_error = error
            raise
        finally:
            self.logs.close()

    async def _start_components(self, app: Litestar, exit_stack: AsyncExitStack) -> None:
        signing_secrets = load_signing_secrets(self.settings)
        if self._tracer is not None:
            exit_stack.push_async_callback(self._tracer.close, self.timing.maintenance.trace_flush_timeout_seconds)
        maintenance = self.timing.maintenance
        self._run_every(exit_stack, "logs", maintenance.log_check_interval_seconds, self.logs.restart_thread)
        storage = self._factories.make_storage(self.settings.assets or f"{self.settings.data}/images", maintenance)
        exit_stack.push_async_callback(storage.close)
        await self._check_storage(storage)
        store = await self.store.open()
        exit_stack.push_async_callback(store.close)
        seller_client = self._factories.make_seller_client(self.timing)
        exit_stack.push_async_callback(seller_client.aclose)
        self.components = components = build_components(
            self._make_environment(store, storage, seller_client, signing_secrets)
        )
        app.state["context"] = components.api_context
        app.state["callback_handler"] = components.callback_handler
        self.metrics.read_samples(GaugeReader(self._collect_gauge_sources(components)).readers)
        loop_monitor = EventLoopMonitor(
            self.timing.maintenance.loop_lag_interval_seconds, self.metrics.observe_loop_lag
        )
        exit_stack.push_async_callback(self.supervisor.run("event_loop.measure", loop_monitor.run).stop)
        self._start_store_metrics(components, exit_stack)
        await self._start_access_tasks(components, exit_stack)
        exit_stack.push_async_callback(components.webhook_sender.stop)
        exit_stack.push_async_callback(self.supervisor.run("webhooks.send", components.webhook_sender.run).stop)
        components.engine.start(self.supervisor)
        exit_stack.push_async_callback(components.engine.drain, 0.0)
        self._start_batch_tasks(components, exit_stack)
        checker = AccountChecker(components.engine.context)
        exit_stack.push_async_callback(self.supervisor.run("accounts.check", checker.run).stop)
        self._run_every(exit_stack, "storage", maintenance.storage_check_interval_seconds, storage.self_test_if_due)
        exit_stack.push_async_callback(self.supervisor.run("config.watch", self._watch_config).stop)
        for warning in store.warnings:
            self.logs.log("warning", "store warning", warning=warning)

    def _run_every(
        self, exit_stack: AsyncExitStack, name: str, interval: float, function: Callable[[], Awaitable[None]]
    ) -> None:
        exit_stack.push_async_callback(self.supervisor.run_every(name, interval, function).stop)

    async def _start_access_tasks(self, components: Components, exit_stack: AsyncExitStack) -> None:
        """Loads the API keys and the targets of webhooks, and starts the tasks that keep them up to date."""
        registry, maintenance = components.api_context.key_registry, self.timing.maintenance
        await components.load_access()

        async def refresh_keys() -> None:
            await registry.refresh()
            self.app.end_requests_of_keys(registry.revoked_key_ids)

        tasks: dict[str, tuple[float, Callable[[], Awaitable[None]]]] = {
            "access.refresh_keys": (maintenance.key_refresh_interval_seconds, refresh_keys),
            "access.save_uses": (maintenance.key_use_interval_seconds, registry.save_uses),
            "access.share_counts": (maintenance.limit_share_interval_seconds, partial(self._share_counts, components)),
            **list_administration_tasks(components, self.catalogue.get, maintenance),
        }
        exit_stack.push_async_callback(registry.save_last_uses)
        for name, (interval, function) in tasks.items():
            self._run_every(exit_stack, name, interval, function)

    def _start_store_metrics(self, components: Components, exit_stack: AsyncExitStack) -> None:
        context, maintenance = components.engine.context, self.timing.maintenance
        reader = StoreMetricReader(
            context.store.statistics, self._team_labels, context.wall_clock, context.monotonic, maintenance
        )
        reader.on_totals = lambda totals: context.canaries.update(self.catalogue.get(), totals, self.emit)
        self.metrics.read_samples(reader.readers)
        task = self.supervisor.run("metrics.store", reader.run, max_backoff=maintenance.store_metric_interval_seconds)
        exit_stack.push_async_callback(task.stop)

    def _start_batch_tasks(self, components: Components, exit_stack: AsyncExitStack) -> None:
        """Starts the tasks that run batches, and delete expired files."""
        scheduler, maintenance = components.batch_scheduler, self.timing.maintenance
        exit_stack.push_async_callback(scheduler.stop)
        interval = self.timing.claims.interval_seconds
        self._run_every(exit_stack, "batches.claim", interval, scheduler.claim_due_batches)
        interval = maintenance.cleanup_interval_seconds
        self._run_every(exit_stack, "batches.delete_files", interval, scheduler.delete_expired_records)

    async def _share_counts(self, components: Components) -> None:
        """Exchanges with the other replicas what was admitted, if there are any rate limits."""
        context, store = components.api_context, components.engine.context.store
        has_team_limits = any(has_limits(team.limits) for team in self.catalogue.get().teams.values())
        if has_team_limits or context.key_registry.has_limits:
            name = f"{SIGNAL_PREFIX}{store.replica_id}"
            await store.publish_signal(name, context.rate_limiter.make_snapshot())
            context.rate_limiter.merge_snapshots(await store.read_signals(), name)

    async def _watch_config(self, task: SupervisedTask) -> None:
        await self.reloader.run(task.record_success)

    async def _check_storage(self, storage: ImageStorage) -> None:
        """Checks the storage at startup.

        After a temporary failure the gateway starts: it serves stored images and rejects new jobs. A misconfiguration
        prevents the start.
        """
        try:
            await storage.self_test()
        except StorageAccessDenied:
            raise
        except StorageUnavailable as error:
            self.emit(make_error_event(error))

    async def drain(self) -> None:
        """Shuts down gracefully: is not ready, claims no jobs, lets running jobs finish, and hands over the rest."""
        self.is_draining = True
        if self.components is not None:
            # First, so that batches create no more jobs.
            await self.components.batch_scheduler.stop()
        if self.engine is not None:
            handed_over = await self.engine.drain(self.settings.drain_seconds)
            self.logs.log("info", "drained", handed_over=handed_over)

    def hand_over_all_jobs(self) -> None:
        """Hands over all remaining jobs at once during a drain."""
        if self.engine is not None:
            self.engine.hand_over_all_jobs()

    # --- components

    def _build_app_state(self) -> dict[str, Any]:
        return {"describe_readiness": self.describe_readiness, "render_metrics": self._render_metrics}

    def _collect_gauge_sources(self, components: Components) -> GaugeSources:
        engine = components.engine
        client = engine.context.seller_client
        return GaugeSources(
            engine=engine,
            get_catalogue=self.catalogue.get,
            supervisor=self.supervisor,
            memory_budgets={
                "requests": self.app.body_budget,
                "sellers": client.memory_budget,
                "images": client.url_memory_budget,
            },
            disk_budget=self.app.disk_budget,
            get_config_applied_at=lambda: self._config_applied_at,
            was_reload_applied=lambda: self.reloader.last_result.is_applied,
            get_batch_load=components.batch_scheduler.get_load,
            get_webhook_lag=lambda: components.webhook_sender.lag_seconds,
        )

    def _make_environment(
        self, store: Store, storage: ImageStorage, seller_client: SellerClient, signing_secrets: tuple[bytes, ...]
    ) -> Environment:
        return Environment(
            factories=self._factories,
            wall_clock=self._wall_clock,
            store=store,
            storage=storage,
            seller_client=seller_client,
            catalogue=self.catalogue,
            emit=self.emit,
            lease_seconds=self._lease_seconds,
            base_url=self._base_url,
            callback_url=self._callback_url,
            signing_secrets=signing_secrets,
            is_draining=lambda: self.is_draining,
            timing=self.timing,
            is_traced=self._tracer is not None,
        )


def _format_problem(problem: Problem, folder: Path) -> str:
    """Formats a problem without the configuration folder's path, which /readyz must not publish."""
    file = problem.location.file.removeprefix(str(folder)).lstrip("/") or folder.name
    return str(replace(problem, location=replace(problem.location, file=file)))
