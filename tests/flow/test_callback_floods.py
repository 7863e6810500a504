"""Many callbacks to one attempt are counted; they cause at most one poll per second and few log lines."""

import hashlib
import hmac
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from sandbox.runapi.callbacks import CALLBACK_SECRET
from tests.flow.callback_url_edits import change_callback_url, get_callback_url
from tests.flow.flow_config import RUNAPI, RUNFLOW_RUNS, SLOW_MODEL
from tests.flow.gateway_on_store import run_replicas
from tests.flow.job_checks import expect_one_capture
from tests.flow.order_flow import FlowGateway, OrderFlow
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.signed_callbacks import sign_runapi_callback
from tests.harness.wait import wait_until
from tests.store.raw_store import RawStore

CALL_COUNT = 300
ON_SQLITE_ONLY = pytest.mark.parametrize("gateway_and_store", ["sqlite"], indirect=True)


def sign_callback(callback_id: str, body: bytes, secret: str = CALLBACK_SECRET) -> tuple[bytes, dict[str, str]]:
    return body, sign_runapi_callback(body, callback_id, secret)


def post_callbacks(url: str, calls: Sequence[tuple[bytes, dict[str, str]]]) -> list[int]:
    with httpx.Client(trust_env=False, timeout=30) as client, ThreadPoolExecutor(8) as threads:
        return list(
            threads.map(
                lambda body_and_headers: (
                    client.post(url, content=body_and_headers[0], headers=body_and_headers[1]).status_code
                ),
                calls,
            )
        )


def count_callbacks(flow: OrderFlow, outcome: str) -> float:
    return flow.gateway.read_metric("igw_callbacks_total", outcome=outcome)


@pytest.fixture
def callback_url(flow: OrderFlow) -> Iterator[str]:
    yield from place_slow_order(flow)


def place_slow_order(flow: OrderFlow) -> Iterator[str]:
    """Yields the callback URL of a held order, which is not polled unless a callback arrives. At the end it is
    released."""
    flow.sandbox.hold_orders()
    flow.sandbox.inject_fault("no_callback", vendor="runapi")
    job_id = flow.start_job(provider={"only": [RUNAPI]}, model=SLOW_MODEL)
    wait_until(
        lambda: any(order["body"] for order in flow.sandbox.list_requests("runapi", "submit")),
        "the sandbox has read the order",
    )
    callback_address = get_callback_url(flow, RUNAPI)
    yield callback_address
    flow.sandbox.release_orders()
    # A callback after completion causes a poll within a second.
    assert post_callbacks(callback_address, [sign_callback("the end", b"{}")]) == [204]
    expect_one_capture(flow, RUNAPI, flow.gateway.get_job(job_id))


def count_polls(flow: OrderFlow) -> int:
    return len(flow.sandbox.list_requests("runapi", "poll"))


@ON_SQLITE_ONLY
def test_replays_of_one_callback_cause_one_poll(flow: OrderFlow, callback_url: str) -> None:
    duplicates_before = count_callbacks(flow, "duplicate")
    callback = sign_callback("again and again", b'{"status": "completed"}')
    assert post_callbacks(callback_url, [callback] * CALL_COUNT) == [204] * CALL_COUNT
    wait_until(lambda: count_polls(flow) >= 1, "the order is polled")
    assert count_polls(flow) == 1
    assert count_callbacks(flow, "duplicate") == duplicates_before + CALL_COUNT - 1


@ON_SQLITE_ONLY
def test_different_callbacks_cause_one_poll_per_second(flow: OrderFlow, callback_url: str) -> None:
    accepted_before, began = count_callbacks(flow, "accepted"), time.monotonic()
    calls = [sign_callback(f"number {number}", b"{}") for number in range(CALL_COUNT)]
    assert post_callbacks(callback_url, calls) == [204] * CALL_COUNT
    assert count_polls(flow) <= 2 + (time.monotonic() - began)
    assert count_callbacks(flow, "accepted") == accepted_before + CALL_COUNT


@pytest.fixture(scope="module")
def replica_pair(
    sandbox_process: RunningSandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[FlowGateway, FlowGateway, RawStore]]:
    with run_replicas(2, tmp_path_factory.mktemp("pair"), sandbox_process) as ([first, second], raw):
        yield first, second, raw


@pytest.mark.thorough
def test_replays_at_another_replica_cause_one_poll_by_the_job_worker(
    replica_pair: tuple[FlowGateway, FlowGateway, RawStore], sandbox: RunningSandbox
) -> None:
    first, second, raw = replica_pair
    flow, other_flow = OrderFlow(first, sandbox, raw), OrderFlow(second, sandbox, raw)
    duplicates_before = count_callbacks(other_flow, "duplicate")
    callback = sign_callback("again and again", b'{"status": "completed"}')
    for address in place_slow_order(flow):
        assert post_callbacks(address.replace(first.url, second.url), [callback] * CALL_COUNT) == [204] * CALL_COUNT
        wait_until(lambda: count_polls(flow) == 1, "the job worker polls")
        assert count_callbacks(other_flow, "duplicate") == duplicates_before + CALL_COUNT - 1
        time.sleep(1.2)
        assert count_polls(flow) == 1


def test_replays_at_another_replica_cause_one_poll_per_second_while_polls_fail(
    replica_pair: tuple[FlowGateway, FlowGateway, RawStore], sandbox: RunningSandbox
) -> None:
    first, second, raw = replica_pair
    flow, secret = OrderFlow(first, sandbox, raw), "whsec_abc"
    for replica in replica_pair[:2]:
        replica.callback_secret_path.write_text(secret)
        replica.reload_config()
    try:
        sandbox.hold_orders()
        sandbox.inject_fault("no_callback", vendor="runflow")
        sandbox.hold_responses("runflow")
        sandbox.inject_fault("status", vendor="runflow", route="poll", status=503)
        flow.start_job(provider={"only": [RUNFLOW_RUNS]}, model=SLOW_MODEL)
        wait_until(
            lambda: any(order["body"] for order in sandbox.list_requests("runflow", "submit")),
            "the sandbox has read the order",
        )
        address = get_callback_url(flow, RUNFLOW_RUNS).replace(first.url, second.url)
        body = b'{"id": "018f0000-0000-7000-8000-000000000001", "status": "completed"}'
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        began = time.monotonic()
        post_callbacks(
            address, [(body, {"runflow-signature": signature, "content-type": "application/json"})] * CALL_COUNT
        )
        assert len(sandbox.list_requests("runflow", "poll")) <= 2 + (time.monotonic() - began)
    finally:
        sandbox.call_control_route("DELETE", "/faults")
        sandbox.release_orders()
        first.wait_until_idle()


@ON_SQLITE_ONLY
def test_forged_callbacks_are_counted_and_logged_once(flow: OrderFlow) -> None:
    flow.order_images(RUNAPI)
    address = get_callback_url(flow, RUNAPI)
    forged_before, unknown_before, lines_before = (
        count_callbacks(flow, "forged"),
        count_callbacks(flow, "unknown"),
        len(read_callback_log_lines(flow)),
    )
    forged_callback = sign_callback("x", b"{}", "bm9ib2R5")
    assert post_callbacks(address, [forged_callback] * CALL_COUNT) == [401] * CALL_COUNT
    assert (
        post_callbacks(change_callback_url(address, signature="0" * 32), [forged_callback] * CALL_COUNT)
        == [401] * CALL_COUNT
    )
    assert (count_callbacks(flow, "forged"), count_callbacks(flow, "unknown")) == (
        forged_before + CALL_COUNT,
        unknown_before + CALL_COUNT,
    )
    time.sleep(0.2)
    assert len(read_callback_log_lines(flow)) - lines_before <= 2


def read_callback_log_lines(flow: OrderFlow) -> list[dict[str, object]]:
    """Returns the log lines that mention callbacks."""
    return [line for line in flow.gateway.read_log_lines() if "callback" in json.dumps(line)]
