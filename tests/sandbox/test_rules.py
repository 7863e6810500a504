"""Which exchange a rule of mischief strikes, and which rules are refused."""

import httpx
import pytest

from sandbox.mischief import Kind, Mischief, Route, Rule, Vendor
from tests.vendors import Vendors

SUBMIT = "/openai/v1/images/generations"
KEY = {"authorization": "Bearer sk-sandbox"}


def buy(sandbox: Vendors) -> httpx.Response:
    order = {"model": "gpt-image-2", "prompt": "a lighthouse", "quality": "low"}
    return sandbox.http.post(SUBMIT, json=order, headers=KEY)


def test_times_counts_down(sandbox):
    sandbox.fault("refuse", vendor="openai", times=2)
    assert [buy(sandbox).status_code for _ in range(3)] == [422, 422, 200]
    assert sandbox.control("GET", "/faults") == {"faults": []}


def test_rules_strike_in_the_order_they_were_made(sandbox):
    sandbox.fault("status", vendor="openai", status=418, times=1)
    sandbox.fault("refuse", vendor="openai")
    assert [buy(sandbox).status_code for _ in range(2)] == [418, 422]


def test_another_vendor_and_another_route_are_left_alone(sandbox):
    sandbox.fault("reset_before", vendor="runapi")
    sandbox.fault("status", vendor="openai", route="account", status=503)
    assert buy(sandbox).status_code == 200
    assert sandbox.http.get("/openai/v1/models", headers=KEY).status_code == 503


def test_without_a_route_only_the_route_where_money_moves_is_struck(sandbox):
    sandbox.fault("status", status=503)
    assert sandbox.http.get("/openai/v1/models", headers=KEY).status_code == 200
    assert buy(sandbox).status_code == 503


def test_without_a_vendor_all_are_struck(sandbox):
    sandbox.fault("status", status=503)
    for path in (SUBMIT, "/runapi/api/v1/gpt_image_2/text_to_image", "/runflow/v1/models/openai/gpt-image-2/runs"):
        assert sandbox.http.post(path, json={}).status_code == 503, path


def test_the_control_routes_are_never_struck(sandbox):
    for route in Route:
        sandbox.fault("reset_before", route=route)
    assert sandbox.charges() == []


def test_good_behaviour_comes_back(sandbox):
    sandbox.fault("reset_before")
    sandbox.control("DELETE", "/faults")
    assert buy(sandbox).status_code == 200


def test_probability_strikes_about_so_often_and_the_same_way_every_time():
    def run() -> list[bool]:
        mischief = Mischief()
        mischief.add(Rule(kind=Kind.REFUSE, probability=0.3))
        return [mischief.take(Vendor.OPENAI, Route.SUBMIT, (Kind.REFUSE,)) is not None for _ in range(2_000)]

    assert 540 < sum(run()) < 660
    assert run() == run()


def test_a_reset_of_the_sandbox_throws_the_same_dice_again(sandbox):
    def struck() -> list[bool]:
        sandbox.reset()
        sandbox.fault("status", vendor="openai", route="account", probability=0.5)
        return [sandbox.http.get("/openai/v1/models", headers=KEY).is_error for _ in range(30)]

    first = struck()
    assert 3 < sum(first) < 27
    assert struck() == first


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"kind": "status", "status": 100}, "status"),
        ({"kind": "status", "status": 600}, "status"),
        ({"kind": "status", "headers": {"x y": "1"}}, "x y"),
        ({"kind": "status", "headers": {"x": "a\r\nb: c"}}, "x"),
        ({"kind": "status", "headers": {"x": "€"}}, "x"),
        ({"kind": "status", "headers": {"Content-Length": "3"}}, "truncate"),
        ({"kind": "partial", "route": "poll"}, "partial"),
        ({"kind": "slow", "seconds": -1}, "seconds"),
        ({"kind": "slow", "probability": 0}, "probability"),
        ({"kind": "slow", "time": 1}, "time"),
        ({"kind": "slow", "vendor": "acme"}, "acme"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(sandbox, rule, said):
    answer = sandbox.http.post("/_/faults", json=rule)
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert sandbox.control("GET", "/faults") == {"faults": []}
