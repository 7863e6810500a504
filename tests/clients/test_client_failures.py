"""Every client when something fails: its errors, and its repeated requests."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from tests.clients.client_table import Capability
from tests.clients.contract import RunningClient, encode_files, expect_success, proves
from tests.harness.gateway_runner import API_KEY, RunningGateway
from tests.harness.key_admin import create_key
from tests.harness.sample_images import make_image
from tests.harness.tcp_proxy import run_tcp_proxy
from tests.harness.wait import wait_until

ROUTES = ("/v1/images/generations", "/v1/responses")


class ErrorCase(NamedTuple):
    """A request that fails: how to prepare it, what to send, and the error."""

    status: int
    code: str
    words: str
    params: Mapping[str, Any] = {}
    fault: dict[str, Any] | None = None
    key_options: dict[str, Any] | None = None
    key: str = API_KEY


ERRORS = (
    ErrorCase(400, "invalid_value", "multiples of 16", {"size": "17x17"}),
    ErrorCase(400, "moderation_blocked", "content filter", fault={"kind": "refuse_content"}),
    ErrorCase(401, "invalid_api_key", "Invalid API key", key="igw_nobody"),
    ErrorCase(403, "insufficient_scope", "lacks the scope", key_options={"scopes": ["read"]}),
    ErrorCase(404, "model_not_found", "Available: ", {"model": "no-such"}),
    ErrorCase(424, "paid_not_delivered", "you were not charged.", fault={"kind": "expired_url"}),
    ErrorCase(429, "rate_limit_exceeded", "Rate limit", key_options={"limits": {"requests_per_minute": 1}}),
    ErrorCase(
        503, "sellers_unavailable", "You were not charged.", fault={"kind": "status", "status": 503, "route": "submit"}
    ),
)
RETRIED_STATUSES = (429, 503)


def fail(client: RunningClient, gateway: RunningGateway, case: ErrorCase, **options: Any) -> dict[str, Any]:
    """Prepares the failure, and returns the client's error."""
    if case.fault is not None:
        gateway.sandbox.inject_fault(**case.fault)
    key = case.key if case.key_options is None else create_key(gateway, "sandbox", **case.key_options)["key"]
    if case.status == 429:
        expect_success(client.call("generate", key=key, params=client.make_params()))
    return client.fail_to_generate(key, **options, **case.params)


def count_requests(gateway: RunningGateway) -> float:
    return sum(gateway.read_metric("igw_http_request_seconds_count", route=route) for route in ROUTES)


@proves(Capability.ERRORS)
@pytest.mark.parametrize("case", ERRORS, ids=[case.code for case in ERRORS])
def test_error_has_status_and_message_and_is_not_repeated_if_final(
    client: RunningClient, fast_gateway: RunningGateway, case: ErrorCase
) -> None:
    before = count_requests(fast_gateway)
    options = {"max_retries": 0} if case.status in RETRIED_STATUSES else {}
    error = fail(client, fast_gateway, case, **options)
    assert error["status"] == case.status
    assert case.words in error["message"]
    assert error.get("code") in (case.code, None)
    assert count_requests(fast_gateway) - before == (2 if case.status == 429 else 1)


def lose_first_response(client: RunningClient, gateway: RunningGateway, operation: str, **arguments: Any) -> Any:
    """Cuts the connection of a request once it is ordered. Returns the result of the client's next request."""
    gateway.sandbox.hold_orders()
    with run_tcp_proxy(gateway.url) as proxy, ThreadPoolExecutor() as threads:
        call = {"url": proxy.url, "params": client.make_params(), "is_retried": True, **arguments}
        result = threads.submit(client.call, operation, **call)
        wait_until(lambda: not gateway.is_idle(), "the first request is ordered")
        proxy.cut_connections()
        wait_until(lambda: proxy.connection_count > 1 or result.done(), "the client repeats its request")
        gateway.sandbox.release_orders()
        return expect_success(result.result(timeout=30))


def count_settled_charges(gateway: RunningGateway) -> int:
    gateway.wait_until_idle()
    return len(gateway.sandbox.list_charges())


@proves(Capability.ONE_PURCHASE)
def test_repeated_generation_gets_the_first_purchase(client: RunningClient, fast_gateway: RunningGateway) -> None:
    before = count_settled_charges(fast_gateway)
    assert lose_first_response(client, fast_gateway, "generate")["data"]
    assert count_settled_charges(fast_gateway) - before == 1


@proves(Capability.ONE_EDIT)
def test_repeated_edit_gets_the_first_purchase(client: RunningClient, fast_gateway: RunningGateway) -> None:
    """The form of the repeated request may have another boundary."""
    before = count_settled_charges(fast_gateway)
    images = encode_files([make_image(300, 200), make_image(64, 64)])
    assert lose_first_response(client, fast_gateway, "edit", **images)["data"]
    assert count_settled_charges(fast_gateway) - before == 1


@proves(Capability.STREAM_ERRORS)
def test_error_within_a_stream_is_raised(client: RunningClient, fast_gateway: RunningGateway) -> None:
    """The order takes longer than the first heartbeat, with which the stream begins."""
    fast_gateway.sandbox.set_latency(0.8)
    fast_gateway.sandbox.inject_fault("expired_url")
    error = client.call("stream", params=client.make_params())["error"]
    assert (error.get("status"), error["code"]) == (None, "paid_not_delivered")
    assert "you were not charged." in error["message"]
