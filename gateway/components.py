"""Constructs the components of a gateway and connects them.

Everything that reaches outside the process comes from `Factories`. Tests replace them, and so build a whole gateway in
memory, in virtual time and with seeded random numbers.
"""

import os
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial
from operator import attrgetter

from msgspec import Struct

from gateway.access.budget_administration import BudgetAdministration
from gateway.access.budget_threshold_announcer import BudgetThresholdAnnouncer
from gateway.access.key_administration import KeyAdministration
from gateway.access.key_registry import Clocks, KeyRegistry
from gateway.access.key_tokens import TokenDigester
from gateway.access.rate_limiter import RateLimiter
from gateway.access.webhook_administration import WebhookAdministration
from gateway.api.api_context import ApiContext
from gateway.api.base64_encoder import Base64Encoder
from gateway.api.batches.batch_scheduler import BatchScheduler
from gateway.api.jobs import load_job_body
from gateway.api.refused_requests_awaiting_retry import RefusedRequestsAwaitingRetry
from gateway.assets.signed_urls import UrlSigner
from gateway.assets.storage import ImageStorage
from gateway.assets.thumbnails import ThumbnailMaker
from gateway.catalogue import Catalogue, CatalogueInForce
from gateway.config.retention_schema import TeamRetentionConfig
from gateway.config.schema import GatewayFile
from gateway.engine.callback_handler import CallbackHandler
from gateway.engine.callback_urls import CallbackUrls
from gateway.engine.engine import Engine
from gateway.engine.engine_context import EngineContext
from gateway.engine.moderation_client import ModerationClient
from gateway.events import EventSink
from gateway.health.account_limiters import AccountLimiters
from gateway.health.health_tracker import HealthTracker
from gateway.health.retry_budget import RetryBudget
from gateway.settings import Settings
from gateway.store.base import DAY_SECONDS, Retention, Store
from gateway.store.job_watch import JobWatchers
from gateway.store.redis import RedisStore
from gateway.store.sqlite import SqliteStore
from gateway.store.team_retention import make_expired_decision_records, make_expired_ledger_entries
from gateway.task_supervisor import TaskSupervisor
from gateway.telemetry.spans import DropCounter
from gateway.telemetry.tracing import Tracer, make_tracer
from gateway.timeouts_and_intervals import MaintenanceTiming, StoreTiming, Timing
from gateway.upstream.input_fetcher import InputFetcher
from gateway.upstream.seller_client import SellerClient
from gateway.upstream.transport_pool import TransportPool, TransportPoolProtocol
from gateway.upstream.webhook_client import WebhookClient
from gateway.webhooks.stored_targets import StoredTargets
from gateway.webhooks.webhook_attempt import WebhookContext
from gateway.webhooks.webhook_sender import WebhookSender

MONTH_SECONDS = 31 * DAY_SECONDS
Clock = Callable[[], float]


class StoreOptions(Struct, frozen=True, kw_only=True):
    """The arguments of `make_store`."""

    settings: Settings
    config: GatewayFile
    wall_clock: Clock
    supervisor: TaskSupervisor
    timing: StoreTiming = StoreTiming()


def make_store(options: StoreOptions) -> Store:
    """Makes the store that the settings select: Redis with a URL, otherwise SQLite."""
    lease_seconds, config = options.config.jobs.lease_seconds, options.config.retention
    retention = Retention(
        decisions=config.decisions_days * DAY_SECONDS,
        ledger=config.ledger_days * DAY_SECONDS,
        totals=config.totals_months * MONTH_SECONDS,
        admin_events=config.admin_events_days * DAY_SECONDS,
    )
    if options.settings.redis_url:
        return RedisStore(
            options.settings.redis_url,
            lease=lease_seconds,
            retention=retention,
            durability=options.config.store.durability,
            wait_replicas=options.config.store.wait_replicas,
            supervisor=options.supervisor,
            timing=options.timing,
        )
    return SqliteStore(
        options.settings.database,
        lease=lease_seconds,
        retention=retention,
        clock=options.wall_clock,
        supervisor=options.supervisor,
        timing=options.timing,
    )


def make_seller_client(timing: Timing) -> SellerClient:
    return SellerClient(TransportPool(timing=timing.connections))


def make_moderation_client(transport_pool: TransportPoolProtocol, system_clock: Clock) -> ModerationClient:
    return ModerationClient(WebhookClient(transport_pool), system_clock)


class Factories(Struct, frozen=True, kw_only=True):
    """Makes what reaches outside the process, and supplies time and random values. The defaults are the product's."""

    make_store: Callable[[StoreOptions], Store] = make_store
    make_storage: Callable[[str, MaintenanceTiming], ImageStorage] = ImageStorage
    make_seller_client: Callable[[Timing], SellerClient] = make_seller_client
    make_webhook_client: Callable[[TransportPoolProtocol], WebhookClient] = WebhookClient
    make_moderation_client: Callable[[TransportPoolProtocol, Clock], ModerationClient] = make_moderation_client
    system_clock: Clock = time.time
    monotonic: Clock = time.monotonic
    draw_random: Callable[[], float] = random.random
    draw_bytes: Callable[[int], bytes] = secrets.token_bytes
    make_tracer: Callable[[str, Callable[[str], None], DropCounter], Tracer | None] = partial(make_tracer, os.environ)


class Environment(Struct, frozen=True, kw_only=True):
    """The clock, configuration and tasks that all components of one process share.

    `wall_clock` never jumps; `base_url`: of the URLs of images; `callback_url`: at which sellers reach the gateway, if
    they can; `is_traced`: traces are exported.
    """

    factories: Factories
    wall_clock: Clock
    store: Store
    storage: ImageStorage
    seller_client: SellerClient
    catalogue: CatalogueInForce
    emit: EventSink
    lease_seconds: float
    base_url: str
    callback_url: str | None
    signing_secrets: tuple[bytes, ...]
    is_draining: Callable[[], bool]
    timing: Timing
    is_traced: bool = False


class Components(Struct, frozen=True):
    """The components that serve requests, callbacks, jobs, batches and webhooks."""

    engine: Engine
    api_context: ApiContext
    callback_handler: CallbackHandler
    batch_scheduler: BatchScheduler
    webhook_sender: WebhookSender
    threshold_announcer: BudgetThresholdAnnouncer

    async def load_access(self) -> None:
        """Loads the API keys and the targets of webhooks, before the first request."""
        await self.api_context.key_registry.refresh()
        await self.api_context.stored_targets.refresh()


def build_components(environment: Environment) -> Components:
    catalogue, factories = environment.catalogue, environment.factories
    stored_targets = StoredTargets(environment.store, catalogue, factories.system_clock, environment.emit)
    engine = Engine(_make_engine_context(environment), environment.lease_seconds)
    api_context = _make_api_context(environment, engine, stored_targets)
    batch_scheduler = BatchScheduler(api_context, environment.lease_seconds)
    webhook_sender = WebhookSender(_make_webhook_context(environment, api_context))
    components = Components(
        engine=engine,
        api_context=api_context,
        callback_handler=CallbackHandler(engine),
        batch_scheduler=batch_scheduler,
        webhook_sender=webhook_sender,
        threshold_announcer=BudgetThresholdAnnouncer(
            api_context.budget_administration, environment.factories.monotonic
        ),
    )
    configure_accounts(components, catalogue.get())
    return components


def configure_accounts(components: Components, catalogue: Catalogue) -> None:
    """Applies the accounts of a configuration: their order limits. Closes the circuit breakers of accounts that have
    another key, base URL or proxy than before."""
    context, share = components.engine.context, catalogue.gateway.batches.share
    context.limits.configure({name: account.limits for name, account in catalogue.accounts.items()}, share)
    context.health.believes_charged_prices = catalogue.gateway.routing.believe_charged_prices
    context.health.configure(catalogue.accounts, context.wall_clock())


def list_administration_tasks(
    components: Components, catalogue: Callable[[], Catalogue], timing: MaintenanceTiming
) -> dict[str, tuple[float, Callable[[], Awaitable[None]]]]:
    """Lists what API keys, budgets, decision records and targets of webhooks need from time to time, by the names of
    tasks, with their intervals."""
    context = components.api_context

    async def delete_old_keys() -> None:
        retention_seconds = catalogue().gateway.retention.admin_events_days * DAY_SECONDS
        await context.key_administration.delete_old_keys(retention_seconds)

    def list_team_retentions(get_days: Callable[[TeamRetentionConfig], float | None]) -> dict[str, float]:
        days_by_team = {name: get_days(team.retention) for name, team in catalogue().teams.items()}
        return {name: days * DAY_SECONDS for name, days in days_by_team.items() if days is not None}

    store, wall_clock = components.engine.context.store, components.engine.context.wall_clock
    decision_records = make_expired_decision_records(
        store, partial(list_team_retentions, attrgetter("decisions_days")), wall_clock
    )
    ledger_entries = make_expired_ledger_entries(
        store, partial(list_team_retentions, attrgetter("ledger_days")), wall_clock
    )
    return {
        "access.delete_old_keys": (timing.cleanup_interval_seconds, delete_old_keys),
        "decisions.delete_old_records": (timing.cleanup_interval_seconds, decision_records.delete),
        "ledger.delete_old_entries": (timing.cleanup_interval_seconds, ledger_entries.delete),
        "webhooks.refresh_targets": (timing.key_refresh_interval_seconds, context.stored_targets.refresh),
        "budgets.expire_overrides": (
            timing.override_check_interval_seconds,
            context.budget_administration.expire_overrides,
        ),
        "budgets.announce_thresholds": (timing.threshold_check_interval_seconds, components.threshold_announcer.check),
    }


def _make_engine_context(environment: Environment) -> EngineContext:
    factories, callback_url = environment.factories, environment.callback_url
    health_timing = environment.timing.health
    return EngineContext(
        store=environment.store,
        seller_client=environment.seller_client,
        storage=environment.storage,
        moderation_client=factories.make_moderation_client(
            environment.seller_client.transport_pool, factories.system_clock
        ),
        health=HealthTracker(environment.store.replica_id, health_timing),
        limits=AccountLimiters(factories.monotonic, timing=health_timing),
        retry_budget=RetryBudget(health_timing),
        catalogue=environment.catalogue.get,
        callback_urls=CallbackUrls(callback_url, environment.signing_secrets) if callback_url else None,
        job_watchers=JobWatchers(),
        emit=environment.emit,
        wall_clock=environment.wall_clock,
        monotonic=factories.monotonic,
        draw_random=factories.draw_random,
        draw_bytes=factories.draw_bytes,
        timing=environment.timing,
        is_traced=environment.is_traced,
    )


def _make_webhook_context(environment: Environment, api_context: ApiContext) -> WebhookContext:
    factories = environment.factories
    return WebhookContext(
        store=environment.store,
        client=factories.make_webhook_client(environment.seller_client.transport_pool),
        catalogue=environment.catalogue.get,
        emit=environment.emit,
        # Receivers compare the time of a signature with their own clock.
        wall_clock=factories.system_clock,
        draw_random=factories.draw_random,
        timing=environment.timing.webhooks,
        refresh_targets=api_context.stored_targets.refresh,
        load_job_body=partial(load_job_body, api_context),
    )


def _make_api_context(environment: Environment, engine: Engine, stored_targets: StoredTargets) -> ApiContext:
    factories, api_keys = environment.factories, environment.store.api_keys
    digester = TokenDigester(environment.signing_secrets)
    open_jobs = engine.context.open_jobs
    clocks = Clocks(wall_clock=factories.system_clock, monotonic=factories.monotonic)
    key_registry = KeyRegistry(api_keys, digester, clocks, factories.draw_bytes, environment.timing.maintenance)
    key_administration = KeyAdministration(
        api_keys, digester, environment.catalogue.get, factories.system_clock, factories.draw_bytes
    )

    def count_open_jobs(owner: str) -> int:
        successors = key_registry.list_successors(owner.removeprefix("key:")) if owner.startswith("key:") else ()
        return open_jobs.count(owner) + sum(open_jobs.count(f"key:{key_id}") for key_id in successors)

    return ApiContext(
        engine=engine,
        store=environment.store,
        storage=environment.storage,
        input_fetcher=InputFetcher(environment.seller_client.transport_pool, environment.timing.inputs),
        url_signer=UrlSigner(environment.signing_secrets, environment.base_url),
        base64_encoder=Base64Encoder(),
        refused=RefusedRequestsAwaitingRetry(factories.system_clock),
        thumbnail_maker=ThumbnailMaker(environment.storage),
        key_registry=key_registry,
        key_administration=key_administration,
        budget_administration=BudgetAdministration(
            store=environment.store,
            keys=key_administration,
            catalogue=environment.catalogue.get,
            wall_clock=factories.system_clock,
            draw_bytes=factories.draw_bytes,
            emit=environment.emit,
            timing=environment.timing.maintenance,
        ),
        webhook_administration=WebhookAdministration(
            store=environment.store,
            keys=key_administration,
            catalogue=environment.catalogue.get,
            wall_clock=factories.system_clock,
            draw_bytes=factories.draw_bytes,
            emit=environment.emit,
        ),
        stored_targets=stored_targets,
        rate_limiter=RateLimiter(count_open_jobs, environment.wall_clock),
        catalogue=environment.catalogue.get,
        wall_clock=factories.system_clock,
        draw_random=factories.draw_random,
        is_draining=environment.is_draining,
    )
