"""What an account may take is never exceeded: orders queue for it, or go elsewhere when that takes too long."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.flow.asked import CLOCKS, at_once, sellers, times
from tests.flow.configuration import SELLERS, Setup
from tests.flow.gateways import Flow
from tests.flow.places import Kept, kept_on
from tests.vendors import Vendors

RUNS, RUN, RUNAPI, OPENAI = SELLERS
AT_ONCE, PER_MINUTE = 2, 3
MINUTE = 2.0
QUEUE_SECONDS = 0.5
SETUP = Setup(
    limits={"runapi": {"concurrency": AT_ONCE}, "openai": {"per_minute": PER_MINUTE}},
    constants={
        "gateway.engine.accepting.LEAST_PATIENCE": 60.0,
        "gateway.engine.buying.SUBMIT_SECONDS": 60.0,
        "gateway.engine.buying.SLOT_SECONDS": QUEUE_SECONDS,
        "gateway.upstream.lanes.MINUTE": MINUTE,
    },
)


@pytest.fixture(scope="module")
def kept(sandbox_process: Vendors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    with kept_on("sqlite", tmp_path_factory.mktemp("limits"), sandbox_process, SETUP) as kept:
        yield kept


def in_progress_at_most(flow: Flow, seller: str) -> int:
    """By the seller's own account: an order is in progress from when it arrived until it was charged."""
    begun = [(at, 1) for at in times(flow, seller)]
    ended = [(charge["at"], -1) for charge in flow.sandbox.charges(seller)]
    most = now = 0
    for _, step in sorted(begun + ended):
        now += step
        most = max(most, now)
    return most


def test_orders_queue_at_the_only_seller_and_never_more_than_allowed_are_in_progress(flow: Flow) -> None:
    flow.sandbox.latency(0.4, vendor="runapi")
    jobs = at_once(8, lambda: flow.buy(RUNAPI))
    assert [sellers(job) for job in jobs] == [[RUNAPI]] * 8
    assert {job["status"] for job in jobs} == {"completed"}
    assert in_progress_at_most(flow, RUNAPI) == AT_ONCE


def test_the_orders_of_one_job_queue_as_well(flow: Flow) -> None:
    flow.sandbox.latency(0.4, vendor="runapi")
    job = flow.buy(RUNAPI, n=5)
    assert [one["index"] for one in job["images"]] == [0, 1, 2, 3, 4]
    assert in_progress_at_most(flow, RUNAPI) == AT_ONCE


def test_an_order_that_has_queued_for_long_goes_to_the_next_seller(flow: Flow) -> None:
    flow.sandbox.latency(2.0, vendor="runapi")
    job = flow.buy_first(RUNAPI, n=3)
    assert Counter(one["seller"] for one in job["images"]) == {RUNAPI: AT_ONCE, RUNS: 1}
    [queued] = times(flow, RUNS)
    assert queued - min(times(flow, RUNAPI)) >= QUEUE_SECONDS - CLOCKS
    assert in_progress_at_most(flow, RUNAPI) == AT_ONCE


def test_a_job_that_comes_when_a_seller_is_full_does_not_queue_there_at_all(flow: Flow) -> None:
    flow.sandbox.latency(2.0, vendor="runapi")
    wishes = {"prompt": "x", "quality": "low", "n": AT_ONCE, "policy": f"first-{RUNAPI}"}
    filling = flow.gateway.ask(wishes, prefer="wait=0").json()
    flow.gateway.until("it is full", lambda: flow.orders(RUNAPI) == AT_ONCE)
    assert sellers(flow.buy_first(RUNAPI)) == [RUNS]
    assert sellers(flow.gateway.job(filling["id"])) == [RUNAPI] * AT_ONCE


def test_no_more_orders_a_minute_are_sent_than_allowed(flow: Flow) -> None:
    """From when an order may go until it arrives a moment passes, which may be longer for the first than the last."""
    jobs = at_once(2 * PER_MINUTE + 1, lambda: flow.buy(OPENAI))
    assert {job["status"] for job in jobs} == {"completed"}
    at = times(flow, OPENAI)
    assert len(at) == len(jobs)
    for first in range(len(at) - PER_MINUTE):
        assert at[first + PER_MINUTE] - at[first] > MINUTE / 2
