"""Gauges that are read from the memory of this process when `/metrics` is scraped. No event carries their values."""

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version

from msgspec import Struct

from gateway.api.batches.batch_scheduler import BatchLoad
from gateway.catalogue import Catalogue, Offer
from gateway.config.policy_schema import CanaryConfig
from gateway.engine.account_checker import get_recent_balance
from gateway.engine.engine import Engine
from gateway.health.account_check import FAULTS_BY_REFUSAL
from gateway.health.health_tracker import HealthKey
from gateway.memory_budget import MemoryBudget
from gateway.money import MICROS_PER_USD
from gateway.routing.canary import NO_PROGRESS, CanaryProgress, count_delivered_share, has_delivered
from gateway.task_supervisor import TaskSupervisor
from gateway.telemetry import account_metric_table as account_table
from gateway.telemetry import canary_metric_table as canary_table
from gateway.telemetry import metric_table as table
from gateway.telemetry.metric_families import Samples
from gateway.telemetry.metric_row import MetricRow
from gateway.telemetry.webhook_metric_table import WEBHOOK_LAG
from providers.orders import Cell

Sample = tuple[tuple[str, ...], float]
VERSION = version("image-gateway")


class GaugeSources(Struct, frozen=True, kw_only=True):
    """What gauges are read from. `memory_budgets`: by the name of each; `get_config_applied_at`: in Unix seconds."""

    engine: Engine
    get_catalogue: Callable[[], Catalogue]
    supervisor: TaskSupervisor
    memory_budgets: Mapping[str, MemoryBudget]
    disk_budget: MemoryBudget
    get_config_applied_at: Callable[[], float]
    was_reload_applied: Callable[[], bool]
    get_batch_load: Callable[[], BatchLoad]
    get_webhook_lag: Callable[[], float]


class GaugeReader:
    """Reads the gauges of one process. `readers`: for each gauge the function that returns its series."""

    def __init__(self, sources: GaugeSources) -> None:
        self._sources, self._context = sources, sources.engine.context
        context, disk_budget = self._context, sources.disk_budget
        self.readers: Mapping[MetricRow, Callable[[], Samples]] = {
            table.JOBS_IN_FLIGHT: lambda: [((), len(sources.engine.workers))],
            table.BATCHES_RUNNING: lambda: [((), sources.get_batch_load().running)],
            table.BATCHES_WAITING: lambda: [((), sources.get_batch_load().waiting)],
            table.BATCH_LINES_LEFT: lambda: [((), sources.get_batch_load().lines_left)],
            WEBHOOK_LAG: lambda: [((), sources.get_webhook_lag())],
            table.ACCOUNT_ORDERS: lambda: self._read_accounts(context.limits.count_in_flight),
            table.ACCOUNT_WAITING: lambda: self._read_accounts(context.limits.count_waiting),
            table.ACCOUNT_LIMIT: lambda: self._read_accounts(context.limits.get_limit),
            table.ACCOUNT_LOAD: lambda: self._read_accounts(context.limits.get_load),
            table.ACCOUNT_BREAKER_STATE: lambda: self._read_accounts(self._get_account_state),
            account_table.ACCOUNT_REFUSED: self._read_refusals,
            account_table.ACCOUNT_BALANCE: lambda: self._read_accounts(self._get_balance),
            account_table.ACCOUNT_LOW_BALANCE: lambda: self._read_accounts(self._get_low_balance),
            table.CELL_BREAKER_STATE: self._read_cell_states,
            table.CELL_CONFORMANCE: self._read_conformance,
            canary_table.CANARY_DELIVERED: lambda: self._read_canaries(count_delivered_share),
            canary_table.CANARY_PASSED: lambda: self._read_canaries(has_delivered),
            table.EXPECTED_ORDER_DURATION: self._read_expected_durations,
            table.RETRIES_AVAILABLE: lambda: [((), context.retry_budget.count_available(context.monotonic()))],
            table.TASK_UP: self._read_tasks,
            table.MEMORY_USED: lambda: self._read_budgets(lambda budget: budget.reserved_bytes),
            table.MEMORY_LIMIT: lambda: self._read_budgets(lambda budget: budget.max_bytes),
            table.STORE_TAKES_WRITES: lambda: [((), float(sources.engine.can_write))],
            table.STORAGE_TAKES_IMAGES: lambda: [((), float(context.storage.problem is None))],
            table.UPLOADS_USED: lambda: [((), disk_budget.reserved_bytes)],
            table.UPLOADS_LIMIT: lambda: [((), disk_budget.max_bytes)],
            table.CONFIG_LAST_RELOAD: lambda: [((), float(sources.was_reload_applied()))],
            table.CONFIG_INFO: lambda: [((sources.get_catalogue().hash,), 1)],
            table.CONFIG_APPLIED_AT: lambda: [((), sources.get_config_applied_at())],
            table.BUILD_INFO: lambda: [((VERSION,), 1)],
        }

    def _read_accounts(self, read_account: Callable[[str], float | None]) -> Iterator[Sample]:
        """Yields the value of each account that has one."""
        for account in self._sources.get_catalogue().accounts:
            if (value := read_account(account)) is not None:
                yield (account,), value

    def _get_account_state(self, account: str) -> float:
        return self._context.health.get_account_breaker_state(account, self._context.wall_clock())

    def _read_refusals(self) -> Iterator[Sample]:
        for account in self._sources.get_catalogue().accounts:
            current = self._context.health.get_account_refusal(account, self._context.wall_clock())
            for refusal, fault in FAULTS_BY_REFUSAL.items():
                yield (account, fault), float(refusal is current)

    def _get_balance(self, account: str) -> float | None:
        balance = get_recent_balance(self._context, account)
        return None if balance is None else balance / MICROS_PER_USD

    def _get_low_balance(self, account: str) -> float | None:
        low_balance = self._sources.get_catalogue().accounts[account].low_balance
        return None if low_balance is None else low_balance / MICROS_PER_USD

    def _read_cell_states(self) -> Iterator[Sample]:
        now = self._context.wall_clock()
        for labels, health_key in self._iterate_cells():
            yield labels, self._context.health.get_cell_breaker_state(health_key, now)

    def _read_conformance(self) -> Iterator[Sample]:
        now = self._context.wall_clock()
        for labels, health_key in self._iterate_cells():
            conformance = self._context.health.get_signals(health_key, now).conformance
            if conformance is not None:
                yield labels, conformance

    def _read_canaries(self, read_canary: Callable[[CanaryConfig, CanaryProgress], float]) -> Iterator[Sample]:
        progress = self._context.canaries.progress
        for name, policy in self._sources.get_catalogue().policies.policies.items():
            if canary := policy.canary:
                yield (name, canary.seller), float(read_canary(canary, progress.get(canary.seller, NO_PROGRESS)))

    def _read_expected_durations(self) -> Iterator[Sample]:
        for offer in self._sources.get_catalogue().iter_offers():
            for quality in sorted({cell.quality for cell in offer.prices}):
                yield (offer.seller.name, offer.model, quality), offer.expected_latency[quality].p90

    def _iterate_cells(self) -> Iterator[tuple[tuple[str, ...], HealthKey]]:
        """Yields the label values and the health key of each cell that is sold."""
        for labels, offer, cell in self._iterate_offers():
            yield labels, HealthKey(offer.seller.name, offer.seller.account.name, offer.model, cell)

    def _iterate_offers(self) -> Iterator[tuple[tuple[str, ...], Offer, Cell]]:
        """Yields the label values, the offer and the cell of each cell that is sold."""
        for offer in self._sources.get_catalogue().iter_offers():
            for cell in offer.prices:
                yield (offer.seller.name, offer.model, cell.operation, cell.resolution, cell.quality), offer, cell

    def _read_tasks(self) -> Samples:
        failing = self._sources.supervisor.get_failures()
        return [((name,), float(name not in failing)) for name in self._sources.supervisor.task_names]

    def _read_budgets(self, read_budget: Callable[[MemoryBudget], float]) -> Samples:
        return [((name,), read_budget(budget)) for name, budget in self._sources.memory_budgets.items()]
