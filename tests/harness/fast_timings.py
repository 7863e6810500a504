"""Timeouts and intervals short enough for tests. A failure in one test must not affect the next.

python -m tests.harness.fast_timings serve --port 0 ...
"""

import ctypes
import signal
from importlib import import_module

from gateway.cli import main
from gateway.health.health_state import OpenDuration
from gateway.upstream.seller_client import CallOptions

PR_SET_PDEATHSIG = 1
# The minimum time for an order, and the time for finding an order whose response was lost.
ATTEMPT_TIMEOUT_SECONDS = 2.0
RECONCILE_SECONDS = 2.0
CLOSE_AT_ONCE = OpenDuration(initial_seconds=0.0, max_seconds=0.0)

FAST_TIMINGS: dict[str, object] = {
    "gateway.engine.job_creation.MIN_ATTEMPT_TIMEOUT_SECONDS": ATTEMPT_TIMEOUT_SECONDS,
    # Equal to the attempt timeout: an order without a response is searched for when its time is over.
    "gateway.engine.order_submitter.SUBMIT_TIMEOUT_SECONDS": ATTEMPT_TIMEOUT_SECONDS,
    "gateway.engine.result_fetcher.MIN_BACKOFF_SECONDS": 0.02,
    "gateway.engine.result_fetcher.MAX_BACKOFF_SECONDS": 0.5,
    "gateway.engine.order_queries.QUERY_OPTIONS": CallOptions(timeout_seconds=0.4),
    "gateway.engine.poll_schedule.MISSING_ORDER_GRACE_SECONDS": 0.5,
    "gateway.engine.order_tracker.MIN_RESEND_BACKOFF_SECONDS": 0.1,
    "gateway.engine.order_tracker.SEARCH_INTERVAL_SECONDS": 0.1,
    "gateway.engine.poll_schedule.MIN_DELAY_SECONDS": 0.05,
    "gateway.jobs.next_actions.RECONCILE_TIMEOUT_SECONDS": RECONCILE_SECONDS,
    # Failures of one test neither block a seller nor slow down orders in the next one.
    "gateway.health.health_state.OUTAGE_OPEN_DURATION": CLOSE_AT_ONCE,
    "gateway.health.health_state.REFUSED_OPEN_DURATION": CLOSE_AT_ONCE,
    "gateway.health.health_state.UNFAITHFUL_OPEN_DURATION": CLOSE_AT_ONCE,
    "gateway.health.circuit_breaker.MIN_RETRY_AFTER_SECONDS": 0.05,
    "gateway.health.circuit_breaker.DEFAULT_RETRY_AFTER_SECONDS": 0.05,
    "gateway.health.concurrency_limiter.RECOVERY_INTERVAL_SECONDS": 0.05,
    "gateway.health.retry_budget.MIN_RETRIES": 10_000,
}


def apply_fast_timings() -> None:
    for name, value in FAST_TIMINGS.items():
        module_name, _, attribute = name.rpartition(".")
        module = import_module(module_name)
        assert hasattr(module, attribute), f"{name} does not exist"
        setattr(module, attribute, value)


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    apply_fast_timings()
    main()
