"""The metrics that are read from the store, as a part of the table of all metrics."""

from gateway.telemetry.metric_row import CELL_LABELS, MetricKind, MetricRow

# Money by team and by cell is two metrics: their product would have thousands of series.
TEAM_LABELS = ("team", "seller", "model")
BUDGET_LABELS = ("team", "window")


def _stored_counter(name: str, description: str, labels: tuple[str, ...]) -> MetricRow:
    return MetricRow(name, MetricKind.COUNTER, description, labels, is_from_store=True)


def _stored_gauge(name: str, description: str, labels: tuple[str, ...] = ()) -> MetricRow:
    return MetricRow(name, MetricKind.GAUGE, description, labels, is_from_store=True)


_LINES = (
    "by line of the ledger: `capture` (delivered images, which teams pay), `orphan` (charged, not delivered), "
    "`suspected` (perhaps charged), `excess` (charged beyond the hold)."
)
_CORRECTIONS = "that were booked back, since it turned out that they were not charged."
SPEND = _stored_counter("igw_spend_usd_total", f"Money booked by team, {_LINES}", (*TEAM_LABELS, "line"))
SPEND_CORRECTIONS = _stored_counter(
    "igw_spend_corrections_usd_total", f"Amounts of igw_spend_usd_total {_CORRECTIONS}", (*TEAM_LABELS, "line")
)
IMAGES_DELIVERED = _stored_counter("igw_images_delivered_total", "Images delivered and paid for, by team.", TEAM_LABELS)
CELL_SPEND = _stored_counter(
    "igw_cell_spend_usd_total", "The same money as igw_spend_usd_total, by cell.", (*CELL_LABELS, "line")
)
CELL_SPEND_CORRECTIONS = _stored_counter(
    "igw_cell_spend_corrections_usd_total",
    f"Amounts of igw_cell_spend_usd_total {_CORRECTIONS}",
    (*CELL_LABELS, "line"),
)
CELL_IMAGES_DELIVERED = _stored_counter(
    "igw_cell_images_delivered_total", "Images delivered and paid for, by cell.", CELL_LABELS
)
HOLDS = _stored_gauge("igw_holds_usd", "Money held for jobs that are not settled.", ("team",))
BUDGET_LIMIT = _stored_gauge("igw_budget_limit_usd", "Budget of a team in this window (UTC).", BUDGET_LABELS)
BUDGET_SPENT = _stored_gauge("igw_budget_spent_usd", "Part of a budget that was spent.", BUDGET_LABELS)
BUDGET_LEFT = _stored_gauge(
    "igw_budget_left_usd", "Part of a budget that is neither spent nor held: for new jobs.", BUDGET_LABELS
)
BUDGET_THRESHOLDS = MetricRow(
    "igw_budget_thresholds_reached_total",
    MetricKind.COUNTER,
    "Soft thresholds that budgets reached, in percent; `owner`: the budget of the team or of an API key. Counted once "
    "for each budget and window, by the replica that announces it.",
    ("team", "owner", "window", "threshold"),
)
OPEN_JOBS = _stored_gauge(
    "igw_open_jobs",
    "Jobs in the store: `queued`, `in_progress`, or `ended` (the team has the result, a charge is still unknown).",
    ("state",),
)
OLDEST_OPEN_JOB = _stored_gauge("igw_oldest_open_job_age_seconds", "Age of the oldest job of igw_open_jobs, else 0.")
DUE_LAG = _stored_gauge(
    "igw_due_lag_seconds", "For how long a job waits for any replica to continue it: about a second at most."
)
REPLICA_HEARTBEAT = _stored_gauge(
    "igw_replica_heartbeat_age_seconds",
    "Time since the last heartbeat of each replica. One that stops leaves; one that is killed does so a quarter of an "
    "hour later.",
    ("replica",),
)
STORE_READING_AGE = MetricRow(
    "igw_store_reading_age_seconds",
    MetricKind.GAUGE,
    "Time since this process last read the store for these metrics. After 30 seconds they are absent, not wrong.",
)
# Money, corrections and images: by team and by cell.
BOOKED_BY_TEAM = SPEND, SPEND_CORRECTIONS, IMAGES_DELIVERED
BOOKED_BY_CELL = CELL_SPEND, CELL_SPEND_CORRECTIONS, CELL_IMAGES_DELIVERED
MONEY = (*BOOKED_BY_TEAM, *BOOKED_BY_CELL, HOLDS, BUDGET_LIMIT, BUDGET_SPENT, BUDGET_LEFT, BUDGET_THRESHOLDS)
STORE_AND_REPLICAS = (OPEN_JOBS, OLDEST_OPEN_JOB, DUE_LAG, REPLICA_HEARTBEAT, STORE_READING_AGE)
