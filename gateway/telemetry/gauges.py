"""Gauges that are read from the memory of this process when `/metrics` is scraped. No event carries their values."""

from collections.abc import Callable, Iterator, Mapping

from gateway.catalogue import Catalogue
from gateway.engine.engine import Engine
from gateway.health.health_tracker import HealthKey
from gateway.task_supervisor import TaskSupervisor
from gateway.telemetry import metric_table as table
from gateway.telemetry.metric_families import Samples
from gateway.telemetry.metric_table import MetricRow

Sample = tuple[tuple[str, ...], float]


class GaugeReader:
    """Reads the gauges of one process. `readers`: for each gauge the function that returns its series."""

    def __init__(self, engine: Engine, get_catalogue: Callable[[], Catalogue], supervisor: TaskSupervisor) -> None:
        self._engine, self._context = engine, engine.context
        self._get_catalogue, self._supervisor = get_catalogue, supervisor
        self.readers: Mapping[MetricRow, Callable[[], Samples]] = {
            table.JOBS_IN_FLIGHT: lambda: [((), len(engine.workers))],
            table.ACCOUNT_ORDERS: lambda: self._read_accounts(self._context.limits.count_in_flight),
            table.ACCOUNT_BREAKER_STATE: lambda: self._read_accounts(self._get_account_state),
            table.CELL_BREAKER_STATE: self._read_cell_states,
            table.CELL_CONFORMANCE: self._read_conformance,
            table.TASK_UP: self._read_tasks,
        }

    def _read_accounts(self, read_account: Callable[[str], float]) -> Samples:
        return [((account,), read_account(account)) for account in self._get_catalogue().accounts]

    def _get_account_state(self, account: str) -> float:
        return self._context.health.get_account_breaker_state(account, self._context.wall_clock())

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

    def _iterate_cells(self) -> Iterator[tuple[tuple[str, ...], HealthKey]]:
        """Yields the label values and the health key of each cell that is sold."""
        for offer in self._get_catalogue().iter_offers():
            for cell in offer.prices:
                labels = offer.seller.name, offer.model, cell.operation, cell.resolution, cell.quality
                yield labels, HealthKey(offer.seller.name, offer.seller.account.name, offer.model, cell)

    def _read_tasks(self) -> Samples:
        failing = self._supervisor.get_failures()
        return [((name,), float(name not in failing)) for name in self._supervisor.task_names]
