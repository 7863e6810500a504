"""A team limited to a region orders nowhere else: not by failover, nor by policies or filters of its requests."""

import pytest

from tests.flow.flow_config import BACKUP_BY_SELLER, OPENAI, OTHER_TEAM_KEY, RUNAPI, RUNFLOW_RUNS, GatewaySetup
from tests.flow.gateway_on_store import make_gateway_fixture
from tests.flow.job_checks import get_attempted_sellers
from tests.flow.order_flow import PROMPT, OrderFlow

gateway_and_store = make_gateway_fixture(
    GatewaySetup(account_regions={"runflow": "na", "runapi": "eu"}, team_regions=("eu",))
)


def test_failed_order_goes_to_no_seller_of_another_region(flow: OrderFlow) -> None:
    assert BACKUP_BY_SELLER[RUNAPI] == RUNFLOW_RUNS
    flow.sandbox.inject_fault("refuse", vendor="runapi", status=422, message="not today")
    answer = flow.gateway.post_job({"prompt": PROMPT, "quality": "low", "policy": f"failover-{RUNAPI}"})
    assert get_attempted_sellers(answer.json()) == [RUNAPI]
    assert answer.json()["status"] == "failed"
    assert flow.count_orders(RUNFLOW_RUNS) == flow.count_orders(OPENAI) == 0


def test_cheapest_seller_of_the_region_gets_the_order(flow: OrderFlow) -> None:
    """Both others are cheaper, and available to a team without regions."""
    assert get_attempted_sellers(flow.run_job()) == [RUNAPI]
    answer = flow.gateway.post_job({"prompt": PROMPT, "quality": "low"}, key=OTHER_TEAM_KEY)
    assert get_attempted_sellers(answer.json()) != [RUNAPI]


@pytest.mark.parametrize("seller", [RUNFLOW_RUNS, OPENAI])
def test_request_for_a_seller_elsewhere_is_refused_with_the_reason(flow: OrderFlow, seller: str) -> None:
    body = {"prompt": PROMPT, "quality": "low", "provider": {"only": [seller]}}
    answer = flow.gateway.post_job(body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "no_offer"
    region = "na" if seller == RUNFLOW_RUNS else "unknown"
    assert f"in region {region}, allowed is eu" in answer.json()["error"]["message"]
    assert flow.count_orders(seller) == 0
