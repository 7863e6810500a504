"""What sellers were asked for, and when."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

from tests.flow.configuration import VENDOR
from tests.flow.gateways import Flow, Job

T = TypeVar("T")
# The sandbox and the gateway each have a clock.
CLOCKS = 0.1


def times(flow: Flow, seller: str, *words: str) -> list[float]:
    """Of the orders at this seller's vendor in which these words stand."""
    asked = flow.sandbox.requests(VENDOR[seller], "submit")
    return [entry["at"] for entry in asked if all(word in entry["body"] for word in words)]


def gaps(times: Sequence[float]) -> list[float]:
    return [later - earlier + CLOCKS for earlier, later in pairwise(times)]


def at_once(number: int, work: Callable[[], T]) -> list[T]:
    with ThreadPoolExecutor(number) as pool:
        return [one.result() for one in [pool.submit(work) for _ in range(number)]]


def sellers(job: Job) -> list[str]:
    """Whose orders were tried, one after the other."""
    return [attempt["seller"] for attempt in job["attempts"]]
