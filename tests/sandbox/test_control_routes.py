"""The control routes validate requests strictly and report exactly."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from sandbox.fault_injection import InjectedFault
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until
from tests.sandbox.openai_client import AUTH_HEADERS, ORDER_BODY, SUBMIT_PATH, submit_order


def post_invalid_body(sandbox: RunningSandbox, path: str, body: bytes) -> str:
    answer = sandbox.http.post(f"/_{path}", content=body)
    assert answer.status_code == 400, answer.text
    return str(answer.json()["error"])


# Routes


def test_index_lists_every_route_and_fault(sandbox):
    index = sandbox.call_control_route("GET", "/")
    assert set(index["kinds"]) == set(InjectedFault)
    routes = [name.split()[:2] for name in index if name.startswith("GET ")]
    for method, path in routes:
        assert sandbox.http.request(method, path.partition("?")[0]).status_code == 200, path


def test_front_page_lists_vendors_and_keys(sandbox):
    page = sandbox.http.get("/").json()
    assert page["vendors"]["openai"] == f"{sandbox.url}/openai"
    assert page["keys"]["runflow"] == "rf_sandbox"


@pytest.mark.parametrize("path", ["/_/nothing", "/nothing", "/_/faults/1"])
def test_unknown_route_is_not_found(sandbox, path):
    answer = sandbox.http.get(path)
    assert answer.status_code == 404
    assert answer.json()["status"] == 404


@pytest.mark.parametrize("path", ["/faults", "/latency", "/balance", "/switches", "/finish"])
@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'"x"', b"\xff\xfe", b'{"nonsense": 1}', b'{"kind":' + b"[" * 100_000],
    ids=["cut off", "list", "text", "no text", "unknown", "nested too deeply"],
)
def test_invalid_body_is_rejected(sandbox, path, body):
    assert post_invalid_body(sandbox, path, body)


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/latency", b"{}", "median"),
        ("/latency", b'{"median": -1}', "median"),
        ("/latency", b'{"median": 1, "vendors": "openai"}', "vendors"),
        ("/latency", b'{"median": 1, "vendor": "acme"}', "acme"),
        ("/balance", b'{"vendor": "openai"}', "usd"),
        ("/balance", b'{"vendor": "openai", "usd": "much"}', "much"),
        ("/balance", b'{"vendor": "openai", "usd": "NaN"}', "NaN"),
        ("/balance", b'{"vendor": "openai", "usd": "1e999999"}', "1e999999"),
        ("/balance", b'{"usd": "1"}', "vendor"),
        ("/switches", b'{"acme": {}}', "acme"),
        ("/switches", b'{"openai": 1}', "openai"),
        ("/switches", b'{"openai": {"deliver": "url"}}', "deliver"),
        ("/switches", b'{"openai": {"image_format": "fax"}}', "fax"),
        ("/switches", b'{"runflow": {"concurrency": 0}}', "concurrency"),
        ("/switches", b'{"callback_delay_factor": 2}', "callback_delay_factor"),
    ],
)
def test_error_names_the_invalid_value(sandbox, path, body, expected):
    assert expected in post_invalid_body(sandbox, path, body)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("reset_afer", "did you mean 'reset_after'?"),
        ("hnag", "did you mean 'hang'?"),
        ("explode", "kinds are: reset_before, reset_after,"),
        (7, "kinds are:"),
    ],
)
def test_misspelt_fault_gets_a_suggestion(sandbox, kind, expected):
    answer = sandbox.http.post("/_/faults", json={"kind": kind})
    assert answer.status_code == 400
    assert expected in answer.json()["error"]


def test_fault_rules_are_listed_and_cleared(sandbox):
    sandbox.inject_fault("slow", vendor="runapi", seconds=1, times=3)
    (rule,) = sandbox.call_control_route("GET", "/faults")["faults"]
    assert (rule["kind"], rule["vendor"], rule["seconds"], rule["times"]) == ("slow", "runapi", 1, 3)
    assert sandbox.call_control_route("DELETE", "/faults") == {"faults": []}
    assert sandbox.call_control_route("GET", "/faults") == {"faults": []}


# The invoice


def test_charge_is_reported_exactly(sandbox):
    before = time.time()
    assert submit_order(sandbox).status_code == 200
    (charge,) = sandbox.call_control_route("GET", "/charges")["charges"]
    assert (charge["vendor"], charge["images"], charge["usd"], charge["usd_micros"]) == ("openai", 1, 0.005865, 5865)
    assert (charge["idempotency_key"], charge["client_ref"]) == (None, None)
    assert before <= charge["at"] <= time.time()


def test_charges_of_several_vendors_are_listed_by_time(sandbox):
    order = {"model": "gpt-image-2", "prompt": "a", "aspect_ratio": "1:1", "output_resolution": "1k"}
    for _ in range(2):
        assert submit_order(sandbox).status_code == 200
        assert sandbox.http.post(
            "/runapi/api/v1/gpt_image_2/text_to_image", json=order, headers=AUTH_HEADERS
        ).is_success
    charges = sandbox.list_charges()
    assert [charge["vendor"] for charge in charges] == ["openai", "runapi", "openai", "runapi"]


# Balances


def test_order_over_the_balance_is_rejected(sandbox):
    sandbox.set_balance("openai", "0.01")
    assert submit_order(sandbox).status_code == 200
    assert sandbox.call_control_route("GET", "/balance")["openai"] == {
        "usd": "0.004135",
        "reserved_usd": "0.0",
        "spent_usd": "0.005865",
    }
    assert submit_order(sandbox).status_code == 429
    assert sandbox.call_control_route("POST", "/balance", {"vendor": "openai", "usd": 0.5}) == {
        "vendor": "openai",
        "usd": "0.5",
    }
    assert submit_order(sandbox).status_code == 200


def get_reserved_usd(sandbox: RunningSandbox) -> str:
    return str(sandbox.call_control_route("GET", "/balance")["openai"]["reserved_usd"])


def test_money_of_running_orders_is_shown_as_reserved(sandbox):
    sandbox.inject_fault("stuck", vendor="openai")
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            sandbox.url + SUBMIT_PATH,
            json=ORDER_BODY,
            headers=AUTH_HEADERS,
            timeout=0.2,
            trust_env=False,
        )
    wait_until(lambda: get_reserved_usd(sandbox) == "0.005865", "the order's money is reserved")


# Latency


def measure_order_seconds(sandbox: RunningSandbox, **order: Any) -> float:
    started_at = time.monotonic()
    assert submit_order(sandbox, **order).status_code == 200
    return time.monotonic() - started_at


def test_latency_delays_orders(sandbox):
    sandbox.set_latency(0.3, vendor="openai")
    assert measure_order_seconds(sandbox) >= 0.3


def test_latency_can_be_set_per_quality_and_vendor(sandbox):
    """Orders of other qualities and vendors are not held."""
    sandbox.hold_orders(vendor="openai", quality="medium")
    sandbox.hold_orders(vendor="runapi")
    sandbox.set_latency(0.3, vendor="openai", quality="high")
    assert measure_order_seconds(sandbox, quality="low") > 0
    assert measure_order_seconds(sandbox, quality="high") >= 0.3


# Held orders


def start_order(sandbox: RunningSandbox, orders: ThreadPoolExecutor) -> Future[httpx.Response]:
    """Starts an order, and waits until its money is reserved: a logged request may not be an order yet."""
    order = orders.submit(submit_order, sandbox)
    wait_until(lambda: float(get_reserved_usd(sandbox)), "money is reserved")
    return order


def test_held_order_ends_when_it_is_released(sandbox):
    sandbox.hold_orders(vendor="openai")
    with ThreadPoolExecutor(1) as orders:
        order = start_order(sandbox, orders)
        sandbox.release_orders(vendor="runapi")
        assert (order.done(), sandbox.list_charges()) == (False, [])
        sandbox.release_orders(vendor="openai")
        assert order.result().status_code == 200
    assert len(sandbox.list_charges("openai")) == 1
    assert submit_order(sandbox).status_code == 200, "later orders are not held"


def test_held_response_is_sent_when_it_is_released(sandbox):
    """The order itself is not held: it is charged at once."""
    sandbox.set_latency(0.0)
    sandbox.hold_responses("openai", times=1)
    with ThreadPoolExecutor(1) as orders:
        order = orders.submit(submit_order, sandbox)
        wait_until(lambda: sandbox.list_charges("openai"), "the order is charged")
        assert not order.done()
        sandbox.release_orders()
        assert order.result().status_code == 200


# Switches


def test_changing_a_switch_keeps_the_others(sandbox):
    with sandbox.override_switches("openai", image_format="url"):
        now = sandbox.call_control_route("GET", "/switches")
        assert (now["openai"]["image_format"], now["openai"]["usage"]) == ("url", True)
        sandbox.reset()
        assert sandbox.call_control_route("GET", "/switches") == now
    assert sandbox.call_control_route("GET", "/switches")["openai"]["image_format"] == "b64_json"


def test_rejected_change_of_switches_changes_nothing(sandbox):
    before = sandbox.call_control_route("GET", "/switches")
    post_invalid_body(
        sandbox, "/switches", b'{"runapi": {"legacy_billing": "only"}, "openai": {"image_format": "fax"}}'
    )
    assert sandbox.call_control_route("GET", "/switches") == before


def test_lower_concurrency_makes_orders_wait(sandbox):
    sandbox.set_latency(0.3, vendor="openai")
    with sandbox.override_switches("openai", concurrency=1):
        started_at = time.monotonic()
        threads = [threading.Thread(target=submit_order, args=[sandbox]) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert time.monotonic() - started_at >= 0.6


# Reset


def test_reset_clears_everything_but_the_switches(sandbox):
    submit_order(sandbox)
    sandbox.inject_fault("refuse")
    sandbox.set_balance("openai", "0")
    sandbox.call_control_route("POST", "/reset")
    assert sandbox.list_charges() == []
    assert sandbox.call_control_route("GET", "/faults") == {"faults": []}
    assert sandbox.call_control_route("GET", "/requests") == {"requests": []}
    assert sandbox.call_control_route("GET", "/balance")["openai"]["spent_usd"] == "0.0"
    assert submit_order(sandbox).status_code == 200


def test_order_from_before_a_reset_is_not_charged(sandbox):
    """A reset ends it, so that no response from before the reset arrives long after it."""
    sandbox.hold_orders(vendor="openai")
    with ThreadPoolExecutor(1) as orders:
        order = start_order(sandbox, orders)
        sandbox.reset()
        assert order.result().status_code == 200
    assert sandbox.list_charges() == []
    assert sandbox.call_control_route("GET", "/balance")["openai"]["spent_usd"] == "0.0"


# Samples


def test_samples_have_the_requested_size(sandbox):
    assert sandbox.fetch_sample_image(64, 48)[16:24] == (64).to_bytes(4) + (48).to_bytes(4)
    assert sandbox.http.get("/_/sample.png").content[16:24] == (1024).to_bytes(4) * 2


@pytest.mark.parametrize("query", ["w=15", "h=5000", "w=x"])
def test_invalid_sample_size_is_rejected(sandbox, query):
    assert sandbox.http.get(f"/_/sample.png?{query}").status_code == 400


def test_health_reports_counts_and_memory(sandbox):
    submit_order(sandbox)
    health = sandbox.call_control_route("GET", "/health")
    assert (health["orders"], health["charges"]) == (1, 1)
    assert 0 < health["tasks"] < 100
    assert health["peak_memory_mb"] > 10
