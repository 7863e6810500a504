"""What the sandbox can tell of the requests that its vendors were sent."""

import pytest

KEY = {"authorization": "Bearer sk-sandbox"}


def test_requests_are_logged_with_keys_masked(sandbox):
    secrets = {"authorization": "Bearer sk-secret", "X-Api-Key": "sk-secret", "Cookie": "sk-secret"}
    sandbox.http.get("/openai/v1/models", params={"page": "2"}, headers={**secrets, "x-trace": "t"})
    sandbox.http.post("/openai/v1/images/generations", json={"prompt": "a lighthouse"}, headers=KEY)
    asked, bought = sandbox.control("GET", "/requests")["requests"]
    assert "sk-secret" not in str(asked)
    assert (asked["method"], asked["path"], asked["query"], asked["route"]) == (
        "GET",
        "/openai/v1/models",
        "page=2",
        "account",
    )
    assert (asked["headers"]["x-trace"], asked["headers"]["authorization"]) == ("t", "…")
    assert (bought["vendor"], bought["route"]) == ("openai", "submit")
    assert '"a lighthouse"' in bought["body"]
    assert asked["at"] < bought["at"]


def test_long_and_binary_bodies_are_cut_and_shown_as_text(sandbox):
    sandbox.http.post("/openai/v1/images/edits", files={"image": b"\x00\xff" * 100_000}, headers=KEY)
    (entry,) = sandbox.requests("openai")
    assert 60_000 < len(entry["body"]) <= 65_536
    assert "Content-Disposition" in entry["body"]


def test_control_requests_are_not_logged(sandbox):
    sandbox.control("GET", "/faults")
    assert sandbox.control("GET", "/requests") == {"requests": []}


def test_the_log_keeps_the_last_thousand(sandbox):
    for number in range(1_005):
        sandbox.http.get(f"/openai/v1/models/{number}")
    paths = [entry["path"] for entry in sandbox.requests("openai")]
    assert (len(paths), paths[0]) == (1_000, "/openai/v1/models/5")


@pytest.mark.parametrize(("method", "path"), [("POST", "/openai/images/generation"), ("GET", "/runapi/v2")])
def test_wrong_addresses_are_logged_too(sandbox, method, path):
    assert sandbox.http.request(method, path).status_code == 404
    assert [(entry["method"], entry["path"]) for entry in sandbox.control("GET", "/requests")["requests"]] == [
        (method, path)
    ]
