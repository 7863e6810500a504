"""Gauges: values that no event carries. They are read from the engine when `/metrics` is scraped."""

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily

from gateway.catalogue import Catalogue
from gateway.engine.engine import Engine
from gateway.health.health_tracker import HealthKey
from gateway.task_supervisor import TaskSupervisor

CELL_LABELS = ("seller", "model", "operation", "resolution", "quality")
# Metric name: (help text, label names).
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "igw_jobs_in_flight": ("Jobs that this process is working on.", ()),
    "igw_account_orders_in_flight": ("Orders in flight at an account.", ("account",)),
    "igw_cell_healthy": ("1 if the circuit breaker allows orders for this cell, else 0.", CELL_LABELS),
    "igw_cell_conformance": (
        "Share of the recent deliveries that matched their order; absent while there are too few.",
        CELL_LABELS,
    ),
    "igw_task_up": ("1 while a supervised task works, 0 while it is down and being restarted.", ("task",)),
}


def collect_gauges(
    engine: Engine, get_catalogue: Callable[[], Catalogue], supervisor: TaskSupervisor
) -> Iterator[GaugeMetricFamily]:
    catalogue = get_catalogue()
    jobs = _make_gauge("igw_jobs_in_flight")
    jobs.add_metric([], len(engine.workers))
    yield jobs
    orders = _make_gauge("igw_account_orders_in_flight")
    for account in catalogue.accounts:
        orders.add_metric([account], engine.context.limits.count_in_flight(account))
    yield orders
    yield from _collect_cell_gauges(engine, catalogue)
    yield _collect_task_gauge(supervisor)


def _make_gauge(name: str) -> GaugeMetricFamily:
    description, labels = GAUGES[name]
    return GaugeMetricFamily(name, description, labels=labels)


def _collect_cell_gauges(engine: Engine, catalogue: Catalogue) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
    healthy, conformance = _make_gauge("igw_cell_healthy"), _make_gauge("igw_cell_conformance")
    now = engine.context.wall_clock()
    for offer in catalogue.iter_offers():
        for cell in offer.prices:
            health_key = HealthKey(offer.seller.name, offer.seller.account.name, offer.model, cell)
            label_values = [offer.seller.name, offer.model, cell.operation, cell.resolution, cell.quality]
            signals = engine.context.health.get_signals(health_key, now)
            healthy.add_metric(label_values, float(signals.healthy))
            if signals.conformance is not None:
                conformance.add_metric(label_values, signals.conformance)
    return healthy, conformance


def _collect_task_gauge(supervisor: TaskSupervisor) -> GaugeMetricFamily:
    up, failing = _make_gauge("igw_task_up"), supervisor.get_failures()
    for name in supervisor.task_names:
        up.add_metric([name], float(name not in failing))
    return up
