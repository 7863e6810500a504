"""A reload moves an account to another address while orders are on their way: they are known where they were placed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests import vendors
from tests.flow.asked import sellers
from tests.flow.configuration import SELLERS, VENDOR, Setup
from tests.flow.gateways import PROMPT, Flow, Job
from tests.flow.places import Kept, kept_on
from tests.flow.test_proxied import REQUEST, leaving_through, proxy
from tests.vendors import Vendors

RUNS, RUN, RUNAPI, OPENAI = SELLERS
SETUP = Setup(
    limits={"runapi": {"concurrency": 1}},
    constants={
        "gateway.engine.accepting.LEAST_PATIENCE": 60.0,
        "gateway.engine.buying.SUBMIT_SECONDS": 2.0,
        "gateway.engine.buying.SLOT_SECONDS": 20.0,
    },
)


@pytest.fixture(scope="module")
def kept(sandbox_process: Vendors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    with kept_on("sqlite", tmp_path_factory.mktemp("moved"), sandbox_process, SETUP) as kept:
        yield kept


@pytest.fixture(scope="module")
def elsewhere_process() -> Iterator[Vendors]:
    with vendors.running() as running:
        yield running


@pytest.fixture
def elsewhere(elsewhere_process: Vendors) -> Vendors:
    """Other vendors, at another address."""
    elsewhere_process.reset()
    return elsewhere_process


@contextmanager
def moved(flow: Flow, account: str, there: Vendors) -> Iterator[None]:
    accounts = flow.gateway.callback_secret.parent / "config" / "accounts.yaml"
    before = accounts.read_text()
    config = json.loads(before)
    config["accounts"][account]["base_url"] = config["accounts"][account]["base_url"].replace(
        flow.sandbox.url, there.url
    )
    accounts.write_text(json.dumps(config))
    try:
        flow.gateway.reload()
        yield
    finally:
        accounts.write_text(before)
        flow.gateway.reload()


def begun(flow: Flow, **wishes: object) -> str:
    """The name of a job that nobody waits for."""
    answer = flow.gateway.ask({"prompt": PROMPT, "quality": "low", **wishes}, prefer="wait=0")
    return str(answer.raise_for_status().json()["id"])


def has_ticket(flow: Flow, job: str) -> bool:
    return [attempt["state"] for attempt in flow.gateway.job(job, wait=0)["attempts"]] == ["ticketed"]


def ended(flow: Flow, job: str) -> Job:
    found = flow.gateway.job(job)
    flow.gateway.until_idle()
    return found


@pytest.mark.parametrize(
    ("seller", "fault"),
    [
        pytest.param(RUNAPI, {"kind": "hang", "accepted": True}, id="repeated with its key"),
        pytest.param(RUNS, {"kind": "hang", "accepted": True}, id="searched for"),
        pytest.param(RUNS, {"kind": "slow", "seconds": 1.0}, id="answered late"),
        pytest.param(RUN, {"kind": "slow", "seconds": 1.0}, id="answered with its picture"),
    ],
)
def test_an_order_whose_answer_is_awaited_is_looked_for_where_it_was_placed(
    flow: Flow, elsewhere: Vendors, seller: str, fault: dict[str, object]
) -> None:
    flow.sandbox.fault(vendor=VENDOR[seller], route="submit", times=1, **fault)  # type: ignore[arg-type]
    name = begun(flow, provider={"only": [seller]})
    flow.gateway.until("it is on its way", lambda: flow.orders(seller) == 1)
    with moved(flow, VENDOR[seller], elsewhere):
        job = ended(flow, name)
    assert (job["status"], sellers(job)) == ("completed", [seller])
    assert [len(one.charges()) for one in (flow.sandbox, elsewhere)] == [1, 0]
    assert elsewhere.requests(VENDOR[seller]) == []


@pytest.mark.parametrize("seller", [RUNAPI, RUNS])
def test_an_order_that_is_being_made_is_asked_about_where_it_was_placed(
    flow: Flow, elsewhere: Vendors, seller: str
) -> None:
    flow.sandbox.latency(1.5)
    name = begun(flow, provider={"only": [seller]})
    flow.gateway.until("it is taken", lambda: has_ticket(flow, name))
    with moved(flow, VENDOR[seller], elsewhere):
        assert ended(flow, name)["status"] == "completed"
    assert elsewhere.requests(VENDOR[seller]) == []


def one_made_and_one_queueing(flow: Flow) -> str:
    """A job of two orders at a seller that takes one at once."""
    flow.sandbox.latency(1.5, vendor="runapi")
    name = begun(flow, policy=f"first-{RUNAPI}", n=2)
    flow.gateway.until("the first is taken", lambda: has_ticket(flow, name))
    return name


def test_an_order_that_queued_while_its_seller_moved_is_placed_elsewhere(flow: Flow, elsewhere: Vendors) -> None:
    """What it was planned for is there no more; nothing new goes to the old address, and nothing old to the new one."""
    name = one_made_and_one_queueing(flow)
    with moved(flow, "runapi", elsewhere):
        assert sellers(ended(flow, name)) == [RUNAPI, RUNS]
    assert flow.orders(RUNAPI) == 1
    assert elsewhere.requests("runapi") == []


def test_orders_that_queue_and_that_are_being_made_follow_their_account_as_it_is_configured_now(flow: Flow) -> None:
    name = one_made_and_one_queueing(flow)
    with proxy() as (url, heard), leaving_through(flow, "runapi", url):
        assert sellers(ended(flow, name)) == [RUNAPI, RUNAPI]
    methods = [method.decode() for method in REQUEST.findall(bytes(heard))]
    # The second order, and questions about the first before it.
    assert methods.count("POST") == 1
    assert methods.index("POST") > 0


def test_new_jobs_are_bought_at_the_new_address(flow: Flow, elsewhere: Vendors) -> None:
    with moved(flow, "runapi", elsewhere):
        assert flow.buy(RUNAPI)["status"] == "completed"
        flow.gateway.until_idle()
    assert flow.orders(RUNAPI) == 0
    # On the invoice of the other sandbox, and not on that of the one that the books are compared with.
    flow.charged_twice["runapi"] = -sum(line["usd_micros"] for line in elsewhere.charges())
