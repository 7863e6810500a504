"""What callers do to us: ask twice, ask again, leave, spend more than they have."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.flow.configuration import POOR_KEY, SELLERS, STRANGER_KEY
from tests.flow.gateways import PROMPT, Flow
from tests.flow.test_orders_under_fault import PRICE

RUNS, RUN, RUNAPI, OPENAI = SELLERS
EACH = pytest.mark.parametrize("seller", SELLERS)


def wishes(seller: str, **more: object) -> dict[str, object]:
    return {"prompt": PROMPT, "quality": "low", "provider": {"only": [seller]}, **more}


# Budgets


@EACH
def test_who_has_not_the_money_is_refused_before_anything_is_ordered(flow: Flow, seller: str) -> None:
    body = wishes(seller, quality="high", n=3)
    answers = flow.gateway.ask(body, key=POOR_KEY), flow.gateway.generate(body, key=POOR_KEY)
    for answer in answers:
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "insufficient_quota"
        assert answer.headers["x-should-retry"] == "false"
    assert flow.orders(seller) == 0
    assert flow.entries() == []


def test_money_that_was_held_for_a_failed_job_is_there_again(flow: Flow) -> None:
    """Each of these jobs would take all of the budget."""
    flow.sandbox.fault("refuse", vendor="runflow")
    for number in range(3):
        answer = flow.gateway.ask(wishes(RUNS, prompt=f"{PROMPT} {number}"), key=POOR_KEY)
        assert answer.status_code == 200
        assert answer.json()["status"] == "failed"
    assert flow.booked() == {}


# Asking twice


def test_the_same_key_and_body_is_the_same_job(flow: Flow) -> None:
    body, key = wishes(RUNS), {"idempotency-key": "the-same"}
    first, second = (flow.gateway.ask(body, **key) for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert flow.orders(RUNS) == 1


def test_the_same_key_with_another_body_is_a_conflict(flow: Flow) -> None:
    key = {"idempotency-key": "one-body-only"}
    assert flow.gateway.ask(wishes(RUNS), **key).status_code == 200
    answer = flow.gateway.ask(wishes(RUNS, prompt="something else"), **key)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "idempotency_key_reused"
    assert flow.orders(RUNS) == 1


def test_the_same_key_of_another_team_is_another_job(flow: Flow) -> None:
    body, key = wishes(RUNS), {"idempotency-key": "everybodys"}
    ours = flow.gateway.ask(body, **key)
    theirs = flow.gateway.ask(body, key=STRANGER_KEY, **key)
    assert ours.status_code == theirs.status_code == 200
    assert ours.json()["id"] != theirs.json()["id"]
    assert flow.orders(RUNS) == 2


def test_many_at_once_with_one_key_are_one_job(flow: Flow) -> None:
    flow.sandbox.latency(0.2)
    body = wishes(RUNAPI)

    def ask(_: int) -> str:
        return str(flow.gateway.ask(body, **{"idempotency-key": "all-at-once"}).json()["id"])

    with ThreadPoolExecutor(10) as crowd:
        assert len(set(crowd.map(ask, range(10)))) == 1
    assert flow.booked() == {(RUNAPI, "capture"): PRICE[RUNAPI]}


def test_without_a_key_each_request_is_a_job_of_its_own(flow: Flow) -> None:
    first, second = (flow.gateway.ask(wishes(RUNS)).json()["id"] for _ in range(2))
    assert first != second
    assert flow.booked() == {(RUNS, "capture"): 2 * PRICE[RUNS]}


# Leaving, and asking again


def leave_early(flow: Flow, body: dict[str, object]) -> None:
    with pytest.raises(httpx.ReadTimeout):
        flow.gateway.http.post(
            "/v1/images/generations",
            json=flow.gateway.marked(body),
            headers={"authorization": "Bearer igw_flow"},
            timeout=0.2,
        )


@EACH
def test_a_client_that_leaves_leaves_a_job_that_goes_on(flow: Flow, seller: str) -> None:
    flow.sandbox.latency(0.6)
    leave_early(flow, wishes(seller, n=2))
    [job] = {entry.job for entry in flow.entries()}
    assert flow.gateway.job(job)["status"] == "completed"
    assert len(flow.pictures(flow.gateway.job(job))) == 2


@EACH
def test_an_sdk_that_tries_again_attaches_to_the_job_that_is_running(flow: Flow, seller: str) -> None:
    flow.sandbox.latency(0.6)
    body = wishes(seller, prompt=f"{PROMPT}, of {seller}")
    leave_early(flow, body)
    again = flow.gateway.generate(body, x_stainless_retry_count="1")
    assert again.status_code == 200
    assert again.headers["idempotent-replayed"] == "true"
    assert {entry.job for entry in flow.entries()} == {again.headers["x-igw-job-id"]}
    assert flow.orders(seller) == 1


def test_an_sdk_that_tries_again_gets_a_job_that_has_just_ended(flow: Flow) -> None:
    body = wishes(RUNS, prompt=f"{PROMPT}, just ended")
    first = flow.gateway.generate(body)
    again = flow.gateway.generate(body, x_stainless_retry_count="2")
    assert first.headers["x-igw-job-id"] == again.headers["x-igw-job-id"]
    assert first.json()["data"] == again.json()["data"]
    assert flow.orders(RUNS) == 1


def test_who_tries_again_without_having_asked_gets_a_job_of_his_own(flow: Flow) -> None:
    answer = flow.gateway.generate(wishes(RUNS, prompt=f"{PROMPT}, never asked before"), x_stainless_retry_count="1")
    assert answer.status_code == 200
    assert "idempotent-replayed" not in answer.headers
    assert flow.orders(RUNS) == 1


def test_another_teams_job_is_none(flow: Flow) -> None:
    name = flow.buy(RUNS)["id"]
    answer = flow.gateway.http.get(f"/v1/jobs/{name}", headers={"authorization": f"Bearer {STRANGER_KEY}"})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "job_not_found"
