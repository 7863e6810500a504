"""All metrics of the gateway: `Metrics` and the gauges are made from this table, and `docs/metrics.md` describes it.

Names follow Prometheus: base units, the unit last, `_total` for counters. Label values come from closed sets: names in
the configuration, routes, states, fault kinds. They never come from a request.
"""

from gateway.events import COMPONENTS, CallbackOutcome, CommitResult
from gateway.telemetry import account_metric_table, store_metric_table, webhook_metric_table
from gateway.telemetry.canary_metric_table import CANARIES
from gateway.telemetry.metric_row import CELL_LABELS, STEP_BUCKETS, WAIT_BUCKETS, MetricKind, MetricRow
from gateway.telemetry.spans import DROP_REASONS
from providers import ADAPTERS

# Each bucket of a histogram is one series for each set of labels, so there are few where the labels are a cell. A
# quantile is only as exact as its bucket: between two bounds, Prometheus assumes that values are spread evenly.
REQUEST_BUCKETS = (0.01, 0.1, 1, 10, 60, 300)
OVERHEAD_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
COMMIT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 2)
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 20)
POLL_BUCKETS = (1, 2, 3, 5, 8, 13, 21, 50)
# Images take 5 to 120 s, where neighbours differ by a factor of 1.5. Above 120 s, alerts count a job as slow.
IMAGE_BUCKETS = (2, 5, 7.5, 11, 16, 24, 36, 54, 80, 120, 300, 600)
# Of each cell, so there are few: most orders take longer than five seconds.
ORDER_BUCKETS = IMAGE_BUCKETS[1:]
# Simulated sellers are faster.
JOB_BUCKETS = (0.1, 0.3, 1, *IMAGE_BUCKETS)
STATE_BUCKETS = (*WAIT_BUCKETS, *IMAGE_BUCKETS)
# Some orders fail at once, others after minutes.
FAILURE_BUCKETS = (0.05, 0.5, *IMAGE_BUCKETS)
# An order is slow if it takes longer than the p90 of its offer, times this.
SLOW_ORDER_FACTOR = 2.0


def _counter(
    name: str, description: str, labels: tuple[str, ...] = (), initial_values: tuple[tuple[str, ...], ...] = ()
) -> MetricRow:
    return MetricRow(name, MetricKind.COUNTER, description, labels, initial_values=initial_values)


def _gauge(name: str, description: str, labels: tuple[str, ...] = ()) -> MetricRow:
    return MetricRow(name, MetricKind.GAUGE, description, labels)


def _histogram(name: str, description: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> MetricRow:
    return MetricRow(name, MetricKind.HISTOGRAM, description, labels, buckets)


# --- requests

HTTP_REQUESTS = _counter("igw_http_requests_total", "HTTP requests that were answered.", ("route", "method", "status"))
HTTP_REQUEST_DURATION = _histogram(
    "igw_http_request_duration_seconds",
    "Time from a request to the end of its response. Without requests that were refused (4xx), which take no time.",
    ("route", "status_class"),
    REQUEST_BUCKETS,
)
HTTP_OVERHEAD = _histogram(
    "igw_http_overhead_seconds",
    "Time that the gateway itself took for a request that waited for images: without the time it waited for the job.",
    ("route",),
    OVERHEAD_BUCKETS,
)
RATE_LIMITED_REQUESTS = _counter(
    "igw_rate_limited_requests_total",
    "Requests refused because of a rate limit; `owner`: of the team or of the API key.",
    ("team", "owner", "limit"),
)

# --- jobs

JOBS_ACCEPTED = _counter("igw_jobs_accepted_total", "Jobs accepted.", ("team", "model", "policy"))
JOBS_ENDED = _counter(
    "igw_jobs_ended_total",
    "Jobs that ended, by final state and, without images, by the fault that ended them.",
    ("team", "model", "outcome", "reason"),
)
JOB_DURATION = _histogram(
    "igw_job_duration_seconds",
    "Time from the acceptance of a job to its images. Only jobs that completed.",
    ("model", "resolution", "quality"),
    JOB_BUCKETS,
)
FAILED_JOBS = _counter(
    "igw_failed_jobs_total",
    "Jobs that failed or expired, by what was ordered. Without refused content and orders that are invalid.",
    ("model", "resolution", "quality"),
)
FAILED_JOB_SECONDS = _counter(
    "igw_failed_job_seconds_total",
    "Time from the acceptance of the jobs of igw_failed_jobs_total to their end, all together.",
    ("model", "resolution", "quality"),
)
JOB_STATE_DURATION = _histogram(
    "igw_job_state_duration_seconds",
    "Time that a job was in a state: `queued` until its first order, then `in_progress`.",
    ("state", "outcome"),
    STATE_BUCKETS,
)
JOBS_IN_FLIGHT = _gauge("igw_jobs_in_flight", "Jobs that this process is working on.")
JOBS_RECLAIMED = _counter(
    "igw_jobs_reclaimed_total", "Jobs that this process took over from a process that stopped working on them."
)
BATCHES_ENDED = _counter("igw_batches_ended_total", "Batches that ended.", ("team", "outcome"))
BATCH_LINES = _counter(
    "igw_batch_lines_total", "Lines of batches that ended, by outcome: completed or failed.", ("team", "outcome")
)
BATCHES_RUNNING = _gauge("igw_batches_running", "Batches that this process is working on.")
BATCHES_WAITING = _gauge(
    "igw_batches_waiting", "Batches for which no process has room. Each process sees the same ones: use max, not sum."
)
BATCH_LINES_LEFT = _gauge(
    "igw_batch_lines_left", "Lines of igw_batches_running that have not ended. 0 while a batch is being validated."
)

# --- orders and sellers

ATTEMPTS_ENDED = _counter(
    "igw_attempts_ended_total",
    "Orders that ended, by outcome: `delivered`, or the fault.",
    ("seller", "model", "outcome"),
)
ATTEMPT_DURATION = _histogram(
    "igw_attempt_duration_seconds",
    "Time from an order to its images in storage. Only orders that delivered all of their images.",
    CELL_LABELS,
    ORDER_BUCKETS,
)
SLOW_ORDERS = _counter(
    "igw_slow_orders_total",
    "Orders of igw_attempt_duration_seconds that took more than twice the p90 of their offer: counted one by one, not "
    "estimated from buckets.",
    CELL_LABELS,
)
FAILED_ATTEMPT_DURATION = _histogram(
    "igw_failed_attempt_duration_seconds",
    "Time from an order to its failure: what a failover costs.",
    ("seller",),
    FAILURE_BUCKETS,
)
FAILED_ORDERS = _counter(
    "igw_failed_orders_total",
    "Orders that failed, by cell. Without refused content and orders that are invalid: the seller is not the reason.",
    CELL_LABELS,
)
FAILED_ORDER_SECONDS = _counter(
    "igw_failed_order_seconds_total",
    "Time from the orders of igw_failed_orders_total to their failure, all together.",
    CELL_LABELS,
)
SLOT_WAIT = _histogram(
    "igw_slot_wait_seconds",
    "Time that an order waited for its turn, because of the limits of its account.",
    ("account",),
    STEP_BUCKETS,
)
ACCEPTANCE_DURATION = _histogram(
    "igw_order_acceptance_duration_seconds",
    "Time from an order until the seller's ticket for it is saved. Only sellers that finish orders later.",
    ("seller",),
    STEP_BUCKETS,
)
POLLS = _histogram("igw_order_polls", "Polls until an order had ended.", ("seller",), POLL_BUCKETS)
DETECTION_LAG = _histogram(
    "igw_detection_lag_seconds",
    "Time from the end of an order until a poll noticed it: by the seller's timestamp, else since its callback, else "
    "since the previous poll, which is the longest that it can be.",
    ("seller",),
    STEP_BUCKETS,
)
DOWNLOAD_DURATION = _histogram(
    "igw_image_download_duration_seconds", "Time to download an image from its seller.", ("seller",), STEP_BUCKETS
)
STORE_DURATION = _histogram(
    "igw_image_store_duration_seconds", "Time to check, convert and store an image.", (), STEP_BUCKETS
)
OFFERS_SKIPPED = _counter(
    "igw_offers_skipped_total",
    "Sellers to which no order was sent: no free slot, refused inputs, or not configured any more.",
    ("seller", "reason"),
)
UNFAITHFUL_IMAGES = _counter(
    "igw_unfaithful_images_total", "Images that differ in size or format from what was ordered.", CELL_LABELS
)
LATE_IMAGES = _counter(
    "igw_late_images_total",
    "Images that arrived after their order was given up. They are booked as orphan.",
    ("seller",),
)
FAILOVERS = _counter(
    "igw_failovers_total",
    "Orders placed with another seller because the order at the first one failed.",
    ("from_seller", "to_seller", "reason"),
)
CELL_BREAKER_STATE = _gauge(
    "igw_cell_circuit_breaker_state",
    "Circuit breaker of a cell, or of its account if that is worse: 0 closed, 1 half-open, 2 open. Half-open: the next "
    "order tests the seller; until its result is known, no other order passes, which is 2.",
    CELL_LABELS,
)
ACCOUNT_BREAKER_STATE = _gauge(
    "igw_account_circuit_breaker_state",
    "Circuit breaker of an account: 0 closed, 1 half-open, 2 open, as of cells.",
    ("account",),
)
CELL_CONFORMANCE = _gauge(
    "igw_cell_conformance_ratio",
    "Share of the recent deliveries that matched their order; absent while there are too few.",
    CELL_LABELS,
)
EXPECTED_ORDER_DURATION = _gauge(
    "igw_expected_order_duration_seconds",
    "The 90th percentile of the time of an order, as configured in the offer. Compare igw_attempt_duration_seconds.",
    ("seller", "model", "quality"),
)
ACCOUNT_ORDERS = _gauge("igw_account_orders_in_flight", "Orders in flight at an account.", ("account",))
ACCOUNT_WAITING = _gauge("igw_account_orders_waiting", "Orders that wait for their turn at an account.", ("account",))
ACCOUNT_LIMIT = _gauge(
    "igw_account_order_limit",
    "How many orders may be in flight at an account now: as configured, or less after it was overloaded. Absent "
    "without a limit.",
    ("account",),
)
ACCOUNT_LOAD = _gauge(
    "igw_account_load_ratio",
    "Orders in flight divided by the limit; 1 or more if a new order has to wait, 0 without a limit.",
    ("account",),
)
RETRIES_AVAILABLE = _gauge(
    "igw_retries_available", "Retry budget: orders that may replace failed ones at this moment, of all jobs together."
)
CALLBACKS = _counter(
    "igw_callbacks_total",
    "Callbacks received from sellers, by result.",
    ("adapter", "outcome"),
    (tuple(name for name, adapter in ADAPTERS.items() if adapter.callback), tuple(CallbackOutcome)),
)

CALLBACK_SAVINGS = _counter(
    "igw_callback_saved_seconds_total",
    "What callbacks were worth: by how much they brought forward the poll that found an order ended.",
    ("seller",),
)

# --- prices

PRICE_DRIFT = _counter(
    "igw_price_drift_usd_total",
    "Amount in USD by which sellers charged more or less than their configured price for delivered images.",
    (*CELL_LABELS, "direction"),
)
PRICE_MISMATCHES = _counter(
    "igw_price_mismatches_total",
    "Orders that the seller did not charge at its configured price. By tokens: that cost more than their tokens.",
    CELL_LABELS,
)

# --- the process

STORE_COMMITS = _counter(
    "igw_store_commits_total",
    "Commits to the store, by result. `unavailable`, `full` and `unknown` are errors of the store.",
    ("outcome",),
    (tuple(CommitResult),),
)
STORE_COMMIT_DURATION = _histogram(
    "igw_store_commit_duration_seconds", "Time of a commit to the store, whatever its result.", (), COMMIT_BUCKETS
)
STORE_TAKES_WRITES = _gauge(
    "igw_store_takes_writes",
    "1 while this process can write to the store, else 0: no write has succeeded for some seconds.",
)
STORAGE_TAKES_IMAGES = _gauge(
    "igw_storage_takes_images",
    "1 while images can be stored, else 0: the disk is full or gone, or object storage refuses them. Then new jobs are "
    "refused.",
)
LOOP_LAG = _histogram(
    "igw_event_loop_lag_seconds", "How late the event loop ran a task, measured four times a second.", (), LAG_BUCKETS
)
MEMORY_USED = _gauge(
    "igw_memory_budget_used_bytes",
    "Memory that large bodies hold: of `requests`, of calls to `sellers`, and of `images` from sellers' URLs.",
    ("budget",),
)
MEMORY_LIMIT = _gauge("igw_memory_budget_limit_bytes", "Memory that large bodies may hold together.", ("budget",))
UPLOADS_USED = _gauge("igw_upload_disk_used_bytes", "Disk that uploads hold until their request has ended.")
UPLOADS_LIMIT = _gauge("igw_upload_disk_limit_bytes", "Disk that uploads may hold together.")
INTERNAL_ERRORS = _counter(
    "igw_internal_errors_total", "Internal errors. While all is well there are none.", ("component",), (COMPONENTS,)
)
TASK_FAILURES = _counter("igw_task_failures_total", "Failures of long-running tasks.", ("task",))
TASK_UP = _gauge("igw_task_up", "1 while a long-running task works, 0 while it is down and restarted.", ("task",))
SPANS_DROPPED = _counter(
    "igw_trace_spans_dropped_total",
    "Spans of traces that were not exported: the queue was full, or the collector accepted none. 0 without traces.",
    ("reason",),
    (DROP_REASONS,),
)
CONFIG_RELOADS = _counter(
    "igw_config_reloads_total",
    "Changes of the configuration: applied, or rejected because of problems.",
    ("outcome",),
    (("applied", "rejected"),),
)

CONFIG_LAST_RELOAD = _gauge(
    "igw_config_last_reload_successful", "1 if the files were applied when they last changed, 0 if they were rejected."
)
CONFIG_INFO = _gauge("igw_config_info", "1 for the configuration in force, by its hash.", ("hash",))
CONFIG_APPLIED_AT = _gauge(
    "igw_config_applied_timestamp_seconds", "When the configuration in force was applied, in Unix seconds."
)
BUILD_INFO = _gauge("igw_build_info", "1 for the version of the gateway.", ("version",))

# --- the operating system's view of the process, by the names that all programs use

PROCESS_METRICS = (
    _gauge("process_virtual_memory_bytes", "Virtual memory size in bytes."),
    _gauge("process_resident_memory_bytes", "Resident memory size in bytes."),
    _gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds."),
    _counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds."),
    _gauge("process_open_fds", "Number of open file descriptors."),
    _gauge("process_max_fds", "Maximum number of open file descriptors."),
)

SECTIONS: dict[str, tuple[MetricRow, ...]] = {
    "Requests": (HTTP_REQUESTS, HTTP_REQUEST_DURATION, HTTP_OVERHEAD, RATE_LIMITED_REQUESTS),
    "Jobs": (
        JOBS_ACCEPTED,
        JOBS_ENDED,
        JOB_DURATION,
        FAILED_JOBS,
        FAILED_JOB_SECONDS,
        JOB_STATE_DURATION,
        JOBS_IN_FLIGHT,
        JOBS_RECLAIMED,
        BATCHES_ENDED,
        BATCH_LINES,
        BATCHES_RUNNING,
        BATCHES_WAITING,
        BATCH_LINES_LEFT,
    ),
    "Orders and sellers": (
        ATTEMPTS_ENDED,
        ATTEMPT_DURATION,
        SLOW_ORDERS,
        FAILED_ATTEMPT_DURATION,
        FAILED_ORDERS,
        FAILED_ORDER_SECONDS,
        SLOT_WAIT,
        ACCEPTANCE_DURATION,
        POLLS,
        DETECTION_LAG,
        CALLBACKS,
        CALLBACK_SAVINGS,
        DOWNLOAD_DURATION,
        STORE_DURATION,
        UNFAITHFUL_IMAGES,
        LATE_IMAGES,
        OFFERS_SKIPPED,
        FAILOVERS,
        CELL_BREAKER_STATE,
        ACCOUNT_BREAKER_STATE,
        account_metric_table.ACCOUNT_REFUSED,
        CELL_CONFORMANCE,
        *CANARIES,
        EXPECTED_ORDER_DURATION,
        ACCOUNT_ORDERS,
        ACCOUNT_WAITING,
        ACCOUNT_LIMIT,
        ACCOUNT_LOAD,
        RETRIES_AVAILABLE,
    ),
    "Webhooks": webhook_metric_table.WEBHOOKS,
    "Moderation": webhook_metric_table.MODERATION,
    "Money": (*store_metric_table.MONEY, PRICE_MISMATCHES, PRICE_DRIFT, *account_metric_table.BALANCES),
    "The store and its replicas": store_metric_table.STORE_AND_REPLICAS,
    "The process": (
        STORE_COMMITS,
        STORE_COMMIT_DURATION,
        STORE_TAKES_WRITES,
        STORAGE_TAKES_IMAGES,
        LOOP_LAG,
        MEMORY_USED,
        MEMORY_LIMIT,
        UPLOADS_USED,
        UPLOADS_LIMIT,
        INTERNAL_ERRORS,
        TASK_FAILURES,
        TASK_UP,
        SPANS_DROPPED,
        CONFIG_RELOADS,
        CONFIG_LAST_RELOAD,
        CONFIG_INFO,
        CONFIG_APPLIED_AT,
        BUILD_INFO,
    ),
    "The operating system's view of the process": PROCESS_METRICS,
}
METRIC_TABLE = tuple(row for rows in SECTIONS.values() for row in rows)
