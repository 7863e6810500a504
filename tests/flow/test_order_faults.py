"""Every fault of an order, at every seller: which seller delivers, which error the team gets, what is booked."""

from enum import Enum
from typing import Any

import pytest

from tests.flow.flow_config import (
    BACKUP_BY_SELLER,
    EACH_SELLER,
    OPENAI,
    PRICE_MICROS,
    RUNAPI,
    RUNFLOW_RUN,
    RUNFLOW_RUNS,
    SELLERS,
    UNREACHABLE_MODEL,
    UNREACHABLE_SELLER,
    VENDOR_BY_SELLER,
    GatewaySetup,
)
from tests.flow.gateway_on_store import make_fixture_on_each_store
from tests.flow.job_checks import format_fault, get_error_code
from tests.flow.order_flow import PROMPT, OrderFlow
from tests.harness.timings import IMPATIENT_TIMINGS

gateway_and_store = make_fixture_on_each_store(GatewaySetup(timing=IMPATIENT_TIMINGS))


class Outcome(Enum):
    """The outcome of a job for one image whose first order has a fault: what is booked and what is delivered."""

    DELIVERED = "the seller delivers, once"
    FAILED_OVER = "the order was not charged: the next seller delivers"
    ORPHANED_AND_FAILED_OVER = "charged and not delivered: an orphan, and the next seller delivers"
    ORPHANED = "charged and not downloadable: an orphan, and no other order"
    SUSPECTED = "possibly charged, and it was: suspected, and no other order"
    WRONGLY_SUSPECTED = "possibly charged, and it was not: suspected, and no other order"
    REFUSED = "the content is refused: nothing is booked, and no other order"


# Rows: the fault of the first order. Columns: the outcome at each seller, in the order of SELLERS.
NOT_CHARGED = (Outcome.FAILED_OVER, Outcome.FAILED_OVER, Outcome.FAILED_OVER, Outcome.FAILED_OVER)
# A failed order is not charged. OpenAI reports it by a status that may also mean an accepted order.
FAILED_WITHOUT_CHARGE = (*NOT_CHARGED[:3], Outcome.WRONGLY_SUSPECTED)
# Runs are found by the gateway's reference, tasks are resent with their key: two sellers reveal the outcome.
ACCEPTED_WITHOUT_RESPONSE = (Outcome.DELIVERED, Outcome.SUSPECTED, Outcome.DELIVERED, Outcome.SUSPECTED)
NOT_ACCEPTED_WITHOUT_RESPONSE = (
    Outcome.WRONGLY_SUSPECTED,
    Outcome.WRONGLY_SUSPECTED,
    Outcome.DELIVERED,
    Outcome.WRONGLY_SUSPECTED,
)
# fmt: off
FAULTS: list[tuple[dict[str, Any], tuple[Outcome, Outcome, Outcome, Outcome]]] = [
    ({"kind": "refuse"},                                      NOT_CHARGED),
    *(({"kind": "status", "status": status}, NOT_CHARGED) for status in (400, 401, 402, 403, 404, 422)),
    ({"kind": "status", "status": 429},                       NOT_CHARGED),
    ({"kind": "status", "status": 429, "headers": {"Retry-After": "0.05"}}, NOT_CHARGED),
    ({"kind": "status", "status": 503},                       FAILED_WITHOUT_CHARGE),
    ({"kind": "status", "status": 500},                       NOT_ACCEPTED_WITHOUT_RESPONSE),
    ({"kind": "status", "status": 502},                       NOT_ACCEPTED_WITHOUT_RESPONSE),
    ({"kind": "status", "status": 500, "accepted": True},     ACCEPTED_WITHOUT_RESPONSE),
    ({"kind": "html"},                                        NOT_ACCEPTED_WITHOUT_RESPONSE),
    ({"kind": "html", "status": 503},                         NOT_ACCEPTED_WITHOUT_RESPONSE),
    ({"kind": "html", "accepted": True},                      ACCEPTED_WITHOUT_RESPONSE),
    ({"kind": "html", "status": 200, "accepted": True},       ACCEPTED_WITHOUT_RESPONSE),
    ({"kind": "reset_before"},                                NOT_ACCEPTED_WITHOUT_RESPONSE),
    ({"kind": "reset_after"},                                 ACCEPTED_WITHOUT_RESPONSE),
    ({"kind": "hang"},                                        NOT_ACCEPTED_WITHOUT_RESPONSE),
    ({"kind": "hang", "accepted": True},                      ACCEPTED_WITHOUT_RESPONSE),
    ({"kind": "truncate"},                                    ACCEPTED_WITHOUT_RESPONSE),
    ({"kind": "slow", "seconds": 0.3},                        (Outcome.DELIVERED,) * 4),
    ({"kind": "slow", "seconds": 0.3, "in_chunks": True},          (Outcome.DELIVERED,) * 4),
    ({"kind": "stuck"},                                       (Outcome.WRONGLY_SUSPECTED,) * 4),
    ({"kind": "fail"},                                        FAILED_WITHOUT_CHARGE),
    ({"kind": "partial"},                                     FAILED_WITHOUT_CHARGE),
    ({"kind": "refuse_content"},                              (Outcome.REFUSED,) * 4),
    ({"kind": "empty_outputs"},                               (Outcome.ORPHANED_AND_FAILED_OVER,) * 4),
    ({"kind": "half_size"},                                   (Outcome.DELIVERED,) * 4),
    ({"kind": "expired_url"},                                 (Outcome.ORPHANED,) * 4),
]
# fmt: on
LEDGER_LINE_BY_OUTCOME = {
    Outcome.DELIVERED: "capture",
    Outcome.ORPHANED_AND_FAILED_OVER: "orphan",
    Outcome.ORPHANED: "orphan",
    Outcome.SUSPECTED: "suspected",
    Outcome.WRONGLY_SUSPECTED: "suspected",
}
# The job's error code, for outcomes without an image.
ERROR_CODE_BY_OUTCOME = {
    Outcome.ORPHANED: "paid_not_delivered",
    Outcome.REFUSED: "moderation_blocked",
    Outcome.SUSPECTED: "outcome_unknown",
    Outcome.WRONGLY_SUSPECTED: "outcome_unknown",
}


def make_cases() -> list[Any]:
    return [
        pytest.param(seller, fault, outcome, id=f"{format_fault(fault)}{'-later' * ('headers' in fault)}-{seller}")
        for fault, outcomes in FAULTS
        for seller, outcome in zip(SELLERS, outcomes, strict=True)
    ]


def get_expected_ledger(seller: str, outcome: Outcome) -> dict[tuple[str, str], int]:
    lines = (
        {(seller, LEDGER_LINE_BY_OUTCOME[outcome]): PRICE_MICROS[seller]} if outcome in LEDGER_LINE_BY_OUTCOME else {}
    )
    backup = BACKUP_BY_SELLER[seller]
    return lines | (
        {(backup, "capture"): PRICE_MICROS[backup]}
        if outcome in (Outcome.FAILED_OVER, Outcome.ORPHANED_AND_FAILED_OVER)
        else {}
    )


def get_delivering_seller(seller: str, outcome: Outcome) -> str | None:
    """Returns the seller whose image is delivered."""
    if outcome is Outcome.DELIVERED:
        return seller
    return BACKUP_BY_SELLER[seller] if outcome in (Outcome.FAILED_OVER, Outcome.ORPHANED_AND_FAILED_OVER) else None


@pytest.mark.one_in(8)
@pytest.mark.parametrize(("seller", "fault", "outcome"), make_cases())
def test_order_fault_has_the_outcome_in_the_table(
    flow: OrderFlow, seller: str, fault: dict[str, Any], outcome: Outcome
) -> None:
    is_delivered_by_url = seller == OPENAI and fault["kind"] == "expired_url"
    with flow.sandbox.override_switches("openai", image_format="url" if is_delivered_by_url else "b64_json"):
        flow.sandbox.inject_fault(vendor=VENDOR_BY_SELLER[seller], times=1, **fault)
        job = flow.order_with_failover(seller)
    assert flow.sum_ledger_by_line() == get_expected_ledger(seller, outcome), job
    if outcome is Outcome.WRONGLY_SUSPECTED:
        flow.uncharged_suspects[VENDOR_BY_SELLER[seller]] = PRICE_MICROS[seller]
    delivering_seller = get_delivering_seller(seller, outcome)
    assert [image["seller"] for image in job["images"]] == ([delivering_seller] if delivering_seller else [])
    assert job["status"] == ("completed" if delivering_seller else "failed")
    assert get_error_code(job) == (None if delivering_seller else ERROR_CODE_BY_OUTCOME[outcome])
    if delivering_seller != BACKUP_BY_SELLER[seller]:
        assert flow.count_orders(BACKUP_BY_SELLER[seller]) == 0


@EACH_SELLER
def test_too_small_image_is_delivered_with_a_warning(flow: OrderFlow, seller: str) -> None:
    flow.sandbox.inject_fault("half_size", vendor=VENDOR_BY_SELLER[seller])
    job = flow.order_with_failover(seller, size="1024x1024")
    [image] = flow.fetch_images(job)
    assert image.size == (512, 512)
    assert job["images"][0]["size"] == "512x512"
    assert any("512x512" in warning for warning in job["warnings"])


@pytest.mark.parametrize("seller", [RUNFLOW_RUN, OPENAI])
@pytest.mark.parametrize("fault", [{"kind": "reset_before"}, {"kind": "html"}], ids=format_fault)
def test_policy_can_reorder_elsewhere_after_an_unknown_outcome(
    flow: OrderFlow, seller: str, fault: dict[str, Any]
) -> None:
    flow.sandbox.inject_fault(vendor=VENDOR_BY_SELLER[seller], times=1, **fault)
    job = flow.run_job(policy=f"reorder-{seller}")
    backup = BACKUP_BY_SELLER[seller]
    assert [image["seller"] for image in job["images"]] == [backup]
    assert flow.sum_ledger_by_line() == {
        (seller, "suspected"): PRICE_MICROS[seller],
        (backup, "capture"): PRICE_MICROS[backup],
    }
    flow.uncharged_suspects[VENDOR_BY_SELLER[seller]] = PRICE_MICROS[seller]


@pytest.mark.parametrize(
    ("first", "code", "line"),
    [
        ({"kind": "status", "status": 500, "accepted": True}, "outcome_unknown", "suspected"),
        ({"kind": "empty_outputs"}, "paid_not_delivered", "orphan"),
    ],
    ids=["lost", "empty"],
)
def test_possible_charge_of_the_first_seller_is_reported_after_failed_failover(
    flow: OrderFlow, first: dict[str, Any], code: str, line: str
) -> None:
    flow.sandbox.inject_fault(vendor="openai", times=1, **first)
    flow.sandbox.inject_fault("status", vendor="runapi", route="submit", status=401)
    answer = flow.gateway.post_generation({"prompt": PROMPT, "quality": "low", "policy": "reorder-openai"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (424, code)
    assert "retry-after" not in answer.headers
    assert "new purchase" in answer.json()["error"]["message"]
    job = flow.gateway.get_job(answer.headers["x-igw-job-id"])
    assert [attempt["fault"] for attempt in job["attempts"]][1:] == ["invalid_key"]
    assert get_error_code(job) == code
    assert flow.sum_ledger_by_line() == {(OPENAI, line): PRICE_MICROS[OPENAI]}


def test_unreachable_seller_is_skipped(flow: OrderFlow) -> None:
    job = flow.run_job(model=UNREACHABLE_MODEL)
    assert [(attempt["seller"], attempt["fault"]) for attempt in job["attempts"]] == [
        (UNREACHABLE_SELLER, "not_sent"),
        (OPENAI, None),
    ]
    assert flow.sum_ledger_by_line() == {(OPENAI, "capture"): PRICE_MICROS[OPENAI]}


def test_seller_without_credit_is_skipped(flow: OrderFlow) -> None:
    flow.sandbox.set_balance("runapi", "0.01")
    job = flow.order_with_failover(RUNAPI)
    assert [image["seller"] for image in job["images"]] == [RUNFLOW_RUNS]
    assert flow.sum_ledger_by_line() == {(RUNFLOW_RUNS, "capture"): PRICE_MICROS[RUNFLOW_RUNS]}


def test_seller_paused_at_job_creation_can_still_be_used_later(flow: OrderFlow) -> None:
    flow.sandbox.inject_fault("status", vendor="runflow", times=1, status=429, headers={"Retry-After": "2"})
    assert flow.order_with_failover(RUNFLOW_RUNS)["images"][0]["seller"] == RUNAPI
    flow.sandbox.inject_fault("refuse", vendor="runapi", times=1)
    job = flow.order_with_failover(RUNAPI)
    assert [attempt["seller"] for attempt in job["attempts"]] == [RUNAPI, RUNFLOW_RUNS]
    assert [image["seller"] for image in job["images"]] == [RUNFLOW_RUNS], job


def test_seller_that_ignores_idempotency_keys_charges_twice_and_is_booked_once(flow: OrderFlow) -> None:
    """Only the vendor's invoice shows the second charge: it has one line more than the ledger."""
    flow.sandbox.inject_fault("reset_after", vendor="runapi", times=1)
    flow.sandbox.inject_fault("ignore_idempotency_key", vendor="runapi")
    job = flow.order_with_failover(RUNAPI)
    assert job["status"] == "completed"
    assert flow.sum_ledger_by_line() == {(RUNAPI, "capture"): PRICE_MICROS[RUNAPI]}
    assert len(flow.sandbox.list_charges("runapi")) == 2
    flow.duplicate_charges["runapi"] = PRICE_MICROS[RUNAPI]


@EACH_SELLER
def test_job_rejected_by_all_sellers_fails_and_books_nothing(flow: OrderFlow, seller: str) -> None:
    flow.sandbox.inject_fault("refuse")
    job = flow.order_with_failover(seller)
    assert job["status"] == "failed"
    assert get_error_code(job) == "order_refused"
    assert flow.sum_ledger_by_line() == {}
    assert [attempt["seller"] for attempt in job["attempts"]] == [seller, BACKUP_BY_SELLER[seller]]


@EACH_SELLER
def test_content_refusal_is_final_on_the_openai_route(flow: OrderFlow, seller: str) -> None:
    flow.sandbox.inject_fault("refuse_content", vendor=VENDOR_BY_SELLER[seller])
    answer = flow.gateway.post_generation({"prompt": "something vile", "n": 2, "policy": f"failover-{seller}"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "moderation_blocked"
    assert answer.headers["x-should-retry"] == "false"
    assert flow.sum_ledger_by_line() == {}
    assert flow.count_orders(BACKUP_BY_SELLER[seller]) == 0


# Several images


@EACH_SELLER
@pytest.mark.parametrize("n", [4, 10])
def test_failover_delivers_all_requested_images(flow: OrderFlow, seller: str, n: int) -> None:
    flow.sandbox.inject_fault("fail" if seller != OPENAI else "refuse", vendor=VENDOR_BY_SELLER[seller])
    job = flow.order_with_failover(seller, n=n)
    assert [image["index"] for image in job["images"]] == list(range(n))
    assert {image["seller"] for image in job["images"]} == {BACKUP_BY_SELLER[seller]}
    assert flow.sum_ledger_by_line() == {
        (BACKUP_BY_SELLER[seller], "capture"): PRICE_MICROS[BACKUP_BY_SELLER[seller]] * n
    }


@pytest.mark.parametrize("seller", [RUNFLOW_RUNS, RUNFLOW_RUN, OPENAI])
def test_images_missing_from_an_order_come_from_the_next_seller(flow: OrderFlow, seller: str) -> None:
    flow.sandbox.inject_fault("partial", vendor=VENDOR_BY_SELLER[seller], missing=1, times=1)
    job = flow.order_with_failover(seller, n=4)
    assert job["status"] == "completed"
    assert [image["index"] for image in job["images"]] == [0, 1, 2, 3]
    assert [image["seller"] for image in job["images"]] == [seller] * 3 + [BACKUP_BY_SELLER[seller]]
    assert {key for key in flow.sum_ledger_by_line()} == {(seller, "capture"), (BACKUP_BY_SELLER[seller], "capture")}


@pytest.mark.parametrize("seller", [RUNFLOW_RUNS, RUNFLOW_RUN, OPENAI])
def test_job_completes_with_a_warning_when_no_seller_makes_a_missing_image(flow: OrderFlow, seller: str) -> None:
    flow.sandbox.inject_fault("partial", vendor=VENDOR_BY_SELLER[seller], missing=1, times=1)
    flow.sandbox.inject_fault("refuse", vendor=VENDOR_BY_SELLER[BACKUP_BY_SELLER[seller]])
    job = flow.order_with_failover(seller, n=4)
    assert job["status"] == "completed"
    assert [image["index"] for image in job["images"]] == [0, 1, 2]
    assert any("3 of 4" in warning for warning in job["warnings"])
    assert {key for key in flow.sum_ledger_by_line()} == {(seller, "capture")}


def test_only_the_failed_one_of_several_orders_fails_over(flow: OrderFlow) -> None:
    """RunAPI makes one image per order: three orders, one of which fails."""
    flow.sandbox.inject_fault("fail", vendor="runapi", times=1)
    job = flow.order_with_failover(RUNAPI, n=3)
    assert len(job["images"]) == 3
    assert flow.sum_ledger_by_line() == {
        (RUNAPI, "capture"): 2 * PRICE_MICROS[RUNAPI],
        (RUNFLOW_RUNS, "capture"): PRICE_MICROS[RUNFLOW_RUNS],
    }, job


@EACH_SELLER
def test_charge_for_several_undelivered_images_is_booked_as_orphan(flow: OrderFlow, seller: str) -> None:
    """For every seller, also for OpenAI, which charges by tokens."""
    flow.sandbox.inject_fault("empty_outputs", vendor=VENDOR_BY_SELLER[seller])
    flow.sandbox.inject_fault("refuse", vendor=VENDOR_BY_SELLER[BACKUP_BY_SELLER[seller]])
    job = flow.order_with_failover(seller, n=3)
    assert job["status"] == "failed"
    assert [line for _, line in flow.sum_ledger_by_line()] == ["orphan"]
