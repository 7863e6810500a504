"""All timeouts, intervals and backoffs of the gateway, and the few limits that belong to them.

The composition root builds one `Timing` and hands its parts to the components. Operators set some values in the section
`timing` of gateway.yaml; tests pass a `Timing` with shorter ones."""

from msgspec import Struct

# A breaker of another replica that claims to be open for longer is ignored.
MAX_OPEN_SECONDS = 21_600.0


class OpenDuration(Struct, frozen=True):
    """How long a circuit breaker stays open: initially, and at most after failed probes.

    `max_seconds=0`: the breaker closes without a probe.
    """

    initial_seconds: float
    max_seconds: float


class JobTiming(Struct, frozen=True, array_like=True):
    """The times of one job. They are saved with the job, so that all replicas apply the same ones."""

    # SDKs repeat a request by themselves within this time; after it, an unconfirmed job is withdrawn.
    confirmation_timeout_seconds: float = 30.0
    # How long an order is searched for after its response was lost. Sellers list an order within seconds.
    reconcile_timeout_seconds: float = 120.0
    # Searching is free, and no client waits for a lost order to be found within a second.
    search_interval_seconds: float = 5.0
    # How soon a job with an open order is looked at if it has no worker.
    poll_interval_seconds: float = 5.0
    # The Retry-After if nothing was charged and no seller gave a time. OpenAI's SDKs accept at most 60 s.
    retry_after_seconds: int = 60
    # Sellers keep images for at least a day; after that they may be deleted.
    image_ttl_seconds: float = 86_400.0


# One object for all defaults: msgspec omits a saved field only if it is that object.
DEFAULT_JOB_TIMING = JobTiming()


class OrderTiming(Struct, frozen=True, kw_only=True):
    """Sending orders, and other requests to sellers."""

    # The timeout of an order: its offer's p90 times this factor, and at least seven minutes: sellers queue at peaks.
    min_attempt_timeout_seconds: float = 420.0
    attempt_timeout_factor: float = 4.0
    # For sellers that accept an order and finish it later. Synchronous ones respond when the images are ready.
    submit_timeout_seconds: float = 60.0
    # How long an order waits for a slot of its account before the next seller is tried.
    slot_timeout_seconds: float = 30.0
    # At the last seller, an order waits for a slot until this long after the deadline, so that that ends the job.
    deadline_margin_seconds: float = 1.0
    # The retry budget grows with the first orders of other jobs, usually within a second or two.
    retry_budget_timeout_seconds: float = 2.0
    retry_budget_poll_seconds: float = 0.1
    # Polls, searches and resent orders: sellers answer them within a second or so.
    query_timeout_seconds: float = 30.0
    # Uploads of input images: the requests around one, and the upload of up to 50 MiB.
    upload_request_timeout_seconds: float = 60.0
    upload_timeout_seconds: float = 180.0
    # Resending costs the seller work each time, so the backoff doubles.
    min_resend_backoff_seconds: float = 1.0
    max_resend_backoff_seconds: float = 60.0


class PollTiming(Struct, frozen=True, kw_only=True):
    """Polling orders. Between the bounds, the interval is a share of the expected duration."""

    # Fast orders take about two seconds.
    min_interval_seconds: float = 0.2
    # An image that is ready waits for at most this time.
    max_interval_seconds: float = 10.0
    # A longer Retry-After of a seller is cut: the images may be ready earlier.
    max_retry_after_seconds: float = 60.0
    # An order that the seller does not find may only be missing in a replica of its database.
    missing_order_grace_seconds: float = 60.0
    # One poll covers all callbacks within this time.
    min_wake_interval_seconds: float = 1.0
    # One attempt's callbacks are checked at the seller at most this often, so that floods cause few polls.
    min_ticket_check_interval_seconds: float = 1.0


class FetchTiming(Struct, frozen=True, kw_only=True):
    """Fetching and storing the images of finished orders."""

    # After these tries, in half a minute, an image counts as gone or invalid: a host with a temporary problem may
    # respond the same. Other failures are retried as long as the image may exist.
    max_tries: int = 5
    min_backoff_seconds: float = 0.75
    max_backoff_seconds: float = 30.0
    # Fetching and storing images may take this long. Closer to a deadline, the worker first saves that they are ready.
    max_fetch_seconds: float = 300.0


class WorkerTiming(Struct, frozen=True, kw_only=True):
    """The worker of a job, and its tasks."""

    # A task restarts after the shortest backoff if store or storage failed. After other errors the backoff grows.
    min_backoff_seconds: float = 1.0
    max_backoff_seconds: float = 60.0
    # How often a worker looks at its job without a message or a change, in case a notification was lost.
    max_receive_seconds: float = 30.0
    # Short enough to continue at once after a failover, long enough to spare a busy store.
    store_retry_seconds: float = 0.5
    # A commit of a worker updates its own job within this time. Later changes count as those of another replica.
    settle_seconds: float = 0.05
    # How long a confirmation waits for the commit of the first attempt, which also confirms the job.
    first_attempt_timeout_seconds: float = 0.05
    # How often a job is loaded while its client's retry is awaited, in case a notification was lost.
    confirmation_poll_seconds: float = 2.0


class ClaimTiming(Struct, frozen=True, kw_only=True):
    """Claiming due jobs, and releasing them."""

    # A due job waits for at most this time. Each claim is one cheap call of the store.
    interval_seconds: float = 1.0
    # A killed replica is noticed by the second check after its end, and its jobs are claimed at once.
    killed_replica_check_interval_seconds: float = 0.5
    # A suspect is a job whose workers crashed. It runs alone for this time, or until it makes progress.
    suspect_run_seconds: float = 1.0
    # The maximum time that a suspect runs alone if its next crash would abandon the job.
    max_suspect_run_seconds: float = 15.0
    # A released job is not due again before this time, so that other replicas can claim it first.
    min_release_seconds: float = 0.5
    # At shutdown: how long to wait for the response to the last claim.
    last_claim_timeout_seconds: float = 2.0


class MaintenanceTiming(Struct, frozen=True, kw_only=True):
    """Periodic tasks beside the jobs."""

    # Circuit breakers of all replicas agree within two seconds.
    publish_interval_seconds: float = 1.0
    # One replica audits all partitions in each of these intervals, the first one soon after it started.
    audit_interval_seconds: float = 3_600.0
    audit_check_interval_seconds: float = 10.0
    # Expired jobs and images are kept for days: ten minutes more do not matter.
    cleanup_interval_seconds: float = 600.0
    # A storage that failed is tested again within this time.
    storage_check_interval_seconds: float = 3.0
    # Each self-test of a bucket makes three requests, which cost money.
    storage_test_interval_seconds: float = 30.0
    # A failure other than a full disk stops new jobs only after this time: a single timeout is transient.
    max_transient_failure_seconds: float = 2.0
    # Files of the configuration must be unchanged for this long, so that a change of several files is read as a whole.
    config_settle_seconds: float = 0.1
    log_check_interval_seconds: float = 1.0
    # At shutdown: how long the last spans may take to reach the collector.
    trace_flush_timeout_seconds: float = 3.0
    # How often the lag of the event loop is measured. Anything that blocks it for longer is seen.
    loop_lag_interval_seconds: float = 0.25
    # How old the metrics of the store may be. Prometheus scrapes every 15 seconds; the reads take a few milliseconds.
    store_metric_interval_seconds: float = 5.0
    # Without a reading for this long, the metrics of the store are absent.
    store_metric_max_age_seconds: float = 30.0
    # A new series is 0 for two of the longest scrape intervals, so that Prometheus sees its first value as an increase.
    new_series_zero_seconds: float = 60.0
    # Unknown API keys make a replica load all keys at most this often.
    min_key_load_interval_seconds: float = 0.25
    # How soon a changed API key or target of webhooks takes effect on all replicas, by a cheap call of the store.
    key_refresh_interval_seconds: float = 2.0
    # How often the last uses of API keys are saved.
    key_use_interval_seconds: float = 60.0
    # How soon a replica counts what other replicas admitted within their rate limits.
    limit_share_interval_seconds: float = 1.0
    # How late the end of a budget override is recorded. It stops to apply at its time, whether that is recorded or not.
    override_check_interval_seconds: float = 5.0
    # How soon a soft threshold of a budget is announced. Without new money this reads only what is due.
    threshold_check_interval_seconds: float = 1.0
    # All budgets are compared this often: also those whose money another replica has booked before it crashed.
    threshold_full_check_seconds: float = 60.0
    # After a crash, another replica announces a threshold or the end of an override when this has passed.
    budget_lease_seconds: float = 60.0
    # How often the balance of an account is read, and that of a refused one, whose orders go elsewhere until then.
    account_interval_seconds: float = 300.0
    refused_account_interval_seconds: float = 15.0
    # How often it is looked which accounts are due. A replica waits so much longer than the one before it.
    account_poll_seconds: float = 5.0
    # A balance that could not be read for this long is not shown any more.
    balance_max_age_seconds: float = 900.0
    # Without a successful write for this long, the store takes no new jobs. The engine writes every second.
    max_write_gap_seconds: float = 5.0
    # Stored inputs whose job was never created are deleted after this time: longer than any request runs.
    unclaimed_input_ttl_seconds: float = 3_600.0


class ClientTiming(Struct, frozen=True, kw_only=True):
    """Clients that wait for a job, or have disconnected."""

    # How often a waiting request loads its job, in case a notification was lost.
    job_poll_seconds: float = 2.0
    # If a disconnected client cannot be removed in time, only a retry of its own request finds the job.
    removal_retry_seconds: float = 0.5
    removal_timeout_seconds: float = 120.0
    # At shutdown: how long the removals may take.
    last_removals_timeout_seconds: float = 2.0


class HealthTiming(Struct, frozen=True, kw_only=True):
    """Circuit breakers, limiters and the retry budget."""

    # An invalid key or missing credit takes longer to repair than an outage, which may be over within a minute.
    refused: OpenDuration = OpenDuration(initial_seconds=60.0, max_seconds=900.0)
    outage: OpenDuration = OpenDuration(initial_seconds=30.0, max_seconds=300.0)
    # Each probe of an unfaithful cell costs money. With a short time, each order of a rarely used cell would be one.
    unfaithful: OpenDuration = OpenDuration(initial_seconds=300.0, max_seconds=MAX_OPEN_SECONDS)
    # A probe without an outcome after this time no longer blocks the next probe: as long as an order may take.
    probe_timeout_seconds: float = 420.0
    # Bounds of a seller's Retry-After, and the pause of a seller that gave none.
    min_retry_after_seconds: float = 1.0
    default_retry_after_seconds: float = 10.0
    max_retry_after_seconds: float = 300.0
    # The minute of `per_minute`.
    rate_window_seconds: float = 60.0
    # After a rejection, the concurrency rises by one in each of these intervals.
    recovery_interval_seconds: float = 10.0
    # A snapshot of another replica that is older does not count.
    replica_ttl_seconds: float = 60.0
    # Rejections within this time count as one, since their orders were sent together.
    rejection_dedup_seconds: float = 1.0
    # Retries may be a tenth of the first orders within this window, and always this many.
    retry_window_seconds: float = 60.0
    min_retries: int = 3


class ApiTiming(Struct, frozen=True, kw_only=True):
    """Client connections and requests."""

    # For a request's headers, from the connection or the previous request on, and for the rest of a rejected body.
    header_timeout_seconds: float = 30.0
    # A client that reads no byte of its response for this long is disconnected.
    write_timeout_seconds: float = 60.0
    # For the next bytes of a body, and for the whole of it: 64 MiB over a slow line.
    body_stall_timeout_seconds: float = 30.0
    body_timeout_seconds: float = 120.0
    # How long a body waits for memory before the request fails with 503.
    memory_timeout_seconds: float = 10.0
    # For all bodies whose jobs do not exist yet. Parsing a body briefly takes several times its size.
    max_total_body_bytes: int = 256 << 20
    # For all uploaded files on the disk whose jobs do not exist yet.
    max_total_upload_bytes: int = 2 << 30
    # Longer than the deadline of most jobs: when it passes, completed images may still be downloading.
    job_wait_timeout_seconds: float = 3_600.0
    # Between two heartbeats of an event stream. Proxies close connections that are silent for 30 seconds or more.
    heartbeat_interval_seconds: float = 10.0
    # For confirming a job, and between the attempts. A request that waits longer is answered with an error.
    confirmation_timeout_seconds: float = 6.0
    confirmation_retry_seconds: float = 0.5
    # Proxies close connections that are silent for longer, usually after 30 or 60 s.
    event_heartbeat_seconds: float = 10.0
    # How soon a client connects again whose stream of events was interrupted.
    event_retry_seconds: int = 2
    # OpenAI's completion window of 24h: after it, no more lines of a batch are ordered.
    batch_window_seconds: float = 86_400.0
    # The Retry-After while the store is unavailable.
    store_retry_after_seconds: int = 5
    # For sending responses to waiting clients after the drain.
    shutdown_timeout_seconds: int = 10
    # The same after a second signal.
    forced_shutdown_timeout_seconds: int = 1
    # A half-closed connection gets a first write, another after this time, and a last one after twice this time.
    probe_interval_seconds: float = 0.5


class StoreTiming(Struct, frozen=True, kw_only=True):
    """The stores: Redis, and at the end audits and SQLite."""

    # Long enough for a failover, short enough for a client that waits.
    command_timeout_seconds: float = 5.0
    # How soon a changed configuration or a restart of Redis is noticed.
    check_interval_seconds: float = 5.0
    # A subscription without messages for this long is pinged, since it may be broken.
    idle_seconds: float = 5.0
    # A restart of Redis ends the connections of all replicas. Within this time, none of them counts as killed. A
    # process that starts while Redis has been running for twice as long does not wait.
    restart_grace_seconds: float = 5.0
    # Beyond the timeout of a command, so that an error with a cause arrives before the plain timeout.
    command_grace_seconds: float = 0.5
    # Commands that failed for a moment are sent again: during a failover of a second or two, and at once after it.
    min_command_backoff_seconds: float = 0.05
    max_command_backoff_seconds: float = 1.0
    # A replica of Redis that is connected confirms within milliseconds. Shorter than the timeout of a connection.
    replica_timeout_seconds: float = 1.0
    # The next Sentinel is asked after this time.
    sentinel_timeout_seconds: float = 1.0
    # Watchers also check by themselves every 2 s; a longer pause without messages would delay them.
    max_listener_backoff_seconds: float = 1.0
    # How long to wait for the end of another audit of the partition.
    audit_wait_seconds: float = 60.0
    audit_poll_seconds: float = 0.1
    # An audit rests after each slice of processor time, so that the other threads of the process can run.
    audit_slice_seconds: float = 0.002
    audit_pause_seconds: float = 0.001
    # A restarted thread of SQLite that runs for this long counts as recovered.
    healthy_thread_seconds: float = 1.0
    # How long emptying the write-ahead log may wait for readers. Commits wait meanwhile.
    max_log_wait_seconds: float = 0.1


class InputTiming(Struct, frozen=True, kw_only=True):
    """Fetching the input images that a request links to."""

    # For each image, and for all of a request.
    download_timeout_seconds: float = 30.0
    request_timeout_seconds: float = 60.0
    # A team at its limit gets the error before its client times out.
    queue_timeout_seconds: float = 5.0
    max_image_bytes: int = 50 << 20


class WebhookTiming(Struct, frozen=True, kw_only=True):
    """Sending webhooks."""

    # A new webhook waits for at most this time.
    interval_seconds: float = 1.0
    # For one attempt, until the last byte of the answer.
    request_timeout_seconds: float = 10.0
    # After a crash, another replica sends the webhook again when this has passed. Longer than an attempt takes.
    lease_seconds: float = 60.0
    # How long a target's due webhooks may take until it gets more slots or they are put off, and for how long.
    max_queue_seconds: float = 2.0
    max_wait_seconds: float = 300.0
    # The delay before each further attempt. After the last one the webhook has failed.
    retry_delays_seconds: tuple[float, ...] = (5, 60, 300, 1_800, 7_200, 18_000, 36_000, 72_000, 86_400)


class ConnectionTiming(Struct, frozen=True, kw_only=True):
    """Connections to sellers and to other hosts, and the lookups of their names."""

    # Shorter than the idle timeouts of most servers and proxies.
    keepalive_seconds: float = 15.0
    # An idle connection for an order that must not be sent twice: shorter than the idle timeouts of all servers.
    fresh_connection_seconds: float = 1.0
    # Shorter than the TTL of most records, so that a moved host is found soon.
    lookup_cache_ttl_seconds: float = 10.0
    # How long to wait for a thread, and for a fresh answer before stale addresses are used (RFC 8767).
    lookup_thread_timeout_seconds: float = 2.0
    stale_lookup_timeout_seconds: float = 1.0


class LogTiming(Struct, frozen=True, kw_only=True):
    """Writing log lines."""

    # Lines of one kind beyond the first are counted, and written once in this interval.
    repeat_interval_seconds: float = 60.0
    # How often the writer thread checks whether held lines are due.
    flush_interval_seconds: float = 1.0
    # How long the writer thread rests after a write. Each wake-up and write costs as much as several lines.
    gather_interval_seconds: float = 0.02
    # At shutdown: how long writing the waiting lines may take.
    close_timeout_seconds: float = 5.0


class BatchTiming(Struct, frozen=True, kw_only=True):
    """Working on batches."""

    # How often the batch is loaded, to notice that another replica has cancelled it.
    refresh_interval_seconds: float = 1.0
    # How soon a cancellation and a free place are noticed.
    line_poll_seconds: float = 0.5
    checkpoint_interval_seconds: float = 2.0
    order_retry_seconds: float = 1.0
    # A line loads its job this often.
    job_wait_seconds: float = 60.0
    # The pause of a batch after internal errors doubles up to this.
    max_failure_backoff_seconds: float = 60.0


class TaskTiming(Struct, frozen=True, kw_only=True):
    """Restarting the periodic and permanent tasks of the process after a failure."""

    min_backoff_seconds: float = 0.2
    max_backoff_seconds: float = 5.0
    # A task that is stopped is cancelled again after this time: it may mistake a cancellation for a timeout.
    stop_interval_seconds: float = 0.5


class Timing(Struct, frozen=True, kw_only=True):
    """All times of one gateway process."""

    jobs: JobTiming = DEFAULT_JOB_TIMING
    orders: OrderTiming = OrderTiming()
    polls: PollTiming = PollTiming()
    fetches: FetchTiming = FetchTiming()
    workers: WorkerTiming = WorkerTiming()
    claims: ClaimTiming = ClaimTiming()
    maintenance: MaintenanceTiming = MaintenanceTiming()
    clients: ClientTiming = ClientTiming()
    health: HealthTiming = HealthTiming()
    api: ApiTiming = ApiTiming()
    store: StoreTiming = StoreTiming()
    inputs: InputTiming = InputTiming()
    webhooks: WebhookTiming = WebhookTiming()
    connections: ConnectionTiming = ConnectionTiming()
    logs: LogTiming = LogTiming()
    batches: BatchTiming = BatchTiming()
    tasks: TaskTiming = TaskTiming()
