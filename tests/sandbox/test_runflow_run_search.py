"""Search of runs at the simulated Runflow: filters, paging, invalid queries."""

import pytest

from tests.harness.sandbox_runner import RunningSandbox
from tests.sandbox.runflow_client import RunflowClient, build_order


def test_filters_accept_both_spellings(runflow_client: RunflowClient) -> None:
    ids = [runflow_client.run_to_end(build_order(client_ref=f"job-{number}"))["id"] for number in range(3)]
    for query in ("client_ref.EQ:'job-1'", "client_ref.eq:'job-1'", "client_ref:job-1", "client_ref=job-1"):
        items = runflow_client.request("GET", f"/v1/runs?q={query}").json()["items"]
        assert [run["id"] for run in items] == [ids[1]]
    both = runflow_client.request("GET", "/v1/runs?q=status_code:succeeded AND client_ref:job-2").json()["items"]
    assert [run["id"] for run in both] == [ids[2]]
    assert runflow_client.request("GET", "/v1/runs?q=client_ref:nobody").json()["items"] == []


def test_runs_are_paged_newest_first(runflow_client: RunflowClient) -> None:
    ids = [runflow_client.create_run().json()["id"] for _ in range(5)]
    first = runflow_client.request("GET", "/v1/runs?limit=2").json()
    second = runflow_client.request("GET", f"/v1/runs?limit=2&pq={first['next']}").json()
    assert [run["id"] for run in first["items"] + second["items"]] == ids[:0:-1]
    oldest = runflow_client.request("GET", "/v1/runs?sort_by=created_at:asc&limit=1").json()["items"][0]
    assert oldest["id"] == ids[0]


def test_filters_can_be_joined_negated_and_compared(runflow_client: RunflowClient, sandbox: RunningSandbox) -> None:
    first = runflow_client.run_to_end(build_order(client_ref="a"))["id"]
    sandbox.inject_fault("fail", vendor="runflow", times=1)
    second = runflow_client.run_to_end(build_order(client_ref="b"))["id"]

    def find_run_ids(query: str) -> list[str]:
        answer = runflow_client.request("GET", f"/v1/runs?sort_by=created_at:asc&{query}")
        assert answer.status_code == 200, answer.text
        return [run["id"] for run in answer.json()["items"]]

    assert find_run_ids("q=client_ref:a OR client_ref:b") == [first, second]
    assert find_run_ids("q=NOT status_code:succeeded") == [second]
    assert find_run_ids("q=status_code:succeeded AND created_at>2026-04-01") == [first]
    assert find_run_ids("q=created_at<2026-04-01") == []
    assert find_run_ids("q=created_at>=2026-04-01T00:00:00Z AND NOT client_ref.EQ:'a'") == [second]
    assert find_run_ids("client_ref=b") == find_run_ids("status_code=failed") == [second]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "limit=x",
        "limit=%C2%B2",
        "pq=x",
        "pq=%C2%B2",
        "pq=" + "9" * 5_000,
        "q=nonsense",
        "q=color:red",
        "q=created_at>soon",
        "q=NOT",
    ],
)
def test_invalid_query_is_rejected(runflow_client: RunflowClient, query: str) -> None:
    assert runflow_client.request("GET", f"/v1/runs?{query}").status_code == 422
