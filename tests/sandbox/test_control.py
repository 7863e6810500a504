def test_index(sandbox):
    assert "kinds" in sandbox.control("GET", "/")
    assert sandbox.charges() == []
    assert sandbox.sample(64, 48)[:4] == b"\x89PNG"
    r = sandbox.http.post("/_/faults", json={"kind": "reset_afer"})
    assert r.status_code == 400
    assert "did you mean 'reset_after'?" in r.text
