"""Client behaviour: retries with and without keys, disconnects, exhausted budgets."""

from concurrent.futures import ThreadPoolExecutor

from tests.flow.flow_config import (
    API_KEY,
    EACH_SELLER,
    ONE_CENT_BUDGET_KEY,
    OTHER_TEAM_KEY,
    PRICE_MICROS,
    RUNAPI,
    RUNFLOW_RUNS,
)
from tests.flow.order_flow import PROMPT, OrderFlow
from tests.harness.sent_request import SentRequest
from tests.harness.wait import wait_until


def make_params(seller: str, **extra_params: object) -> dict[str, object]:
    return {"prompt": PROMPT, "quality": "low", "provider": {"only": [seller]}, **extra_params}


# Budgets


@EACH_SELLER
def test_request_over_budget_is_rejected_before_any_order(flow: OrderFlow, seller: str) -> None:
    body = make_params(seller, quality="high", n=3)
    answers = (
        flow.gateway.post_job(body, key=ONE_CENT_BUDGET_KEY),
        flow.gateway.post_generation(body, key=ONE_CENT_BUDGET_KEY),
    )
    for answer in answers:
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "insufficient_quota"
        assert answer.headers["x-should-retry"] == "false"
    assert flow.count_orders(seller) == 0
    assert flow.read_ledger_entries() == []


def test_failed_job_releases_its_budget_hold(flow: OrderFlow) -> None:
    """Each of these jobs holds the whole budget."""
    flow.sandbox.inject_fault("refuse", vendor="runflow")
    for number in range(3):
        answer = flow.gateway.post_job(make_params(RUNFLOW_RUNS, prompt=f"{PROMPT} {number}"), key=ONE_CENT_BUDGET_KEY)
        assert answer.status_code == 200
        assert answer.json()["status"] == "failed"
    assert flow.sum_ledger_by_line() == {}


# Idempotency


def test_retry_with_same_key_and_body_returns_same_job(flow: OrderFlow) -> None:
    body, key = make_params(RUNFLOW_RUNS), {"idempotency-key": "the-same"}
    first, second = (flow.gateway.post_job(body, **key) for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert flow.count_orders(RUNFLOW_RUNS) == 1


def test_same_key_with_another_body_is_rejected(flow: OrderFlow) -> None:
    key = {"idempotency-key": "one-body-only"}
    assert flow.gateway.post_job(make_params(RUNFLOW_RUNS), **key).status_code == 200
    answer = flow.gateway.post_job(make_params(RUNFLOW_RUNS, prompt="something else"), **key)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "idempotency_key_reused"
    assert flow.count_orders(RUNFLOW_RUNS) == 1


def test_same_key_of_another_team_creates_another_job(flow: OrderFlow) -> None:
    body, key = make_params(RUNFLOW_RUNS), {"idempotency-key": "everybodys"}
    response = flow.gateway.post_job(body, **key)
    other_response = flow.gateway.post_job(body, key=OTHER_TEAM_KEY, **key)
    assert response.status_code == other_response.status_code == 200
    assert response.json()["id"] != other_response.json()["id"]
    assert flow.count_orders(RUNFLOW_RUNS) == 2


def test_concurrent_requests_with_one_key_create_one_job(flow: OrderFlow) -> None:
    flow.sandbox.set_latency(0.2)
    body = make_params(RUNAPI)

    def get_job_id(_: int) -> str:
        return str(flow.gateway.post_job(body, **{"idempotency-key": "all-at-once"}).json()["id"])

    with ThreadPoolExecutor(10) as pool:
        assert len(set(pool.map(get_job_id, range(10)))) == 1
    assert flow.sum_ledger_by_line() == {(RUNAPI, "capture"): PRICE_MICROS[RUNAPI]}


def test_each_request_without_key_creates_its_own_job(flow: OrderFlow) -> None:
    first, second = (flow.gateway.post_job(make_params(RUNFLOW_RUNS)).json()["id"] for _ in range(2))
    assert first != second
    assert flow.sum_ledger_by_line() == {(RUNFLOW_RUNS, "capture"): 2 * PRICE_MICROS[RUNFLOW_RUNS]}


# Disconnects and retries


def disconnect_early(flow: OrderFlow, seller: str, body: dict[str, object]) -> None:
    """Sends a request, and disconnects while its order is held."""
    flow.sandbox.hold_orders()
    url = f"{flow.gateway.url}/v1/images/generations"
    with SentRequest(url, API_KEY, flow.gateway.add_test_id(body)):
        wait_until(lambda: flow.count_orders(seller), "the order was sent")


@EACH_SELLER
def test_job_continues_after_its_client_disconnects(flow: OrderFlow, seller: str) -> None:
    disconnect_early(flow, seller, make_params(seller, n=2))
    flow.sandbox.release_orders()
    [job] = {entry.job for entry in flow.read_ledger_entries()}
    assert flow.gateway.get_job(job)["status"] == "completed"
    assert len(flow.fetch_images(flow.gateway.get_job(job))) == 2


@EACH_SELLER
def test_sdk_retry_attaches_to_the_running_job(flow: OrderFlow, seller: str) -> None:
    body = make_params(seller, prompt=f"{PROMPT}, of {seller}")
    disconnect_early(flow, seller, body)
    url, headers = f"{flow.gateway.url}/v1/images/generations", {"x-stainless-retry-count": "1"}
    with SentRequest(url, API_KEY, flow.gateway.add_test_id(body), headers) as retry:
        flow.sandbox.release_orders()
        answer = retry.read_response()
    assert answer.status_code == 200
    assert answer.headers["idempotent-replayed"] == "true"
    assert {entry.job for entry in flow.read_ledger_entries()} == {answer.headers["x-igw-job-id"]}
    assert flow.count_orders(seller) == 1


def test_sdk_retry_returns_the_just_completed_job(flow: OrderFlow) -> None:
    body = make_params(RUNFLOW_RUNS, prompt=f"{PROMPT}, just ended")
    first = flow.gateway.post_generation(body)
    retry = flow.gateway.post_generation(body, x_stainless_retry_count="2")
    assert first.headers["x-igw-job-id"] == retry.headers["x-igw-job-id"]
    assert first.json()["data"] == retry.json()["data"]
    assert flow.count_orders(RUNFLOW_RUNS) == 1


def test_sdk_retry_without_a_first_request_creates_a_job(flow: OrderFlow) -> None:
    answer = flow.gateway.post_generation(
        make_params(RUNFLOW_RUNS, prompt=f"{PROMPT}, never sent before"), x_stainless_retry_count="1"
    )
    assert answer.status_code == 200
    assert "idempotent-replayed" not in answer.headers
    assert flow.count_orders(RUNFLOW_RUNS) == 1


def test_job_of_another_team_is_not_found(flow: OrderFlow) -> None:
    job_id = flow.order_images(RUNFLOW_RUNS)["id"]
    answer = flow.gateway.http.get(f"/v1/jobs/{job_id}", headers={"authorization": f"Bearer {OTHER_TEAM_KEY}"})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "job_not_found"
