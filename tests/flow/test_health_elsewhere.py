"""Two replicas on one Redis: what one learns of a seller's health, the other obeys; both say so. Pauses are the real
ones, so whatever is shut stays shut: each test breaks something of its own."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.flow.asked import sellers
from tests.flow.configuration import KEY, SELLERS, Setup
from tests.flow.gateways import Flow, Gateway
from tests.flow.places import replicas
from tests.store.raw import Raw
from tests.vendors import Vendors

RUNS, RUN, RUNAPI, OPENAI = SELLERS
CELL = {"model": "gpt-image-2", "operation": "generate", "resolution": "1k", "quality": "low"}
SETUP = Setup(constants={"gateway.upstream.ailing.REFUSED": None, "gateway.upstream.ailing.DOWN": None})
# In which a replica hears of the other, which it should within one.
SECONDS = 10.0


@pytest.fixture(scope="module")
def pair(sandbox_process: Vendors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Gateway, Raw]]:
    with replicas(2, tmp_path_factory.mktemp("pair"), sandbox_process, SETUP) as ([one, two], raw):
        yield one, two, raw


@pytest.fixture
def flows(pair: tuple[Gateway, Gateway, Raw], sandbox: Vendors) -> Iterator[tuple[Flow, Flow]]:
    one, two, raw = pair
    here, there = (Flow(gateway, sandbox, raw, rested=False) for gateway in (one, two))
    yield here, there
    two.until_idle()
    here.check_books()


def signals(gateway: Gateway, seller: str) -> dict[tuple[str, str, str], bool]:
    """Whether each of its cells of which anything is known is healthy."""
    answer = gateway.http.get("/v1/signals", headers={"authorization": f"Bearer {KEY}"}).raise_for_status()
    found: list[dict[str, Any]] = [one for one in answer.json()["data"] if one["seller"] == seller]
    return {
        (one["operation"], one["resolution"], one["quality"]): one["healthy"]
        for one in found
        if one["model"] == CELL["model"]
    }


def is_shut(gateway: Gateway, seller: str) -> bool:
    known = signals(gateway, seller)
    return bool(known) and not any(known.values())


def cells(gateway: Gateway, seller: str, **labels: str) -> float:
    """How many are healthy by the metrics."""
    return gateway.metric("igw_cell_healthy", seller=seller, **labels)


def test_an_account_that_refuses_our_key_is_asked_no_more_by_any_replica(flows: tuple[Flow, Flow]) -> None:
    here, there = flows
    before = cells(here.gateway, OPENAI)
    here.sandbox.fault("status", vendor="openai", status=401)
    assert sellers(here.buy_first(OPENAI)) == [OPENAI, RUNAPI]
    there.gateway.until("it is heard there", lambda: is_shut(there.gateway, OPENAI), SECONDS)
    for flow in (here, there, here, there):
        assert sellers(flow.buy_first(OPENAI)) == [RUNAPI]
        assert is_shut(flow.gateway, OPENAI)
        assert cells(flow.gateway, OPENAI) == 0 < before
    assert here.orders(OPENAI) == 1


def test_a_cell_that_fails_is_passed_over_by_every_replica_and_its_neighbours_are_not(
    flows: tuple[Flow, Flow],
) -> None:
    here, there = flows
    cell = ("generate", "1k", "low")
    healthy = cells(there.gateway, RUNS)
    here.sandbox.fault("fail", vendor="runflow", times=5)
    for _ in range(5):
        assert sellers(here.buy_first(RUNS)) == [RUNS, RUNAPI]
    there.gateway.until("it is heard there", lambda: signals(there.gateway, RUNS).get(cell) is False, SECONDS)
    for flow in (here, there):
        assert sellers(flow.buy_first(RUNS)) == [RUNAPI]
        assert sellers(flow.buy_first(RUNS, quality="medium")) == [RUNS]
        assert [name for name, is_well in signals(flow.gateway, RUNS).items() if not is_well] == [cell]
        assert cells(flow.gateway, RUNS, **CELL) == 0
        assert cells(flow.gateway, RUNS) == healthy - 1
    assert here.orders(RUNS) == 5 + 2


def test_the_only_seller_is_used_though_it_is_unhealthy_and_a_success_opens_it_for_all(
    flows: tuple[Flow, Flow],
) -> None:
    here, there = flows
    here.sandbox.balance("runapi", "0")
    job = here.buy(RUNAPI)
    assert job["error"]["code"] == "sellers_unavailable"
    there.gateway.until("it is heard there", lambda: is_shut(there.gateway, RUNAPI), SECONDS)
    assert there.buy(RUNAPI)["error"]["code"] == "sellers_unavailable"
    here.sandbox.balance("runapi", "100")

    def is_well_here() -> bool:
        """A success within two seconds of its shutting says little: replicas may differ about which came first."""
        assert there.buy(RUNAPI)["status"] == "completed"
        return all(signals(here.gateway, RUNAPI).values())

    here.gateway.until("what sells there is well here", is_well_here, SECONDS)
    for flow in (here, there):
        assert all(signals(flow.gateway, RUNAPI).values())
        assert sellers(flow.buy_first(RUNAPI)) == [RUNAPI]
