"""An account with a proxy: orders, polls and downloads all go through it."""

import pytest

from tests.flow.account_edits import configure_proxy
from tests.flow.flow_config import SELLERS, VENDOR_BY_SELLER
from tests.flow.order_flow import OrderFlow
from tests.flow.recording_proxy import PROXIED_REQUEST, run_proxy
from tests.upstream.fake_proxies import BASIC_CREDENTIALS


@pytest.mark.parametrize("seller", SELLERS)
def test_all_requests_of_an_account_use_its_proxy(flow: OrderFlow, seller: str) -> None:
    with run_proxy() as (url, traffic):
        with configure_proxy(flow, VENDOR_BY_SELLER[seller], url):
            job = flow.order_images(seller)
            assert job["status"] == "completed"
            assert len(flow.fetch_images(job)) == 1
            flow.gateway.wait_until_idle()
        sent = [entry["method"] for entry in flow.sandbox.list_requests(VENDOR_BY_SELLER[seller])]
        assert sorted(sent) == sorted(method.decode() for method in PROXIED_REQUEST.findall(bytes(traffic)))
        assert traffic.count(BASIC_CREDENTIALS.encode()) == len(sent)


def test_account_with_unreachable_proxy_sends_nothing(flow: OrderFlow) -> None:
    with run_proxy() as (url, traffic):
        stopped_proxy_url = url
    with configure_proxy(flow, "runflow", stopped_proxy_url):
        job = flow.order_with_failover("runflow-run")
        flow.gateway.wait_until_idle()
    assert job["status"] == "completed"
    assert flow.sandbox.list_requests("runflow") == []
    assert flow.count_orders("runapi") == 1
    assert traffic == b""
