"""The metrics of canaries, as a part of the table of all metrics."""

from gateway.telemetry.metric_row import MetricKind, MetricRow

CANARY_DELIVERED = MetricRow(
    "igw_canary_delivered_ratio",
    MetricKind.GAUGE,
    "Share of its `until` images that the canary of a policy has delivered, at most 1. Of all replicas, by the ledger.",
    ("policy", "seller"),
)
CANARY_PASSED = MetricRow(
    "igw_canary_passed",
    MetricKind.GAUGE,
    "1 once the canary of a policy has delivered its images, and charged them as configured, else 0. It is then ranked "
    "like the other sellers, in each cell where it is healthy, and at least 5 recent deliveries were as ordered.",
    ("policy", "seller"),
)
CANARIES = (CANARY_DELIVERED, CANARY_PASSED)
