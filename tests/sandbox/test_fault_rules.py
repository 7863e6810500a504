"""Which requests a fault rule applies to, and which rules are rejected."""

import pytest

from sandbox.fault_injection import FaultInjector, FaultRule, InjectedFault
from sandbox.vendors import RouteKind, Vendor
from tests.sandbox.openai_client import AUTH_HEADERS, SUBMIT_PATH, submit_order


def test_rule_applies_the_given_number_of_times(sandbox):
    sandbox.inject_fault("refuse", vendor="openai", times=2)
    assert [submit_order(sandbox).status_code for _ in range(3)] == [422, 422, 200]
    assert sandbox.call_control_route("GET", "/faults") == {"faults": []}


def test_rules_apply_in_the_order_of_their_creation(sandbox):
    sandbox.inject_fault("status", vendor="openai", status=418, times=1)
    sandbox.inject_fault("refuse", vendor="openai")
    assert [submit_order(sandbox).status_code for _ in range(2)] == [418, 422]


def test_rule_does_not_affect_other_vendors_and_routes(sandbox):
    sandbox.inject_fault("reset_before", vendor="runapi")
    sandbox.inject_fault("status", vendor="openai", route="account", status=503)
    assert submit_order(sandbox).status_code == 200
    assert sandbox.http.get("/openai/v1/models", headers=AUTH_HEADERS).status_code == 503


def test_rule_without_route_applies_to_submit_only(sandbox):
    sandbox.inject_fault("status", status=503)
    assert sandbox.http.get("/openai/v1/models", headers=AUTH_HEADERS).status_code == 200
    assert submit_order(sandbox).status_code == 503


def test_rule_without_vendor_applies_to_all_vendors(sandbox):
    sandbox.inject_fault("status", status=503)
    for path in (SUBMIT_PATH, "/runapi/api/v1/gpt_image_2/text_to_image", "/runflow/v1/models/openai/gpt-image-2/runs"):
        assert sandbox.http.post(path, json={}).status_code == 503, path


def test_rules_never_apply_to_control_routes(sandbox):
    for route in RouteKind:
        sandbox.inject_fault("reset_before", route=route)
    assert sandbox.list_charges() == []


def test_deleting_the_rules_restores_normal_behaviour(sandbox):
    sandbox.inject_fault("reset_before")
    sandbox.call_control_route("DELETE", "/faults")
    assert submit_order(sandbox).status_code == 200


def test_probability_is_respected_and_reproducible():
    def draw_faults() -> list[bool]:
        injector = FaultInjector()
        injector.add(FaultRule(kind=InjectedFault.REFUSE, probability=0.3))
        return [
            injector.take_rule(Vendor.OPENAI, RouteKind.SUBMIT, (InjectedFault.REFUSE,)) is not None
            for _ in range(2_000)
        ]

    assert 540 < sum(draw_faults()) < 660
    assert draw_faults() == draw_faults()


def test_reset_restarts_the_random_sequence(sandbox):
    def list_faults() -> list[bool]:
        sandbox.reset()
        sandbox.inject_fault("status", vendor="openai", route="account", probability=0.5)
        return [sandbox.http.get("/openai/v1/models", headers=AUTH_HEADERS).is_error for _ in range(30)]

    first = list_faults()
    assert 3 < sum(first) < 27
    assert list_faults() == first


@pytest.mark.parametrize(
    ("rule", "expected"),
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
def test_invalid_rule_is_rejected(sandbox, rule, expected):
    answer = sandbox.http.post("/_/faults", json=rule)
    assert answer.status_code == 400
    assert expected in answer.json()["error"]
    assert sandbox.call_control_route("GET", "/faults") == {"faults": []}
