"""Shorter times than the product's, for gateways in tests, and a list of all times."""

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from gateway.timeouts_and_intervals import (
    FetchTiming,
    HealthTiming,
    JobTiming,
    MaintenanceTiming,
    OpenDuration,
    OrderTiming,
    PollTiming,
    Timing,
)

# The time for finding an order whose response was lost.
RECONCILE_TIMEOUT_SECONDS = 2.0
# The minimum time for an order, in tests that wait for its end.
SHORT_ATTEMPT_TIMEOUT_SECONDS = 3.0
CLOSE_AT_ONCE = OpenDuration(initial_seconds=0.0, max_seconds=0.0)


def change_timing(base: Timing, **changes: dict[str, object]) -> Timing:
    """Returns `base` with changed fields: `change_timing(FAST_TIMINGS, orders={"slot_timeout_seconds": 0.5})`."""
    return replace(base, **{part: replace(getattr(base, part), **fields) for part, fields in changes.items()})


def iterate_values(struct: Struct, path: str = "") -> Iterator[tuple[str, float]]:
    """Yields each value with its dotted name."""
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if isinstance(value, Struct):
            yield from iterate_values(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


# The product's times, but metrics have their values at once: tests compare them, without a Prometheus.
MAINTENANCE = MaintenanceTiming(new_series_zero_seconds=0.0)
TEST_TIMINGS = Timing(maintenance=MAINTENANCE)
# Short times for all that tests wait for. An order that succeeds may take as long as with the product's times, because
# a busy machine is slow. A failure in one test must not affect the next.
FAST_TIMINGS = replace(
    TEST_TIMINGS,
    # Accounts are checked once, at the start: tests count the requests to sellers.
    maintenance=replace(MAINTENANCE, account_interval_seconds=1e10),
    jobs=JobTiming(reconcile_timeout_seconds=RECONCILE_TIMEOUT_SECONDS, search_interval_seconds=0.1),
    orders=OrderTiming(min_resend_backoff_seconds=0.1),
    polls=PollTiming(min_interval_seconds=0.05, max_interval_seconds=60.0, missing_order_grace_seconds=0.5),
    fetches=FetchTiming(min_backoff_seconds=0.02, max_backoff_seconds=0.5),
    # Failures of one test neither block a seller nor slow down orders in the next one.
    health=HealthTiming(
        outage=CLOSE_AT_ONCE,
        refused=CLOSE_AT_ONCE,
        unfaithful=CLOSE_AT_ONCE,
        min_retry_after_seconds=0.05,
        default_retry_after_seconds=0.05,
        recovery_interval_seconds=0.05,
        min_retries=10_000,
    ),
)
# For tests in which orders and other requests to sellers get no answer.
IMPATIENT_TIMINGS = change_timing(
    FAST_TIMINGS,
    orders={
        "min_attempt_timeout_seconds": SHORT_ATTEMPT_TIMEOUT_SECONDS,
        # Equal to the attempt timeout: an order without a response is searched for when its time is over.
        "submit_timeout_seconds": SHORT_ATTEMPT_TIMEOUT_SECONDS,
        "query_timeout_seconds": 0.4,
    },
)
# For gateways that are killed and paused: deletions are frequent, and lost orders are given up soon.
CHAOS_TIMINGS = Timing(
    jobs=JobTiming(reconcile_timeout_seconds=4.0),
    maintenance=replace(MAINTENANCE, cleanup_interval_seconds=1.0, unclaimed_input_ttl_seconds=2.0),
)
