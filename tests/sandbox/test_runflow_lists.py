"""Lists of runs at the simulated Runflow: filters, pages, and what is refused."""

import pytest

from tests.sandbox.runflow_owner import Owner, order
from tests.vendors import Vendors


def test_runs_are_found_in_both_spellings_of_a_filter(owner: Owner) -> None:
    ids = [owner.run(order(client_ref=f"ours-{number}"))["id"] for number in range(3)]
    for query in ("client_ref.EQ:'ours-1'", "client_ref.eq:'ours-1'", "client_ref:ours-1", "client_ref=ours-1"):
        found = owner.ask("GET", f"/v1/runs?q={query}").json()["items"]
        assert [run["id"] for run in found] == [ids[1]]
    both = owner.ask("GET", "/v1/runs?q=status_code:succeeded AND client_ref:ours-2").json()["items"]
    assert [run["id"] for run in both] == [ids[2]]
    assert owner.ask("GET", "/v1/runs?q=client_ref:nobody").json()["items"] == []


def test_a_list_is_paged_newest_first(owner: Owner) -> None:
    ids = [owner.create().json()["id"] for _ in range(5)]
    first = owner.ask("GET", "/v1/runs?limit=2").json()
    second = owner.ask("GET", f"/v1/runs?limit=2&pq={first['next']}").json()
    assert [run["id"] for run in first["items"] + second["items"]] == ids[:0:-1]
    oldest = owner.ask("GET", "/v1/runs?sort_by=created_at:asc&limit=1").json()["items"][0]
    assert oldest["id"] == ids[0]


def test_filters_may_be_joined_negated_and_compared(owner: Owner, sandbox: Vendors) -> None:
    first = owner.run(order(client_ref="a"))["id"]
    sandbox.fault("fail", vendor="runflow", times=1)
    second = owner.run(order(client_ref="b"))["id"]

    def found(query: str) -> list[str]:
        answer = owner.ask("GET", f"/v1/runs?sort_by=created_at:asc&{query}")
        assert answer.status_code == 200, answer.text
        return [run["id"] for run in answer.json()["items"]]

    assert found("q=client_ref:a OR client_ref:b") == [first, second]
    assert found("q=NOT status_code:succeeded") == [second]
    assert found("q=status_code:succeeded AND created_at>2026-04-01") == [first]
    assert found("q=created_at<2026-04-01") == []
    assert found("q=created_at>=2026-04-01T00:00:00Z AND NOT client_ref.EQ:'a'") == [second]
    assert found("client_ref=b") == found("status_code=failed") == [second]


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
def test_a_list_that_cannot_be_is_refused(owner: Owner, query: str) -> None:
    assert owner.ask("GET", f"/v1/runs?{query}").status_code == 422
