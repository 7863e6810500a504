"""Clients with automatic retries buy once, however a request ends.

The clients are OpenAI's SDKs, and one that decides by the status alone. `bench.client_retries` measures more of them.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import IO, Any
from uuid import uuid4

import httpx
import openai
import pytest
from msgspec import Struct

from tests.flow.flow_config import API_KEY, ONE_CENT_BUDGET_KEY, GatewaySetup
from tests.flow.gateway_on_store import make_gateway_fixture
from tests.flow.order_flow import PROMPT, OrderFlow
from tests.harness.node_sdk import PROGRAM_FOLDER
from tests.harness.timings import FAST_TIMINGS, change_timing

ROUTE = "/v1/images/generations"
SETUP = GatewaySetup(timing=change_timing(FAST_TIMINGS, jobs={"retry_after_seconds": 1}))
RETRIED_STATUSES = (408, 409, 429, 500, 502, 503, 504)
MAX_TRIES = 3
SendRequest = Callable[[str, str, dict[str, Any]], int]


class Case(Struct, frozen=True, kw_only=True):
    """A request that ends without an image, and its response. `charges`: the number of charges for one request."""

    name: str
    status: int
    code: str
    faults: tuple[dict[str, Any], ...] = ()
    charges: int = 0
    seller: str = "openai"
    key: str = API_KEY
    extra_params: dict[str, Any] = {}


def make_status_fault(number: int, **options: Any) -> dict[str, Any]:
    return {"kind": "status", "status": number, "route": "submit", **options}


def make_unknown_case(name: str, fault: dict[str, Any]) -> Case:
    """A seller that charges for the order, and whose response does not say so."""
    return Case(name=name, faults=(fault,), status=424, code="outcome_unknown", charges=1)


FINAL_CASES = (
    make_unknown_case("bare 500", make_status_fault(500, accepted=True)),
    make_unknown_case("409", make_status_fault(409, accepted=True)),
    make_unknown_case("response lost", {"kind": "reset_after"}),
    make_unknown_case("bare 503", {"kind": "html", "status": 503, "accepted": True}),
    make_unknown_case("no JSON", {"kind": "html", "status": 200, "accepted": True}),
    Case(name="empty", faults=({"kind": "empty_outputs"},), status=424, code="paid_not_delivered", charges=1),
    Case(name="failed", faults=({"kind": "fail"},), status=424, code="sellers_failed", seller="runapi"),
    Case(name="refused", faults=(make_status_fault(400),), status=424, code="order_refused"),
    Case(name="content", faults=({"kind": "refuse_content"},), status=400, code="moderation_blocked"),
    Case(name="invalid request", extra_params={"size": "17x17"}, status=400, code="invalid_value"),
)
RETRIABLE_CASES = (
    Case(name="no seller", faults=(make_status_fault(401),), status=503, code="sellers_unavailable"),
    Case(
        name="budget", key=ONE_CENT_BUDGET_KEY, extra_params={"quality": "high"}, status=429, code="insufficient_quota"
    ),
)


gateway_and_store = make_gateway_fixture(SETUP)


def send_with_status_retries(url: str, key: str, body: dict[str, Any]) -> int:
    """Retries by status, like urllib3's `Retry` and the clients built on it."""
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, trust_env=False, timeout=60) as http:
        for _ in range(MAX_TRIES):
            answer = http.post(ROUTE, json=body)
            if answer.status_code not in RETRIED_STATUSES:
                break
            time.sleep(float(answer.headers.get("retry-after", "0.1")))
        return answer.status_code


def send_with_openai_sdk(url: str, key: str, body: dict[str, Any]) -> int:
    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key, http_client=http) as client:
        try:
            client.images.generate(prompt=body["prompt"], extra_body=body)
        except openai.APIStatusError as error:
            return error.status_code
    return 200


@pytest.fixture(scope="module")
def send_with_node_sdk(node_program: str) -> Iterator[SendRequest]:
    """One process for all tests, because node starts slowly."""
    command = [node_program, str(PROGRAM_FOLDER / "retrying.mjs")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        program_input: IO[str] = process.stdin
        program_output: IO[str] = process.stdout

        def send_request(url: str, key: str, body: dict[str, Any]) -> int:
            line = {"url": url, "key": key, "prompt": body["prompt"], "more": body}
            program_input.write(json.dumps(line) + "\n")
            program_input.flush()
            return int(json.loads(program_output.readline())["status"])

        yield send_request
        program_input.close()


@pytest.fixture(params=["by status", "openai", "openai node"])
def send_with_client(request: pytest.FixtureRequest) -> SendRequest:
    if request.param == "openai node":
        send_request: SendRequest = request.getfixturevalue("send_with_node_sdk")
        return send_request
    return send_with_openai_sdk if request.param == "openai" else send_with_status_retries


def count_requests(flow: OrderFlow) -> float:
    return flow.gateway.read_metric("igw_http_requests_total", route=ROUTE)


def run_case(flow: OrderFlow, case: Case, send_request: SendRequest) -> tuple[int, float]:
    """Returns the client's final status, and the number of requests that it sent."""
    for fault in case.faults:
        flow.sandbox.inject_fault(**fault)
    before = count_requests(flow)
    return send_request(flow.gateway.url, case.key, make_body(case)), count_requests(flow) - before


def make_body(case: Case) -> dict[str, Any]:
    """Returns a body that no other test sends: an equal request may return an earlier job."""
    body = {"prompt": PROMPT, "quality": "low", "user": uuid4().hex, "provider": {"only": [case.seller]}}
    return body | case.extra_params


@pytest.mark.one_in(3)
@pytest.mark.parametrize("case", FINAL_CASES, ids=lambda case: case.name)
def test_final_response_makes_no_client_order_twice(flow: OrderFlow, case: Case, send_with_client: SendRequest) -> None:
    assert run_case(flow, case, send_with_client) == (case.status, 1)
    assert len(flow.sandbox.list_charges()) == case.charges


@pytest.mark.one_in(3)
@pytest.mark.parametrize("case", RETRIABLE_CASES, ids=lambda case: case.name)
def test_retriable_response_has_ordered_nothing(flow: OrderFlow, case: Case, send_with_client: SendRequest) -> None:
    status, sent = run_case(flow, case, send_with_client)
    assert status == case.status
    assert sent > 1 or send_with_client is not send_with_status_retries
    assert flow.sandbox.list_charges() == []
    assert flow.sum_ledger_by_line() == {}


@pytest.mark.parametrize("case", [*FINAL_CASES, *RETRIABLE_CASES], ids=lambda case: case.name)
def test_each_case_has_its_error_code_and_retry_headers(flow: OrderFlow, case: Case) -> None:
    for fault in case.faults:
        flow.sandbox.inject_fault(**fault)
    answer = flow.gateway.post_generation(make_body(case), key=case.key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (case.status, case.code)
    assert ("retry-after" in answer.headers) is (case.status == 503)
    assert answer.headers["x-should-retry"] == ("true" if case.status == 503 else "false")
