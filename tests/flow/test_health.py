"""Sellers that fail are asked no more while others sell; after a pause one order tries whether they are well again."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.flow.asked import at_once, gaps, sellers, times
from tests.flow.configuration import BACKUP, SELLERS, Setup
from tests.flow.gateways import Flow, Job
from tests.flow.places import Kept, kept_on
from tests.vendors import Vendors

RUNS, RUN, RUNAPI, OPENAI = SELLERS
PAUSE = 0.75
ASKED_TO_WAIT = 2.0
PAUSES = {"first": PAUSE, "most": 8 * PAUSE}
SETUP = Setup(
    constants={
        "gateway.upstream.ailing.REFUSED": PAUSES,
        "gateway.upstream.ailing.DOWN": PAUSES,
        "gateway.upstream.ailing.UNFAITHFUL": PAUSES,
        # Longer than any test waits: who rests for less does so because the seller has said for how long.
        "gateway.upstream.gates.USUAL_WAIT": 60.0,
        "gateway.engine.accepting.LEAST_PATIENCE": 60.0,
    }
)


@pytest.fixture(scope="module")
def kept(sandbox_process: Vendors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """Every test leaves all sellers well: what it has broken, it sees mended."""
    with kept_on("sqlite", tmp_path_factory.mktemp("health"), sandbox_process, SETUP) as kept:
        yield kept


def buy_until_it_sells(flow: Flow, seller: str, **wishes: str) -> list[Job]:
    """One job after the other, of which the last is this seller's; all others got their images elsewhere."""
    jobs: list[Job] = []

    def is_back() -> bool:
        jobs.append(flow.buy_first(seller, **wishes))
        [image] = jobs[-1]["images"]
        assert image["seller"] in (seller, BACKUP[seller])
        return bool(image["seller"] == seller)

    flow.gateway.until(f"{seller} sells again", is_back)
    return jobs


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_seller_that_refuses_our_key_is_left_alone_for_a_while(flow: Flow, status: int) -> None:
    flow.sandbox.fault("status", vendor="openai", status=status, times=1)
    assert sellers(flow.buy_first(OPENAI)) == [OPENAI, RUNAPI]
    *others, _ = buy_until_it_sells(flow, OPENAI)
    assert [sellers(job) for job in others] == [[RUNAPI]] * len(others)
    [gap] = gaps(times(flow, OPENAI))
    assert gap >= PAUSE


def test_a_trial_that_fails_shuts_an_account_for_longer(flow: Flow) -> None:
    flow.sandbox.fault("status", vendor="openai", status=401, times=2)
    buy_until_it_sells(flow, OPENAI)
    assert flow.buy_first(OPENAI)["images"][0]["seller"] == OPENAI
    first, second, _ = gaps(times(flow, OPENAI))
    assert first >= PAUSE
    assert second >= 2 * PAUSE


def due_for_a_trial(flow: Flow) -> None:
    """OpenAI's account was shut and its time is over; its next order takes longer than others need to be bought."""
    flow.sandbox.fault("status", vendor="openai", status=401, times=1)
    flow.buy_first(OPENAI)
    flow.gateway.until("it is due for a trial", flow.gateway.all_sellers_are_well)
    flow.sandbox.latency(3.0, vendor="openai")


def test_while_one_order_tries_whether_an_account_is_well_the_others_go_elsewhere(flow: Flow) -> None:
    due_for_a_trial(flow)
    trial = flow.gateway.ask({"prompt": "x", "quality": "low", "policy": f"first-{OPENAI}"}, prefer="wait=0").json()
    flow.gateway.until("the trial is out", lambda: flow.orders(OPENAI) == 2)
    assert [sellers(job) for job in at_once(5, lambda: flow.buy_first(OPENAI))] == [[RUNAPI]] * 5
    assert sellers(flow.gateway.job(trial["id"])) == [OPENAI]
    flow.sandbox.latency(0.0)
    assert sellers(flow.buy_first(OPENAI)) == [OPENAI]


def test_of_many_orders_at_once_only_one_tries_whether_an_account_is_well(flow: Flow) -> None:
    due_for_a_trial(flow)
    jobs = at_once(6, lambda: flow.buy_first(OPENAI))
    assert Counter(tuple(sellers(job)) for job in jobs) == {(OPENAI,): 1, (RUNAPI,): 5}


def test_a_cell_that_fails_five_times_in_a_row_is_left_alone_and_its_neighbours_are_not(flow: Flow) -> None:
    flow.sandbox.fault("fail", vendor="runflow", times=5)
    for _ in range(5):
        assert sellers(flow.buy_first(RUNS)) == [RUNS, RUNAPI]
    for wishes in ({"quality": "medium"}, {"size": "2048x2048"}):
        assert sellers(flow.buy_first(RUNS, **wishes)) == [RUNS]
    flow.sandbox.fault("fail", vendor="runflow", times=1)
    buy_until_it_sells(flow, RUNS)
    *failed, pause, longer_pause = gaps(times(flow, RUNS, '"low"', "1024"))
    assert len(failed) == 4
    assert pause >= PAUSE
    assert longer_pause >= 2 * PAUSE


def test_four_failures_in_a_row_shut_no_cell(flow: Flow) -> None:
    flow.sandbox.fault("fail", vendor="runflow", times=4)
    jobs = [flow.buy_first(RUNS, quality="high") for _ in range(5)]
    assert [sellers(job) for job in jobs] == [[RUNS, RUNAPI]] * 4 + [[RUNS]]


def test_a_seller_that_asks_us_to_wait_is_left_alone_for_as_long_as_it_says(flow: Flow) -> None:
    headers = {"Retry-After": str(round(ASKED_TO_WAIT))}
    flow.sandbox.fault("status", vendor="openai", status=429, headers=headers, times=1)
    assert sellers(flow.buy_first(OPENAI)) == [OPENAI, RUNAPI]
    buy_until_it_sells(flow, OPENAI)
    [gap] = gaps(times(flow, OPENAI))
    assert gap >= ASKED_TO_WAIT


def test_a_seller_of_smaller_pictures_loses_its_orders_and_gets_them_back_when_it_delivers_what_is_ordered(
    flow: Flow,
) -> None:
    """It is the cheapest, and every trial order of it is paid for, so there are few of them."""
    flow.sandbox.fault("downgrade", vendor="openai")
    jobs = [flow.ask() for _ in range(20)]
    firsts = [sellers(job) for job in jobs]
    enough = firsts.index([RUNS])
    assert 3 <= enough <= 6, "what it delivered in the tests before counts as well"
    assert flow.orders(OPENAI) <= enough + 3, "the trials of the first seconds"
    assert all(job["warnings"] == ["delivered 512x512, asked for 1024x1024"] for job in jobs[:enough])
    flow.sandbox.control("DELETE", "/faults")

    def is_back() -> bool:
        return sellers(flow.ask()) == [OPENAI]

    flow.gateway.until("it delivers what is ordered", is_back)
    assert [sellers(flow.ask()) for _ in range(3)] == [[OPENAI]] * 3


def test_the_only_seller_keeps_its_orders_whatever_it_delivers(flow: Flow) -> None:
    flow.sandbox.fault("downgrade", vendor="openai")
    jobs = [flow.buy(OPENAI, quality="medium") for _ in range(7)]
    assert [sellers(job) for job in jobs] == [[OPENAI]] * 7
    flow.sandbox.control("DELETE", "/faults")
    assert sellers(flow.buy(OPENAI, quality="medium")) == [OPENAI]
