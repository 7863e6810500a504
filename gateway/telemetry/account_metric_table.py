"""The metrics of what sellers say about accounts, as a part of the table of all metrics."""

from gateway.telemetry.metric_row import MetricKind, MetricRow

ACCOUNT_REFUSED = MetricRow(
    "igw_account_refused",
    MetricKind.GAUGE,
    "1 while a seller refuses an account, by reason: `invalid_key` (401) or `no_credit` (402), else 0. No order goes "
    "there until a free check of the account passes.",
    ("account", "reason"),
)
ACCOUNT_BALANCE = MetricRow(
    "igw_account_balance_usd",
    MetricKind.GAUGE,
    "Balance of an account, as the seller says. Absent if it does not, or has not for a quarter of an hour. One "
    "replica reads it for all.",
    ("account",),
)
ACCOUNT_LOW_BALANCE = MetricRow(
    "igw_account_low_balance_usd", MetricKind.GAUGE, "The configured `low_balance_usd` of an account.", ("account",)
)
BALANCES = (ACCOUNT_BALANCE, ACCOUNT_LOW_BALANCE)
