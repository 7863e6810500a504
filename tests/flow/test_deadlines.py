"""A job's deadline passes: the team is told what is there by then, and whatever comes later is booked all the same."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.flow.asked import sellers
from tests.flow.configuration import SELLERS, Setup
from tests.flow.gateways import Flow, Job
from tests.flow.places import STORES, Kept, kept_on
from tests.flow.test_orders_under_fault import PRICE
from tests.vendors import Vendors

RUNS, RUN, RUNAPI, OPENAI = SELLERS
DEADLINE, LATER, PATIENCE = 2.0, 3.0, 4.5
SETUP = Setup(
    jobs={"deadline_seconds": DEADLINE},
    limits={"openai": {"concurrency": 1}},
    constants={
        "gateway.engine.accepting.LEAST_PATIENCE": PATIENCE,
        "gateway.engine.buying.SUBMIT_SECONDS": 60.0,
    },
)
ON_BOTH = pytest.mark.parametrize("kept", STORES, indirect=True, scope="module")


@pytest.fixture(scope="module")
def kept(
    request: pytest.FixtureRequest, sandbox_process: Vendors, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kept]:
    store = getattr(request, "param", "sqlite")
    with kept_on(store, tmp_path_factory.mktemp("deadlines"), sandbox_process, SETUP) as kept:
        yield kept


def told(job: Job) -> tuple[str, str]:
    return job["status"], job["error"]["code"]


@ON_BOTH
def test_pictures_that_come_after_the_deadline_are_an_orphan_whoever_made_them(flow: Flow) -> None:
    flow.sandbox.latency(LATER)
    with ThreadPoolExecutor(len(SELLERS)) as pool:
        jobs = list(pool.map(flow.buy, SELLERS))
    assert [told(job) for job in jobs] == [("expired", "outcome_unknown")] * 4
    assert flow.invoiced() == {}
    assert flow.booked() == {(seller, "orphan"): PRICE[seller] for seller in SELLERS}
    later = [flow.gateway.job(job["id"]) for job in jobs]
    assert [(*told(job), job["images"], job["usage"]["cost"]) for job in later] == [
        ("expired", "paid_not_delivered", [], 0)
    ] * 4


def test_a_job_that_is_partly_there_completes_at_its_deadline(flow: Flow) -> None:
    flow.sandbox.fault("slow", vendor="runapi", route="submit", seconds=LATER, times=1)
    job = flow.buy(RUNAPI, n=3)
    assert job["status"] == "completed"
    assert len(flow.pictures(job)) == 2
    assert any("2 of 3" in warning for warning in job["warnings"])
    assert flow.booked() == {(RUNAPI, "capture"): 2 * PRICE[RUNAPI], (RUNAPI, "orphan"): PRICE[RUNAPI]}


def test_an_order_that_never_ends_is_suspected_after_its_own_deadline(flow: Flow) -> None:
    flow.sandbox.fault("stuck", vendor="runflow")
    assert told(flow.buy(RUNS)) == ("expired", "outcome_unknown")
    flow.never_charged["runflow"] = PRICE[RUNS]
    assert flow.booked() == {(RUNS, "suspected"): PRICE[RUNS]}


def test_an_order_that_fails_after_the_deadline_costs_nothing_and_is_not_made_elsewhere(flow: Flow) -> None:
    flow.sandbox.latency(LATER, vendor="runflow")
    flow.sandbox.fault("fail", vendor="runflow")
    job = flow.buy_first(RUNS)
    assert told(job) == ("expired", "outcome_unknown")
    assert flow.booked() == {}
    assert told(flow.gateway.job(job["id"])) == ("expired", "deadline_exceeded"), "nothing was bought, as it turned out"
    assert flow.orders(RUNAPI) == 0


@pytest.mark.parametrize(
    "seller",
    [RUN, RUNS],
)
def test_pictures_that_are_being_fetched_at_the_deadline_are_delivered(flow: Flow, seller: str) -> None:
    """They are paid for: only their own expiry ends the waiting for them."""
    flow.sandbox.fault("slow", vendor="runflow", route="download", seconds=LATER)
    job = flow.buy(seller)
    assert job["status"] == "completed"
    assert job["finished_at"] > job["deadline_at"]
    assert flow.booked() == {(seller, "capture"): PRICE[seller]}


def test_a_job_that_has_queued_until_its_deadline_is_ordered_nowhere(flow: Flow) -> None:
    flow.sandbox.latency(1.75 * DEADLINE, vendor="openai")
    wishes = {"prompt": "a lighthouse at dawn", "quality": "low", "provider": {"only": [OPENAI]}}
    first = flow.gateway.ask(wishes, prefer="wait=0").json()
    flow.gateway.until("it is ordered", lambda: flow.orders(OPENAI) == 1)
    queued = flow.buy(OPENAI)
    assert told(queued) == ("expired", "deadline_exceeded")
    assert told(flow.gateway.job(first["id"])) == ("expired", "outcome_unknown")
    assert sellers(queued) == []
    assert flow.booked() == {(OPENAI, "orphan"): PRICE[OPENAI]}
    assert flow.orders(OPENAI) == 1
