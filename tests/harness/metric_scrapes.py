"""Scrapes metrics, and adds them up over replicas as dashboards do."""

from collections.abc import Iterable, Mapping

from prometheus_client.parser import text_string_to_metric_families

from tests.harness.gateway_process import GatewayProcess

# A sample's name and its labels, sorted.
SeriesKey = tuple[str, tuple[tuple[str, str], ...]]
Scrape = Mapping[SeriesKey, float]


def scrape(gateway: GatewayProcess) -> Scrape:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(gateway.get("/metrics").text)
        for sample in family.samples
    }


def take_maximum(scrapes: Iterable[Scrape]) -> Scrape:
    """Returns `max without (instance)` of each series."""
    highest: dict[SeriesKey, float] = {}
    for found in scrapes:
        for key, value in found.items():
            highest[key] = max(value, highest.get(key, value))
    return highest


def sum_series(found: Scrape, name: str, **labels: str) -> float:
    """Returns the sum of a metric over the series with these labels."""
    return sum(
        value for (metric, pairs), value in found.items() if metric == name and labels.items() <= dict(pairs).items()
    )
