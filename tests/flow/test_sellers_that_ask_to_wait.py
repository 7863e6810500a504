"""A seller that takes no order just now, and says when it will, is waited for if nobody else is left to be asked."""

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest

from tests.flow.asked import times
from tests.flow.configuration import SELLERS, VENDOR, Setup
from tests.flow.gateways import PROMPT, Flow, Job
from tests.flow.places import Kept, kept_on
from tests.vendors import Vendors

RUNS, RUN, RUNAPI, OPENAI = SELLERS
DEADLINE = 12.0


@pytest.fixture(scope="module")
def kept(sandbox_process: Vendors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    setup = Setup(jobs={"deadline_seconds": DEADLINE})
    with kept_on("sqlite", tmp_path_factory.mktemp("waiting"), sandbox_process, setup) as kept:
        yield kept


def busy(flow: Flow, seller: str, seconds: object, orders: int = 1, status: int = 429) -> None:
    headers = {"retry-after": str(seconds)}
    flow.sandbox.fault("status", vendor=VENDOR[seller], route="submit", status=status, headers=headers, times=orders)


def faults(job: Job) -> list[Any]:
    return [(one["seller"], one["fault"]) for one in job["attempts"]]


@pytest.mark.parametrize("seller", [RUNS, RUNAPI, OPENAI])
def test_only_seller_is_asked_again_when_it_said(flow: Flow, seller: str) -> None:
    busy(flow, seller, 2)
    job = flow.buy(seller)
    assert (job["status"], faults(job)) == ("completed", [(seller, "rate_limited"), (seller, None)])
    first, second = times(flow, seller)
    assert 2.0 <= second - first < 4.0
    assert len(flow.sandbox.charges()) == 1
    assert flow.gateway.metric("igw_failovers_total", before=seller, after=seller) == 0


def test_another_seller_is_asked_first(flow: Flow) -> None:
    busy(flow, RUNAPI, 2)
    job = flow.buy_first(RUNAPI)
    assert faults(job) == [(RUNAPI, "rate_limited"), (RUNS, None)]


def test_of_two_busy_sellers_the_one_that_is_free_first_is_asked_again(flow: Flow) -> None:
    busy(flow, RUNAPI, 4)
    busy(flow, RUNS, 1)
    job = flow.buy_first(RUNAPI)
    assert faults(job) == [(RUNAPI, "rate_limited"), (RUNS, "rate_limited"), (RUNS, None)]
    assert len(flow.sandbox.charges()) == 1


def test_no_more_orders_are_placed_than_the_policy_allows(flow: Flow) -> None:
    busy(flow, RUNAPI, 1, orders=10)
    answer = asked(flow, RUNAPI)
    assert answer.status_code == 503
    assert flow.orders(RUNAPI) == 3
    assert all(later - earlier >= 1.0 for earlier, later in pairwise(times(flow, RUNAPI)))
    assert answer.headers["retry-after"] == "1"
    assert "Retry in 1 seconds" in answer.json()["error"]["message"]
    assert flow.sandbox.charges() == []


def test_all_images_of_a_job_are_bought_once(flow: Flow) -> None:
    """RunAPI makes one image an order: each order is refused for itself, and asked for again."""
    busy(flow, RUNAPI, 1, orders=4)
    job = flow.buy(RUNAPI, n=4)
    assert (job["status"], len(job["images"])) == ("completed", 4)
    assert len(flow.sandbox.charges()) == 4


def test_seller_that_is_busy_beyond_the_deadline_is_not_waited_for(flow: Flow) -> None:
    """The last one: this seller takes no more orders for longer than the others would wait."""
    busy(flow, OPENAI, 40)
    began = time.monotonic()
    answer = asked(flow, OPENAI)
    assert time.monotonic() - began < DEADLINE / 2
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "40")
    assert answer.headers["x-igw-attempts"] == "1"
    assert "Nothing was bought" in answer.json()["error"]["message"]
    later = asked(flow, OPENAI)
    assert (later.status_code, later.headers["x-igw-attempts"]) == (503, "0"), "it is not even sent there"
    assert 30 <= int(later.headers["retry-after"]) <= 40
    assert flow.orders(OPENAI) == 1


def asked(flow: Flow, seller: str) -> httpx.Response:
    return flow.gateway.generate({"prompt": PROMPT, "quality": "low", "provider": {"only": [seller]}})
