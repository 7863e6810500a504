"""A batch whose completion window ends delivers what runs, and orders nothing more."""

from tests.flow.flow_config import API_KEY, RUNAPI, GatewaySetup
from tests.flow.gateway_on_store import make_gateway_fixture
from tests.flow.order_flow import OrderFlow
from tests.harness.batch_client import (
    count_results,
    create_batch,
    make_line,
    make_sdk_client,
    read_results,
    wait_for_end,
)
from tests.harness.timings import FAST_TIMINGS, change_timing
from tests.harness.wait import wait_until

WINDOW_SECONDS, CONCURRENCY = 4.0, 4
SETUP = GatewaySetup(
    account_limits={"runapi": {"concurrency": CONCURRENCY}},
    timing=change_timing(FAST_TIMINGS, api={"batch_window_seconds": WINDOW_SECONDS}),
)


gateway_and_store = make_gateway_fixture(SETUP)


def test_expired_batch_delivers_running_orders_only(flow: OrderFlow) -> None:
    """Half of the account's slots are the batch's, so that two of its orders run when the window ends."""
    flow.sandbox.hold_orders(vendor="runapi")
    with make_sdk_client(flow.gateway.url, API_KEY) as client:
        lines = (make_line(number, provider={"only": [RUNAPI]}) for number in range(40))
        batch = create_batch(client, lines)
        wait_until(lambda: client.batches.retrieve(batch.id).status == "in_progress", "the batch runs")
        wait_until(lambda: count_results(client.batches.retrieve(batch.id))[2] > 0, "the completion window ends")
        flow.sandbox.release_orders(vendor="runapi")
        ended = wait_for_end(client, batch)
        assert (ended.status, count_results(ended)) == ("expired", (40, CONCURRENCY // 2, 40 - CONCURRENCY // 2))
        assert ended.expired_at is not None
        assert len(read_results(client, ended.output_file_id)) == CONCURRENCY // 2
        errors = read_results(client, ended.error_file_id).values()
    assert {line["error"]["code"] for line in errors if line["error"]} == {"batch_expired"}
    assert len(flow.sandbox.list_charges("runapi")) == CONCURRENCY // 2
