"""When orders reached their sellers."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

from tests.flow.flow_config import VENDOR_BY_SELLER
from tests.flow.order_flow import OrderFlow

T = TypeVar("T")
# The clocks of the sandbox and the gateway may differ by this much.
CLOCK_TOLERANCE_SECONDS = 0.1


def get_order_times(flow: OrderFlow, seller: str, *fragments: str) -> list[float]:
    """Returns the times of the vendor's orders whose body contains these fragments."""
    requests = flow.sandbox.list_requests(VENDOR_BY_SELLER[seller], "submit")
    return [entry["at"] for entry in requests if all(fragment in entry["body"] for fragment in fragments)]


def get_order_gaps(order_times: Sequence[float]) -> list[float]:
    return [later - earlier + CLOCK_TOLERANCE_SECONDS for earlier, later in pairwise(order_times)]


def run_concurrently(count: int, call: Callable[[], T]) -> list[T]:
    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(call) for _ in range(count)]]
