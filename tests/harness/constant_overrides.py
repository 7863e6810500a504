"""Sets constants of the product in a gateway's process: shorter timeouts and intervals, and smaller limits."""

from collections.abc import Mapping
from importlib import import_module

import msgspec

# Values by dotted name. A name that does not exist is an AssertionError when the gateway starts.
Overrides = Mapping[str, object]

# The minimum time for an order, and the time for finding an order whose response was lost.
ATTEMPT_TIMEOUT_SECONDS = 2.0
RECONCILE_TIMEOUT_SECONDS = 2.0
CLOSE_AT_ONCE = {"initial_seconds": 0.0, "max_seconds": 0.0}

# Timeouts and intervals short enough for tests. A failure in one test must not affect the next.
FAST_TIMINGS: Overrides = {
    "gateway.engine.job_creation.MIN_ATTEMPT_TIMEOUT_SECONDS": ATTEMPT_TIMEOUT_SECONDS,
    # Equal to the attempt timeout: an order without a response is searched for when its time is over.
    "gateway.engine.order_submitter.SUBMIT_TIMEOUT_SECONDS": ATTEMPT_TIMEOUT_SECONDS,
    "gateway.engine.result_fetcher.MIN_BACKOFF_SECONDS": 0.02,
    "gateway.engine.result_fetcher.MAX_BACKOFF_SECONDS": 0.5,
    "gateway.engine.order_queries.QUERY_OPTIONS": {"timeout_seconds": 0.4},
    "gateway.engine.poll_schedule.MISSING_ORDER_GRACE_SECONDS": 0.5,
    "gateway.engine.order_tracker.MIN_RESEND_BACKOFF_SECONDS": 0.1,
    "gateway.engine.order_tracker.SEARCH_INTERVAL_SECONDS": 0.1,
    "gateway.engine.poll_schedule.MIN_DELAY_SECONDS": 0.05,
    "gateway.jobs.next_actions.RECONCILE_TIMEOUT_SECONDS": RECONCILE_TIMEOUT_SECONDS,
    # Failures of one test neither block a seller nor slow down orders in the next one.
    "gateway.health.health_state.OUTAGE_OPEN_DURATION": CLOSE_AT_ONCE,
    "gateway.health.health_state.REFUSED_OPEN_DURATION": CLOSE_AT_ONCE,
    "gateway.health.health_state.UNFAITHFUL_OPEN_DURATION": CLOSE_AT_ONCE,
    "gateway.health.circuit_breaker.MIN_RETRY_AFTER_SECONDS": 0.05,
    "gateway.health.circuit_breaker.DEFAULT_RETRY_AFTER_SECONDS": 0.05,
    "gateway.health.concurrency_limiter.RECOVERY_INTERVAL_SECONDS": 0.05,
    "gateway.health.retry_budget.MIN_RETRIES": 10_000,
}
# For gateways that are killed and paused: deletions are frequent, and lost orders are given up soon.
CHAOS_TIMINGS: Overrides = {
    "gateway.jobs.next_actions.RECONCILE_TIMEOUT_SECONDS": 4.0,
    "gateway.engine.engine.CLEANUP_INTERVAL_SECONDS": 1.0,
    "gateway.engine.job_creation.UNCLAIMED_INPUT_TTL_SECONDS": 2.0,
}


def merge_overrides(base: Overrides, overrides: Overrides) -> dict[str, object]:
    """Returns `base` with the overrides. None keeps the product's value, so it must have an entry in `base`."""
    for name in (name for name, value in overrides.items() if value is None):
        assert name in base, f"{name} has the product's value already: None has no effect"
    return {name: value for name, value in {**base, **overrides}.items() if value is not None}


def apply_overrides(overrides: Overrides) -> None:
    """Sets the constants. Values may be plain JSON: they are converted to the type of the current value."""
    for name, value in overrides.items():
        module_name, _, constant = name.rpartition(".")
        module = import_module(module_name)
        assert hasattr(module, constant), f"{name} does not exist"
        kind = type(getattr(module, constant))
        if isinstance(value, Mapping) and issubclass(kind, msgspec.Struct):
            unknown = set(value) - set(kind.__struct_fields__)
            assert not unknown, f"{name} has no fields {sorted(unknown)}"
        setattr(module, constant, msgspec.convert(value, kind))
