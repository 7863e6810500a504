"""Values that nobody tells of: they are looked up when somebody asks for metrics."""

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily

from gateway.catalogue import Catalogue
from gateway.engine.engine import Engine
from gateway.supervision import Supervisor
from gateway.upstream.health import Where

CELL_LABELS = ("seller", "model", "operation", "resolution", "quality")
# Name: what it says, and its labels.
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "igw_jobs_in_flight": ("Jobs that this process works on.", ()),
    "igw_account_orders": ("Orders in progress at an account.", ("account",)),
    "igw_cell_healthy": ("1 if orders may be placed there.", CELL_LABELS),
    "igw_cell_conformance": ("Share of the last deliveries that were as ordered, where enough are known.", CELL_LABELS),
    "igw_task_up": ("1 if a long-lived task works, 0 while it is down and being started again.", ("task",)),
}


def gauges(engine: Engine, current: Callable[[], Catalogue], supervisor: Supervisor) -> Iterator[GaugeMetricFamily]:
    catalogue = current()
    jobs = _gauge("igw_jobs_in_flight")
    jobs.add_metric([], len(engine.owners))
    yield jobs
    orders = _gauge("igw_account_orders")
    for name in catalogue.accounts:
        orders.add_metric([name], engine.hands.limits.in_progress(name))
    yield orders
    yield from _cells(engine, catalogue)
    yield _tasks(supervisor)


def _gauge(name: str) -> GaugeMetricFamily:
    words, labels = GAUGES[name]
    return GaugeMetricFamily(name, words, labels=labels)


def _cells(engine: Engine, catalogue: Catalogue) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
    healthy, conformance = _gauge("igw_cell_healthy"), _gauge("igw_cell_conformance")
    now = engine.hands.clock()
    for offer in catalogue.all_offers():
        for cell in offer.prices:
            where = Where(offer.seller.name, offer.seller.account.name, offer.model, cell)
            names = [offer.seller.name, offer.model, cell.operation, cell.resolution, cell.quality]
            known = engine.hands.health.known(where, now)
            healthy.add_metric(names, float(known.healthy))
            if known.conformance is not None:
                conformance.add_metric(names, known.conformance)
    return healthy, conformance


def _tasks(supervisor: Supervisor) -> GaugeMetricFamily:
    up, failing = _gauge("igw_task_up"), supervisor.failing()
    for name in supervisor.names:
        up.add_metric([name], float(name not in failing))
    return up
