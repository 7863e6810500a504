"""Extra orders, made because others failed, are few: when they are used up, a part fails instead of being reordered.

In this gateway's life a minute lasts as long as all tests do, so what is used up stays used up.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.flow.asked import sellers
from tests.flow.configuration import SELLERS, Setup
from tests.flow.gateways import Flow, Job
from tests.flow.places import Kept, kept_on
from tests.vendors import Vendors

RUNS, RUN, RUNAPI, OPENAI = SELLERS
ALLOWED = 3
MANY = 10
HELD_BACK_SECONDS = 2.0
# More than the time that a machine with other work may take, less than anybody would wait for a part of a job.
GENEROUS_SECONDS = 15.0
SETUP = Setup(
    constants={
        "gateway.upstream.limits.EXTRA_AT_LEAST": None,
        "gateway.upstream.limits.MINUTE": 3_600.0,
        "gateway.upstream.ailing.REFUSED": None,
    }
)
Bought = tuple[Job, float]


@pytest.fixture(scope="module")
def kept(sandbox_process: Vendors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    with kept_on("sqlite", tmp_path_factory.mktemp("extra-orders"), sandbox_process, SETUP) as kept:
        yield kept


@pytest.fixture(scope="module")
def spent(kept: Kept, sandbox_process: Vendors) -> list[Bought]:
    """The jobs that used up what is allowed, and the one that came too late, each with the seconds that it took."""
    sandbox_process.reset()
    sandbox_process.fault("refuse", vendor="runflow")
    flow = Flow(kept[0], sandbox_process, kept[1])
    jobs = [timed(flow, n=MANY if number == 0 else 1) for number in range(ALLOWED + 1)]
    flow.check_books()
    return jobs


def timed(flow: Flow, **wishes: Any) -> Bought:
    began = time.monotonic()
    return flow.buy_first(RUNS, **wishes), time.monotonic() - began


@pytest.fixture
def flow(spent: list[Bought], kept: Kept, sandbox: Vendors) -> Iterator[Flow]:
    """Of a gateway that may not make any extra order."""
    flow = Flow(kept[0], sandbox, kept[1], rested=False)
    yield flow
    flow.check_books()


def test_some_extra_orders_are_made_however_few_orders_there_were(spent: list[Bought]) -> None:
    for job, _ in spent[1:ALLOWED]:
        assert sellers(job) == [RUNS, RUNAPI]
        assert job["status"] == "completed"


def test_all_that_a_job_orders_elsewhere_counts_as_one(kept: Kept, spent: list[Bought]) -> None:
    """The first of the jobs: three orders are refused, and ten take their place at a seller that makes one at once."""
    job, _ = spent[0]
    assert sellers(job) == [RUNS] * 3 + [RUNAPI] * MANY, job["attempts"]
    assert len(job["images"]) == MANY


def test_beyond_them_a_part_waits_a_little_and_then_fails_with_what_its_seller_said(spent: list[Bought]) -> None:
    job, seconds = spent[ALLOWED]
    assert sellers(job) == [RUNS]
    assert job["status"] == "failed"
    assert job["error"]["code"] == "order_refused"
    assert HELD_BACK_SECONDS <= seconds < HELD_BACK_SECONDS + GENEROUS_SECONDS


def test_first_orders_are_never_held_back(flow: Flow) -> None:
    jobs = [timed(flow) for _ in range(3)]
    assert [sellers(job) for job, _ in jobs] == [[RUNS]] * 3
    assert {job["status"] for job, _ in jobs} == {"completed"}
    assert min(seconds for _, seconds in jobs) < HELD_BACK_SECONDS


def test_what_a_seller_leaves_out_is_missing_and_the_rest_is_delivered(flow: Flow) -> None:
    flow.sandbox.fault("partial", vendor="runflow", missing=1, times=1)
    job, _ = timed(flow, n=4)
    assert sellers(job) == [RUNS]
    assert job["status"] == "completed"
    assert [one["index"] for one in job["images"]] == [0, 1, 2]
    assert any("3 of 4" in warning for warning in job["warnings"])


def test_leaving_a_seller_that_is_shut_is_no_extra_order(flow: Flow) -> None:
    flow.sandbox.fault("status", vendor="openai", status=401)
    job = flow.buy_first(OPENAI)
    assert sellers(job) == [OPENAI, RUNAPI]
    assert job["status"] == "completed"


def test_an_account_that_asks_us_to_wait_is_left_without_an_extra_order(flow: Flow) -> None:
    """Orders that were on their way together all come back: each of them goes elsewhere."""
    flow.sandbox.fault("status", vendor="runflow", status=429, headers={"Retry-After": "2"}, times=1)
    job, _ = timed(flow)
    assert sellers(job) == [RUNS, RUNAPI]
    assert job["status"] == "completed"
    flow.gateway.until("it may be asked again", lambda: sellers(flow.buy_first(RUNS)) == [RUNS])
