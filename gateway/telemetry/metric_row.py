"""One row of the table of metrics."""

from enum import StrEnum
from itertools import product

from msgspec import Struct

CELL_LABELS = ("seller", "model", "operation", "resolution", "quality")
# Waiting mostly takes milliseconds.
WAIT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
# For a slot, for a ticket, for storage and for an answer, which all take less time than an image.
STEP_BUCKETS = (*WAIT_BUCKETS, 2, 5, 10, 30, 60, 120)


class MetricKind(StrEnum):
    """Type of a metric. A gauge is read when it is scraped, the others count events."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class MetricRow(Struct, frozen=True, eq=False):
    """One metric. `buckets`: of a histogram. `is_from_store`: it is read from the store, and all replicas have the same
    values. `initial_values`: for each label its values, if all series exist with the value 0 before the first event. So
    alerts see the first event at once; a series that begins with an event is exported as 0 for a minute before."""

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    initial_values: tuple[tuple[str, ...], ...] = ()
    is_from_store: bool = False

    @property
    def initial_label_sets(self) -> list[tuple[str, ...]]:
        """The label values of the series that exist before the first event."""
        return list(product(*self.initial_values)) if self.initial_values or not self.labels else []
