"""Every fault that can befall an order, at every seller: who delivers, what the team is told, where the money went."""

from enum import Enum
from typing import Any

import pytest

from tests.flow.configuration import BACKUP, CLOSED, SECLUDED, SELLERS, VENDOR
from tests.flow.gateways import PROMPT, Flow, Job

PRICE = {"runflow-runs": 9_000, "runflow-run": 9_000, "runapi": 60_000, "openai": 5_875}


class End(Enum):
    """How a job for one image ends whose first order meets a fault: what is booked, and what the team gets."""

    DELIVERED = "the seller delivers all the same, once"
    ELSEWHERE = "nothing was bought there: the next seller delivers"
    PAID_IN_VAIN = "bought there and not delivered: an orphan, and the next seller delivers"
    LOST_PICTURES = "bought there and not to be had: an orphan, and no other order"
    SUSPECTED = "perhaps bought, and it was: suspected, and no other order"
    WRONGLY_SUSPECTED = "perhaps bought, and it was not: suspected, and no other order"
    REFUSED = "the content is refused: nothing is booked, and no other order"


RUNS, RUN, RUNAPI, OPENAI = SELLERS
E = End
# Rows: what befalls the first order. Columns: the ending at each seller, in the order of SELLERS.
NOT_BOUGHT = (E.ELSEWHERE, E.ELSEWHERE, E.ELSEWHERE, E.ELSEWHERE)
# Runs are searched for by our reference, tasks are ordered again by their key: two sellers can tell what became of it.
TAKEN = (E.DELIVERED, E.SUSPECTED, E.DELIVERED, E.SUSPECTED)
NOT_TAKEN = (E.WRONGLY_SUSPECTED, E.WRONGLY_SUSPECTED, E.DELIVERED, E.WRONGLY_SUSPECTED)
# fmt: off
FAULTS: list[tuple[dict[str, Any], tuple[End, End, End, End]]] = [
    ({"kind": "refuse"},                                      NOT_BOUGHT),
    *(({"kind": "status", "status": status},                  NOT_BOUGHT) for status in (400, 401, 402, 403, 404, 422)),
    ({"kind": "status", "status": 429},                       NOT_BOUGHT),
    ({"kind": "status", "status": 429, "headers": {"Retry-After": "0.05"}}, NOT_BOUGHT),
    ({"kind": "status", "status": 503},                       (E.ELSEWHERE, E.ELSEWHERE, E.ELSEWHERE, NOT_TAKEN[3])),
    ({"kind": "status", "status": 500},                       NOT_TAKEN),
    ({"kind": "status", "status": 502},                       NOT_TAKEN),
    ({"kind": "status", "status": 500, "accepted": True},     TAKEN),
    ({"kind": "html"},                                        NOT_TAKEN),
    ({"kind": "html", "status": 503},                         NOT_TAKEN),
    ({"kind": "html", "accepted": True},                      TAKEN),
    ({"kind": "html", "status": 200, "accepted": True},       TAKEN),
    ({"kind": "reset_before"},                                NOT_TAKEN),
    ({"kind": "reset_after"},                                 TAKEN),
    ({"kind": "hang"},                                        NOT_TAKEN),
    ({"kind": "hang", "accepted": True},                      TAKEN),
    ({"kind": "truncate"},                                    TAKEN),
    ({"kind": "slow", "seconds": 0.3},                        (E.DELIVERED,) * 4),
    ({"kind": "slow", "seconds": 0.3, "drip": True},          (E.DELIVERED,) * 4),
    ({"kind": "stuck"},                                       (E.WRONGLY_SUSPECTED,) * 4),
    ({"kind": "fail"},                                        (E.ELSEWHERE, E.ELSEWHERE, E.ELSEWHERE, NOT_TAKEN[3])),
    ({"kind": "partial"},                                     (E.ELSEWHERE, E.ELSEWHERE, E.ELSEWHERE, NOT_TAKEN[3])),
    ({"kind": "refuse_content"},                              (E.REFUSED,) * 4),
    ({"kind": "empty_outputs"},                               (E.PAID_IN_VAIN,) * 4),
    ({"kind": "downgrade"},                                   (E.DELIVERED,) * 4),
    ({"kind": "expired_url"},                                 (E.LOST_PICTURES,) * 4),
]
# fmt: on
BOOKED = {
    E.DELIVERED: "capture",
    E.PAID_IN_VAIN: "orphan",
    E.LOST_PICTURES: "orphan",
    E.SUSPECTED: "suspected",
    E.WRONGLY_SUSPECTED: "suspected",
}
# The job's end as its team is told of it, where no image comes.
TOLD = {
    E.LOST_PICTURES: "paid_not_delivered",
    E.REFUSED: "moderation_blocked",
    E.SUSPECTED: "outcome_unknown",
    E.WRONGLY_SUSPECTED: "outcome_unknown",
}
EACH = pytest.mark.parametrize("seller", SELLERS)


def name_of(fault: dict[str, Any]) -> str:
    return "-".join(str(value) for value in fault.values() if not isinstance(value, dict | float))


def cases() -> list[Any]:
    return [
        pytest.param(seller, fault, end, id=f"{name_of(fault)}{'-later' * ('headers' in fault)}-{seller}")
        for fault, ends in FAULTS
        for seller, end in zip(SELLERS, ends, strict=True)
    ]


def expected(seller: str, end: End) -> dict[tuple[str, str], int]:
    lines = {(seller, BOOKED[end]): PRICE[seller]} if end in BOOKED else {}
    backup = BACKUP[seller]
    return lines | ({(backup, "capture"): PRICE[backup]} if end in (E.ELSEWHERE, E.PAID_IN_VAIN) else {})


def sold_by(seller: str, end: End) -> str | None:
    """Whose picture the team gets."""
    if end is E.DELIVERED:
        return seller
    return BACKUP[seller] if end in (E.ELSEWHERE, E.PAID_IN_VAIN) else None


def told(job: Job) -> str | None:
    return job["error"] and job["error"]["code"]


@pytest.mark.parametrize(("seller", "fault", "end"), cases())
def test_an_order_that_meets_a_fault_ends_as_the_table_says(
    flow: Flow, seller: str, fault: dict[str, Any], end: End
) -> None:
    is_by_link = seller == OPENAI and fault["kind"] == "expired_url"
    with flow.sandbox.switched("openai", delivers="url" if is_by_link else "b64_json"):
        flow.sandbox.fault(vendor=VENDOR[seller], times=1, **fault)
        job = flow.buy_first(seller)
    assert flow.booked() == expected(seller, end), job
    if end is E.WRONGLY_SUSPECTED:
        flow.never_charged[VENDOR[seller]] = PRICE[seller]
    winner = sold_by(seller, end)
    assert [one["seller"] for one in job["images"]] == ([winner] if winner else [])
    assert job["status"] == ("completed" if winner else "failed")
    assert told(job) == (None if winner else TOLD[end])
    if winner != BACKUP[seller]:
        assert flow.orders(BACKUP[seller]) == 0


@EACH
def test_a_smaller_picture_than_was_ordered_is_delivered_with_a_warning(flow: Flow, seller: str) -> None:
    flow.sandbox.fault("downgrade", vendor=VENDOR[seller])
    job = flow.buy_first(seller, size="1024x1024")
    [picture] = flow.pictures(job)
    assert picture.size == (512, 512)
    assert job["images"][0]["size"] == "512x512"
    assert any("512x512" in warning for warning in job["warnings"])


@pytest.mark.parametrize("seller", [RUN, OPENAI])
@pytest.mark.parametrize("fault", [{"kind": "reset_before"}, {"kind": "html"}], ids=name_of)
def test_where_a_policy_says_so_an_unknown_order_is_ordered_again_elsewhere(
    flow: Flow, seller: str, fault: dict[str, Any]
) -> None:
    flow.sandbox.fault(vendor=VENDOR[seller], times=1, **fault)
    job = flow.ask(policy=f"again-{seller}")
    backup = BACKUP[seller]
    assert [one["seller"] for one in job["images"]] == [backup]
    assert flow.booked() == {(seller, "suspected"): PRICE[seller], (backup, "capture"): PRICE[backup]}
    flow.never_charged[VENDOR[seller]] = PRICE[seller]


@pytest.mark.parametrize(
    ("first", "code", "line"),
    [
        ({"kind": "status", "status": 500, "accepted": True}, "outcome_unknown", "suspected"),
        ({"kind": "empty_outputs"}, "paid_not_delivered", "orphan"),
    ],
    ids=["lost", "empty"],
)
def test_possible_sale_of_the_first_seller_is_reported_although_the_last_one_took_nothing(
    flow: Flow, first: dict[str, Any], code: str, line: str
) -> None:
    flow.sandbox.fault(vendor="openai", times=1, **first)
    flow.sandbox.fault("status", vendor="runapi", route="submit", status=401)
    answer = flow.gateway.generate({"prompt": PROMPT, "quality": "low", "policy": "again-openai"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (424, code)
    assert "retry-after" not in answer.headers
    assert "new purchase" in answer.json()["error"]["message"]
    job = flow.gateway.job(answer.headers["x-igw-job-id"])
    assert [one["fault"] for one in job["attempts"]][1:] == ["bad_key"]
    assert told(job) == code
    assert flow.booked() == {(OPENAI, line): PRICE[OPENAI]}


def test_a_seller_that_cannot_be_reached_is_passed_over(flow: Flow) -> None:
    job = flow.ask(model=SECLUDED)
    assert [(one["seller"], one["fault"]) for one in job["attempts"]] == [(CLOSED, "not_sent"), (OPENAI, None)]
    assert flow.booked() == {(OPENAI, "capture"): PRICE[OPENAI]}


def test_a_seller_where_our_credit_is_used_up_is_passed_over(flow: Flow) -> None:
    flow.sandbox.balance("runapi", "0.01")
    job = flow.buy_first(RUNAPI)
    assert [one["seller"] for one in job["images"]] == [RUNS]
    assert flow.booked() == {(RUNS, "capture"): PRICE[RUNS]}


def test_a_seller_that_rests_for_a_moment_when_a_job_is_accepted_is_not_out_of_it_for_good(flow: Flow) -> None:
    flow.sandbox.fault("status", vendor="runflow", times=1, status=429, headers={"Retry-After": "2"})
    assert flow.buy_first(RUNS)["images"][0]["seller"] == RUNAPI
    flow.sandbox.fault("refuse", vendor="runapi", times=1)
    job = flow.buy_first(RUNAPI)
    assert [attempt["seller"] for attempt in job["attempts"]] == [RUNAPI, RUNS]
    assert [one["seller"] for one in job["images"]] == [RUNS], job


def test_a_seller_that_breaks_its_promise_about_keys_sells_twice_and_is_booked_once(flow: Flow) -> None:
    """Nobody but the vendor can know; its invoice shows it, one line more than our books."""
    flow.sandbox.fault("reset_after", vendor="runapi", times=1)
    flow.sandbox.fault("ignore_idempotency_key", vendor="runapi")
    job = flow.buy_first(RUNAPI)
    assert job["status"] == "completed"
    assert flow.booked() == {(RUNAPI, "capture"): PRICE[RUNAPI]}
    assert len(flow.sandbox.charges("runapi")) == 2
    flow.charged_twice["runapi"] = PRICE[RUNAPI]


@EACH
def test_no_seller_left_is_told_and_nothing_is_booked(flow: Flow, seller: str) -> None:
    flow.sandbox.fault("refuse")
    job = flow.buy_first(seller)
    assert job["status"] == "failed"
    assert told(job) == "order_refused"
    assert flow.booked() == {}
    assert [attempt["seller"] for attempt in job["attempts"]] == [seller, BACKUP[seller]]


@EACH
def test_a_refusal_of_content_is_final_on_openais_route_too(flow: Flow, seller: str) -> None:
    flow.sandbox.fault("refuse_content", vendor=VENDOR[seller])
    answer = flow.gateway.generate({"prompt": "something vile", "n": 2, "policy": f"first-{seller}"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "moderation_blocked"
    assert answer.headers["x-should-retry"] == "false"
    assert flow.booked() == {}
    assert flow.orders(BACKUP[seller]) == 0


# Several images


@EACH
@pytest.mark.parametrize("n", [4, 10])
def test_failing_over_keeps_the_number_of_images(flow: Flow, seller: str, n: int) -> None:
    flow.sandbox.fault("fail" if seller != OPENAI else "refuse", vendor=VENDOR[seller])
    job = flow.buy_first(seller, n=n)
    assert [one["index"] for one in job["images"]] == list(range(n))
    assert {one["seller"] for one in job["images"]} == {BACKUP[seller]}
    assert flow.booked() == {(BACKUP[seller], "capture"): PRICE[BACKUP[seller]] * n}


@pytest.mark.parametrize("seller", [RUNS, RUN, OPENAI])
def test_what_a_seller_leaves_out_comes_from_the_next(flow: Flow, seller: str) -> None:
    flow.sandbox.fault("partial", vendor=VENDOR[seller], missing=1, times=1)
    job = flow.buy_first(seller, n=4)
    assert job["status"] == "completed"
    assert [one["index"] for one in job["images"]] == [0, 1, 2, 3]
    assert [one["seller"] for one in job["images"]] == [seller] * 3 + [BACKUP[seller]]
    assert {key for key in flow.booked()} == {(seller, "capture"), (BACKUP[seller], "capture")}


@pytest.mark.parametrize("seller", [RUNS, RUN, OPENAI])
def test_what_nobody_makes_is_missing_and_the_rest_is_delivered(flow: Flow, seller: str) -> None:
    flow.sandbox.fault("partial", vendor=VENDOR[seller], missing=1, times=1)
    flow.sandbox.fault("refuse", vendor=VENDOR[BACKUP[seller]])
    job = flow.buy_first(seller, n=4)
    assert job["status"] == "completed"
    assert [one["index"] for one in job["images"]] == [0, 1, 2]
    assert any("3 of 4" in warning for warning in job["warnings"])
    assert {key for key in flow.booked()} == {(seller, "capture")}


def test_one_of_several_orders_may_fail_over_alone(flow: Flow) -> None:
    """RunAPI makes one picture of an order: three orders, one of which fails."""
    flow.sandbox.fault("fail", vendor="runapi", times=1)
    job = flow.buy_first(RUNAPI, n=3)
    assert len(job["images"]) == 3
    assert flow.booked() == {(RUNAPI, "capture"): 2 * PRICE[RUNAPI], (RUNS, "capture"): PRICE[RUNS]}, job


@EACH
def test_several_pictures_paid_for_in_vain_are_an_orphan_of_what_was_charged(flow: Flow, seller: str) -> None:
    """Whatever the seller bills by: at OpenAI, tokens."""
    flow.sandbox.fault("empty_outputs", vendor=VENDOR[seller])
    flow.sandbox.fault("refuse", vendor=VENDOR[BACKUP[seller]])
    job = flow.buy_first(seller, n=3)
    assert job["status"] == "failed"
    assert [line for _, line in flow.booked()] == ["orphan"]
