"""The log of requests to the vendors."""

import pytest

from tests.sandbox.openai_client import AUTH_HEADERS


def test_requests_are_logged_with_keys_redacted(sandbox):
    secrets = {"authorization": "Bearer sk-secret", "X-Api-Key": "sk-secret", "Cookie": "sk-secret"}
    sandbox.http.get("/openai/v1/models", params={"page": "2"}, headers={**secrets, "x-trace": "t"})
    sandbox.http.post("/openai/v1/images/generations", json={"prompt": "a lighthouse"}, headers=AUTH_HEADERS)
    get_entry, order_entry = sandbox.call_control_route("GET", "/requests")["requests"]
    assert "sk-secret" not in str(get_entry)
    assert (get_entry["method"], get_entry["path"], get_entry["query"], get_entry["route"]) == (
        "GET",
        "/openai/v1/models",
        "page=2",
        "account",
    )
    assert (get_entry["headers"]["x-trace"], get_entry["headers"]["authorization"]) == ("t", "…")
    assert (order_entry["vendor"], order_entry["route"]) == ("openai", "submit")
    assert '"a lighthouse"' in order_entry["body"]
    assert get_entry["at"] < order_entry["at"]


def test_long_and_binary_bodies_are_logged_as_truncated_text(sandbox):
    sandbox.http.post("/openai/v1/images/edits", files={"image": b"\x00\xff" * 100_000}, headers=AUTH_HEADERS)
    (entry,) = sandbox.list_requests("openai")
    assert 60_000 < len(entry["body"]) <= 65_536
    assert "Content-Disposition" in entry["body"]


def test_control_requests_are_not_logged(sandbox):
    sandbox.call_control_route("GET", "/faults")
    assert sandbox.call_control_route("GET", "/requests") == {"requests": []}


def test_log_keeps_the_last_thousand_requests(sandbox):
    for number in range(1_005):
        sandbox.http.get(f"/openai/v1/models/{number}")
    paths = [entry["path"] for entry in sandbox.list_requests("openai", "account")]
    assert (len(paths), paths[0]) == (1_000, "/openai/v1/models/5")


@pytest.mark.parametrize(("method", "path"), [("POST", "/openai/images/generation"), ("GET", "/runapi/v2")])
def test_requests_to_unknown_paths_are_logged(sandbox, method, path):
    assert sandbox.http.request(method, path).status_code == 404
    assert [
        (entry["method"], entry["path"]) for entry in sandbox.call_control_route("GET", "/requests")["requests"]
    ] == [(method, path)]
