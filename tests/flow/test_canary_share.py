"""A canary gets its share of the requests until all replicas see in the ledger what it has delivered."""

from collections.abc import Iterator

import pytest

from tests.flow.flow_config import OPENAI, RUNFLOW_RUNS, GatewaySetup
from tests.flow.gateway_on_store import run_replicas
from tests.flow.job_checks import get_attempted_sellers
from tests.flow.order_flow import FlowGateway, OrderFlow
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until
from tests.store.raw_store import RawStore

# The dearer seller is the canary. With all requests as its share, no draw decides.
CANARY = {"seller": RUNFLOW_RUNS, "share": "100%", "until": "6 images"}
POLICY = {"rank": "cost", "sellers": [OPENAI, RUNFLOW_RUNS], "canary": CANARY}
SETUP = GatewaySetup(policies={"careful": POLICY})


@pytest.fixture
def replicas(
    sandbox_process: RunningSandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[FlowGateway, FlowGateway, RawStore]]:
    with run_replicas(2, tmp_path_factory.mktemp("canary"), sandbox_process, SETUP) as ([first, second], raw):
        yield first, second, raw


def get_ranked(gateway: FlowGateway) -> list[tuple[str, str]]:
    """Returns the ranked sellers, and the last reason of each."""
    ranked = gateway.request_quote(quality="low", policy="careful")["ranked"]
    return [(entry["seller"], entry["reasons"][-1]) for entry in ranked]


@pytest.mark.thorough
def test_canary_is_ranked_normally_after_its_images(
    replicas: tuple[FlowGateway, FlowGateway, RawStore], sandbox: RunningSandbox
) -> None:
    first, second, raw = replicas
    flow = OrderFlow(first, sandbox, raw)
    assert get_attempted_sellers(flow.run_job(policy="careful", n=2)) == [RUNFLOW_RUNS]
    expected = "canary for 100% of the requests: 2 of 6 images delivered, 0 of 5 deliveries of this cell as ordered"
    for gateway in (first, second):
        wait_until(
            lambda gateway=gateway: get_ranked(gateway)[0] == (RUNFLOW_RUNS, expected), "both images are counted"
        )
    for _ in range(4):
        assert get_attempted_sellers(flow.run_job(policy="careful")) == [RUNFLOW_RUNS]
    for gateway in (first, second):
        wait_until(lambda gateway=gateway: get_ranked(gateway)[0][0] == OPENAI, "the canary has passed")
    assert get_attempted_sellers(flow.run_job(policy="careful", n=3)) == [OPENAI]


@pytest.mark.thorough
def test_canary_that_fails_for_nothing_stays_one(
    replicas: tuple[FlowGateway, FlowGateway, RawStore], sandbox: RunningSandbox
) -> None:
    """It has delivered its images, but not nine of ten that were ordered."""
    first, second, raw = replicas
    flow = OrderFlow(first, sandbox, raw)
    sandbox.inject_fault(vendor="runflow", kind="fail", times=1)
    assert get_attempted_sellers(flow.run_job(policy="careful")) == [RUNFLOW_RUNS, OPENAI]
    for _ in range(6):
        assert get_attempted_sellers(flow.run_job(policy="careful")) == [RUNFLOW_RUNS]
    expected = "canary for 100% of the requests: 1 of 7 ordered images not delivered"
    for gateway in (first, second):
        wait_until(lambda gateway=gateway: get_ranked(gateway)[0] == (RUNFLOW_RUNS, expected), "all are counted")
    labels = {"policy": "careful", "seller": RUNFLOW_RUNS}
    assert second.read_metric("igw_canary_delivered_ratio", **labels) == 1
    assert second.read_metric("igw_canary_passed", **labels) == 0
    for _ in range(3):
        flow.run_job(policy="careful")
    for gateway in (first, second):
        wait_until(lambda gateway=gateway: get_ranked(gateway)[0][0] == OPENAI, "the canary has passed")
    assert second.read_metric("igw_canary_passed", **labels) == 1
