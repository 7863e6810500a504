"""`GET /v1/jobs` on both stores: pages, filters, and what other teams see."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.flow.flow_config import API_KEY, OTHER_TEAM_KEY, RUNAPI, SLOW_MODEL
from tests.flow.order_flow import FlowGateway, OrderFlow


def request_list(gateway: FlowGateway, api_key: str = API_KEY, **params: Any) -> httpx.Response:
    return gateway.http.get("/v1/jobs", params=params, headers={"authorization": f"Bearer {api_key}"})


def list_jobs(gateway: FlowGateway, **params: Any) -> dict[str, Any]:
    page: dict[str, Any] = request_list(gateway, **params).raise_for_status().json()
    assert set(page) == {"object", "data", "has_more", "first_id", "last_id"}
    assert page["object"] == "list"
    return page


def get_ids(page: dict[str, Any]) -> list[str]:
    return [job["id"] for job in page["data"]]


def test_pages_and_filters_find_each_job_once(flow: OrderFlow) -> None:
    label = uuid4().hex
    jobs = [flow.order_images(RUNAPI, labels=[label, f"number-{number}"]) for number in range(3)]
    flow.sandbox.inject_fault("refuse_content", times=1)
    failed = flow.order_images(RUNAPI, labels=[label])
    expected = [failed["id"], *(job["id"] for job in reversed(jobs))]
    assert get_ids(list_jobs(flow.gateway, label=label)) == expected
    assert get_ids(list_jobs(flow.gateway, label=[label, "number-1"])) == [jobs[1]["id"]]
    assert get_ids(list_jobs(flow.gateway, label=label, status="failed")) == [failed["id"]]
    assert get_ids(list_jobs(flow.gateway, label=label, status="failed,completed")) == expected
    assert get_ids(list_jobs(flow.gateway, label=label, model=SLOW_MODEL)) == []
    assert get_ids(list_jobs(flow.gateway, label=label, model=failed["model"])) == expected
    assert get_ids(list_jobs(flow.gateway, label=label, key=failed["key"])) == expected
    assert get_ids(list_jobs(flow.gateway, label=label, key="igw_another")) == []
    assert get_ids(list_jobs(flow.gateway, label=label, since=failed["created_at"] + 2)) == []
    assert get_ids(list_jobs(flow.gateway, label=label, since="2026-01-01")) == expected
    seen, page = [], {"has_more": True, "last_id": None}
    while page["has_more"]:
        after = {"after": page["last_id"]} if page["last_id"] else {}
        page = list_jobs(flow.gateway, label=label, limit=1, **after)
        seen += get_ids(page)
    assert seen == expected


def test_listed_job_is_the_job_without_its_documents(flow: OrderFlow) -> None:
    label = uuid4().hex
    job = flow.order_images(RUNAPI, labels=[label, label])
    [listed] = list_jobs(flow.gateway, label=label)["data"]
    common = listed.keys() & job.keys()
    assert listed.keys() - common == {"delivered", "cost"}
    assert {name: listed[name] for name in common} == {name: job[name] for name in common}
    assert (listed["labels"], listed["delivered"], listed["cost"]) == ([label], 1, job["usage"]["cost"])


def test_team_sees_only_its_own_jobs(flow: OrderFlow) -> None:
    label = uuid4().hex
    job = flow.order_images(RUNAPI, labels=[label])
    foreign = request_list(flow.gateway, OTHER_TEAM_KEY, label=label)
    assert (foreign.status_code, foreign.json()["data"]) == (200, [])
    foreign_position = request_list(flow.gateway, OTHER_TEAM_KEY, after=job["id"])
    unknown_position = request_list(flow.gateway, OTHER_TEAM_KEY, after="job_nothing")
    assert foreign_position.status_code == unknown_position.status_code == 400
    assert foreign_position.json()["error"] == unknown_position.json()["error"]


INVALID_VALUES: dict[str, list[Any]] = {
    "limit": ["0", "101", "²"],
    "status": ["done"],
    "since": ["yesterday", "1e400", "-1", "9" * 400],
    "label": [["x"] * 9, "x" * 501],
}


@pytest.mark.parametrize(
    ("param", "value"), [(param, value) for param in INVALID_VALUES for value in INVALID_VALUES[param]]
)
def test_parameter_of_invalid_value_is_named(flow: OrderFlow, param: str, value: Any) -> None:
    expect_invalid_parameter(request_list(flow.gateway, **{param: value}), "invalid_value", param)


@pytest.mark.parametrize("param", ["labels", "statsu"])
def test_unknown_parameter_is_named(flow: OrderFlow, param: str) -> None:
    expect_invalid_parameter(request_list(flow.gateway, **{param: "x"}), "unknown_parameter", param)


def expect_invalid_parameter(answer: httpx.Response, code: str, param: str) -> None:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param)


@pytest.mark.parametrize("labels", [["x"] * 9, [""], ["x" * 65], "spring", [1], {"a": "b"}])
def test_invalid_labels_are_refused(flow: OrderFlow, labels: Any) -> None:
    answer = flow.gateway.post_job({"prompt": "a lighthouse", "labels": labels})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value"), answer.text


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/hook", "https://127.0.0.1/hook", "https://localhost/hook", "https://user@example.com/"),
        *("https://[::1]/", "https://10.0.0.1/", "https://169.254.169.254/latest", "https://2130706433/", "ftp://a.b"),
        *("https://example.com:8443/", "https://hook.internal/", "example.com/hook", "https://", "x" * 2_001),
    ],
)
def test_webhook_must_be_a_public_https_url(flow: OrderFlow, url: str) -> None:
    answer = flow.gateway.post_job({"prompt": "a lighthouse", "webhook": url})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_value", "webhook")


def test_webhook_is_stored_with_the_job(flow: OrderFlow) -> None:
    job = flow.order_images(RUNAPI, webhook="https://example.com/hook?token=secret")
    assert (job["status"], job["webhook"]) == ("completed", True)
    assert "secret" not in str(job)
    assert flow.order_images(RUNAPI)["webhook"] is False
