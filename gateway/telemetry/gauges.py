"""Values that nobody tells of: they are looked up when somebody asks for metrics."""

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily

from gateway.catalogue import Catalogue
from gateway.engine.engine import Engine
from gateway.upstream.health import Where

CELL_LABELS = ("seller", "model", "operation", "resolution", "quality")


def gauges(engine: Engine, current: Callable[[], Catalogue]) -> Iterator[GaugeMetricFamily]:
    catalogue = current()
    yield GaugeMetricFamily("igw_jobs_in_flight", "Jobs that this process works on.", value=len(engine.owners))
    orders = GaugeMetricFamily("igw_account_orders", "Orders in progress at an account.", labels=["account"])
    for name in catalogue.accounts:
        orders.add_metric([name], engine.hands.limits.in_progress(name))
    yield orders
    yield _health(engine, catalogue)


def _health(engine: Engine, catalogue: Catalogue) -> GaugeMetricFamily:
    healthy = GaugeMetricFamily("igw_cell_healthy", "1 if orders may be placed there.", labels=list(CELL_LABELS))
    now = engine.hands.clock()
    for offer in catalogue.all_offers():
        for cell in offer.prices:
            where = Where(offer.seller.name, offer.seller.account.name, offer.model, cell)
            names = [offer.seller.name, offer.model, cell.operation, cell.resolution, cell.quality]
            healthy.add_metric(names, float(engine.hands.health.known(where, now).healthy))
    return healthy
