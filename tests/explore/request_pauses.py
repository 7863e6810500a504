"""The pauses between requests about one order: a worker asks a seller neither without pause nor too rarely."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from tests.explore.replica import World
from tests.explore.sellers_config import TIMING

BURST_SECONDS = 2.0
# Polls at the shortest interval, by two replicas, and those that callbacks cause.
MAX_BURST = round(BURST_SECONDS / TIMING.polls.min_interval_seconds) + 10
# The time until the answer to a request, and what a worker needs until the next one.
ANSWER_SECONDS = TIMING.orders.query_timeout_seconds + 1.0


def list_request_bursts(world: World) -> Iterator[str]:
    polls = defaultdict[str, list[float]](list)
    for order in world.sellers.orders.values():
        polls[order.call.reference] += [asked_at for asked_at, _ in order.queries]
    for requests in world.sellers.arrivals, world.sellers.searches, polls:
        for reference, times in requests.items():
            if _has_burst(times):
                yield f"too many requests: more than {MAX_BURST} about {reference} within {BURST_SECONDS:g} s"


def _has_burst(times: Sequence[float]) -> bool:
    return any(last - first < BURST_SECONDS for first, last in zip(times, times[MAX_BURST:], strict=False))


def find_search_pause(times: Sequence[float]) -> float | None:
    """Finds a pause between searches that is too long. The last time is the end of the search."""
    max_seconds = TIMING.jobs.search_interval_seconds + ANSWER_SECONDS
    return next((later - earlier for earlier, later in pairwise(times) if later - earlier > max_seconds), None)


def find_resend_pause(times: Sequence[float]) -> float | None:
    """Finds a pause between repetitions of an order that is too long: the backoff doubles after each. The last time is
    the end."""
    backoff = TIMING.orders.min_resend_backoff_seconds
    for earlier, later in pairwise(times):
        if later - earlier > backoff + ANSWER_SECONDS:
            return later - earlier
        backoff = min(backoff * 2, TIMING.orders.max_resend_backoff_seconds)
    return None
