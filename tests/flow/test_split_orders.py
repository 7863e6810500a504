"""A policy splits a request for many images over two sellers at once, and each part fails over by itself."""

from tests.flow.flow_config import OPENAI, RUNAPI, RUNFLOW_RUNS, GatewaySetup
from tests.flow.gateway_on_store import make_gateway_fixture
from tests.flow.job_checks import get_attempted_sellers
from tests.flow.order_flow import OrderFlow

SELLERS = [RUNFLOW_RUNS, RUNAPI, OPENAI]
POLICY = {"rank": "listed", "sellers": SELLERS, "split": {"over": 3, "sellers": 2}}
gateway_and_store = make_gateway_fixture(GatewaySetup(policies={"both": POLICY}))


def test_two_sellers_make_the_images_of_one_request(flow: OrderFlow) -> None:
    assert flow.gateway.request_quote(quality="low", policy="both", n=5)["split"] == [3, 2]
    job = flow.run_job(policy="both", n=5)
    assert job["status"] == "completed"
    assert len(flow.fetch_images(job)) == 5
    assert sorted(get_attempted_sellers(job)) == [RUNAPI, RUNAPI, RUNFLOW_RUNS]
    assert flow.sum_ledger_by_line() == {(RUNFLOW_RUNS, "capture"): 27_000, (RUNAPI, "capture"): 120_000}


def test_small_request_goes_to_one_seller(flow: OrderFlow) -> None:
    assert get_attempted_sellers(flow.run_job(policy="both", n=3)) == [RUNFLOW_RUNS]


def test_part_of_a_failing_seller_goes_to_the_best_other_one(flow: OrderFlow) -> None:
    flow.sandbox.inject_fault("refuse", vendor="runapi", status=422, message="not today")
    job = flow.run_job(policy="both", n=4)
    assert job["status"] == "completed"
    assert set(get_attempted_sellers(job)) == {RUNFLOW_RUNS, RUNAPI}
    assert flow.sum_ledger_by_line() == {(RUNFLOW_RUNS, "capture"): 36_000}
