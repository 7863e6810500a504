"""The metrics of webhooks and moderation hooks, as a part of the table of all metrics."""

from gateway.telemetry.metric_row import STEP_BUCKETS, MetricKind, MetricRow

# Retries of a webhook take up to two and a half days.
DELIVERY_BUCKETS = (0.5, 1, 2.5, 5, 10, 60, 600, 7_200, 86_400)

WEBHOOK_ATTEMPTS = MetricRow(
    "igw_webhook_attempts_total",
    MetricKind.COUNTER,
    "Attempts to send a webhook, by outcome: `delivered`, or why it failed. Most failures are repeated.",
    ("team", "outcome"),
)
WEBHOOKS_ENDED = MetricRow(
    "igw_webhooks_ended_total",
    MetricKind.COUNTER,
    "Webhooks that ended: `delivered`, or `failed` after the last attempt.",
    ("team", "outcome"),
)
WEBHOOK_ATTEMPT_DURATION = MetricRow(
    "igw_webhook_attempt_duration_seconds",
    MetricKind.HISTOGRAM,
    "Time of an attempt to send a webhook.",
    buckets=STEP_BUCKETS,
)
WEBHOOK_DELIVERY_DURATION = MetricRow(
    "igw_webhook_delivery_duration_seconds",
    MetricKind.HISTOGRAM,
    "Time from the end of a job until its webhook is delivered.",
    buckets=DELIVERY_BUCKETS,
)
WEBHOOK_LAG = MetricRow(
    "igw_webhook_lag_seconds",
    MetricKind.GAUGE,
    "For how long the most overdue webhook has waited for its attempt. Each process sees the same: use max, not sum.",
)
WEBHOOKS = (WEBHOOK_ATTEMPTS, WEBHOOKS_ENDED, WEBHOOK_ATTEMPT_DURATION, WEBHOOK_DELIVERY_DURATION, WEBHOOK_LAG)

MODERATION_ANSWERS = MetricRow(
    "igw_moderation_answers_total",
    MetricKind.COUNTER,
    "Questions to moderation hooks, by hook (`before`, `after`) and outcome: `allowed`, `refused`, or why there was no "
    "valid answer. An image is asked about up to five times if its hook fails closed.",
    ("team", "hook", "outcome"),
)
MODERATION_DURATION = MetricRow(
    "igw_moderation_duration_seconds",
    MetricKind.HISTOGRAM,
    "Time until a moderation hook answered, or was given up.",
    ("hook",),
    buckets=STEP_BUCKETS,
)
MODERATION = (MODERATION_ANSWERS, MODERATION_DURATION)
