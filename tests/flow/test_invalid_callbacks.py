"""Forged, stale, swapped and replayed callbacks about orders in flight: none changes a job or causes a further poll."""

import hashlib
import hmac
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator

import pytest
from msgspec import Struct

from gateway.jobs.commit import decode_job
from sandbox.runapi.callbacks import CALLBACK_SECRET, WRONG_SECRET
from tests.api.parallel_requests import RawRequest, send_requests
from tests.flow.callback_url_edits import change_callback_url
from tests.flow.flow_config import PRICE_MICROS, RUNAPI, RUNFLOW_RUNS, SLOW_MODEL, VENDOR_BY_SELLER, GatewaySetup
from tests.flow.gateway_on_store import GatewayAndStore, make_gateway_fixture
from tests.flow.job_checks import make_unknown_id
from tests.flow.order_flow import OrderFlow
from tests.harness.signed_callbacks import sign_runapi_callback
from tests.harness.timings import FAST_TIMINGS, change_timing
from tests.harness.wait import wait_until
from tests.store.raw_sqlite import RawSqlite

SEED = 20_261_128
CALLING_SELLERS = (RUNAPI, RUNFLOW_RUNS)
ORDERS_PER_SELLER = 4
# Longer than the test: only a callback causes a poll.
LONG_SECONDS = 3_600.0
# Of all callbacks: repeated ones with a valid signature, and valid ones about another order.
REPLAYED_SHARE, MISDIRECTED_SHARE = 0.25, 0.1
FORMER_SECRET = "whsec_that_was_rotated_out"
# RunAPI's timestamps are valid for 300 s.
TOO_OLD_SECONDS, TOO_EARLY_SECONDS = 400.0, 3_600.0

gateway_and_store = make_gateway_fixture(
    GatewaySetup(
        timing=change_timing(
            FAST_TIMINGS, polls={"min_interval_seconds": LONG_SECONDS, "max_interval_seconds": LONG_SECONDS}
        )
    )
)


class Callback(Struct, frozen=True):
    url: str
    headers: dict[str, str]
    body: bytes

    def to_request(self) -> RawRequest:
        headers = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        path = "/" + self.url.split("/", 3)[3]
        return RawRequest(b"POST", path.encode(), [(b"Content-Type", b"application/json"), *headers], self.body)


class OpenOrder(Struct, frozen=True):
    """An order in flight. `secret`: with which its seller signs."""

    seller: str
    job_id: str
    url: str
    ticket: str
    secret: str

    def encode_body(self, status: str) -> bytes:
        name = "id" if self.seller == RUNAPI else "run_id"
        return json.dumps({name: self.ticket, "status": status, "usage": {"cost": 0.0}}).encode()

    def sign(self, body: bytes, secret: str | None = None, sent_at: float | None = None) -> dict[str, str]:
        secret = secret or self.secret
        if self.seller == RUNAPI:
            return sign_runapi_callback(body, f"callback of {self.ticket}", secret, sent_at)
        return {"runflow-signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}

    def make_report(self) -> Callback:
        """Makes a genuine callback: the order is in progress."""
        body = self.encode_body("processing")
        return Callback(self.url, self.sign(body), body)


def list_forged(order: OpenOrder, other: OpenOrder, foreign: OpenOrder) -> Iterator[tuple[str, Callback]]:
    """Yields callbacks with a false or an old signature. `other`: another order at the seller; `foreign`: one at the
    other seller."""
    lie, report = order.encode_body("failed"), order.make_report()
    wrong_secret = WRONG_SECRET if order.seller == RUNAPI else "whsec_of_another_account"
    yield "no signature", Callback(order.url, {}, lie)
    yield "wrong secret", Callback(order.url, order.sign(lie, wrong_secret), lie)
    yield "changed body", Callback(order.url, report.headers, lie)
    cut = {name: value[:10] if "signature" in name else value for name, value in report.headers.items()}
    yield "cut signature", Callback(order.url, cut, report.body)
    yield "signature of the other seller", Callback(order.url, foreign.sign(lie), lie)
    yield "callback of the other seller", Callback(order.url, foreign.make_report().headers, foreign.make_report().body)
    if order.seller == RUNAPI:
        now = time.time()
        for kind, sent_at in (("too old", now - TOO_OLD_SECONDS), ("too early", now + TOO_EARLY_SECONDS)):
            yield kind, Callback(order.url, order.sign(report.body, sent_at=sent_at), report.body)
        renewed = order.sign(report.body, sent_at=now - TOO_OLD_SECONDS) | {"x-callback-timestamp": str(int(now))}
        yield "renewed time", Callback(order.url, renewed, report.body)
    else:
        yield "former secret", Callback(order.url, order.sign(report.body, FORMER_SECRET), report.body)
    parts: dict[str, dict[str, str]] = {
        "no URL signature": {"signature": "0" * 32},
        "URL signature of another order": {"job": other.job_id},
        "another attempt": {"attempt": "2"},
        "another adapter": {"adapter": foreign.url.split("/")[-4]},
        "unknown job": {"job": make_unknown_id(order.job_id)},
    }
    for kind, changes in parts.items():
        yield kind, Callback(change_callback_url(order.url, **changes), report.headers, report.body)


@pytest.mark.parametrize(
    "count",
    [pytest.param(400, marks=pytest.mark.in_quick_run), pytest.param(20_000, marks=pytest.mark.thorough)],
)
def test_invalid_callbacks_change_nothing(flow: OrderFlow, gateway_and_store: GatewayAndStore, count: int) -> None:
    raw = gateway_and_store[1]
    assert isinstance(raw, RawSqlite)
    replayed_count, misdirected_count = int(count * REPLAYED_SHARE), int(count * MISDIRECTED_SHARE)
    orders = place_orders(flow, raw)
    draw = random.Random(SEED)  # noqa: S311 - it must be repeatable
    reports = [order.make_report() for order in orders]
    outcomes = count_outcomes(flow)
    assert send(flow, [("genuine", report) for report in reports]) == {"genuine": {204}}
    wait_until(lambda: count_polls(flow) == len(orders), "each order is polled")
    assert count_new_outcomes(flow, outcomes) == {"accepted": len(orders)}
    stored = read_stored_jobs(raw, orders)

    # While their times are valid.
    outcomes = count_outcomes(flow)
    replayed = [("replayed", draw.choice(reports)) for _ in range(replayed_count)]
    assert send(flow, replayed) == {"replayed": {204}}
    assert count_new_outcomes(flow, outcomes) == {"duplicate": replayed_count}

    outcomes = count_outcomes(flow)
    forged_count = count - replayed_count - misdirected_count
    forged = [make_forged(draw, orders) for _ in range(forged_count)]
    statuses = send(flow, forged)
    assert statuses == {kind: {401} for kind in list_kinds(orders)}
    new_outcomes = count_new_outcomes(flow, outcomes)
    assert new_outcomes.keys() == {"forged", "unknown"}
    assert sum(new_outcomes.values()) == forged_count
    assert count_polls(flow) == len(orders), "none caused a poll"
    assert read_stored_jobs(raw, orders) == stored

    # Their sellers signed them, so they need not send them again.
    outcomes = count_outcomes(flow)
    misdirected = [("misdirected", make_misdirected(draw, orders)) for _ in range(misdirected_count)]
    assert send(flow, misdirected) == {"misdirected": {204}}
    assert count_new_outcomes(flow, outcomes) == {"other_order": misdirected_count}
    assert count_polls(flow) == len(orders), "none caused a poll"
    assert read_stored_jobs(raw, orders) == stored

    outcomes = count_outcomes(flow)
    flow.sandbox.release_orders()
    for order in orders:
        assert flow.gateway.get_job(order.job_id)["status"] == "completed"
    wait_until(lambda: count_new_outcomes(flow, outcomes) == {"accepted": len(orders)}, "all callbacks are accepted")
    paid = {(seller, "capture"): ORDERS_PER_SELLER * PRICE_MICROS[seller] for seller in CALLING_SELLERS}
    assert flow.sum_ledger_by_line() == paid


def place_orders(flow: OrderFlow, raw: RawSqlite) -> list[OpenOrder]:
    """Places orders that their sellers do not finish, and waits for their tickets."""
    flow.gateway.callback_secret_path.write_text(FORMER_SECRET)
    flow.gateway.reload_config()
    flow.enable_callback_signatures()
    secrets = {RUNAPI: CALLBACK_SECRET, RUNFLOW_RUNS: flow.gateway.callback_secret_path.read_text()}
    flow.sandbox.hold_orders()
    sellers = {
        flow.start_job(provider={"only": [seller]}, model=SLOW_MODEL, prompt=f"lighthouse {number}"): seller
        for seller in CALLING_SELLERS
        for number in range(ORDERS_PER_SELLER)
    }
    tickets = wait_until(lambda: read_tickets(raw, sellers), "all orders have tickets")
    assert tickets is not None
    urls = {
        job_id: str(json.loads(order["body"])["callback_url"])
        for vendor in ("runapi", "runflow")
        for order in flow.sandbox.list_requests(vendor, "submit")
        for job_id in sellers
        if job_id in order["body"]
    }
    return [
        OpenOrder(seller, job_id, urls[job_id], tickets[job_id], secrets[seller]) for job_id, seller in sellers.items()
    ]


def read_tickets(raw: RawSqlite, job_ids: Iterable[str]) -> dict[str, str] | None:
    """Returns the tickets of the jobs' first attempts; None while one has none."""
    tickets = {}
    for job_id in job_ids:
        attempts = decode_job(read_stored_job(raw, job_id)).attempts
        if not attempts or not attempts[0].ticket:
            return None
        tickets[job_id] = attempts[0].ticket
    return tickets


def read_stored_jobs(raw: RawSqlite, orders: Iterable[OpenOrder]) -> list[bytes]:
    return [read_stored_job(raw, order.job_id) for order in orders]


def read_stored_job(raw: RawSqlite, job_id: str) -> bytes:
    (encoded_job,) = raw.connection.execute("SELECT encoded_job FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return bytes(encoded_job)


def list_kinds(orders: list[OpenOrder]) -> set[str]:
    first, second, foreign = orders[0], orders[1], orders[-1]
    found = [*list_forged(first, second, foreign), *list_forged(foreign, orders[-2], first)]
    return {kind for kind, _ in found}


def make_forged(draw: random.Random, orders: list[OpenOrder]) -> tuple[str, Callback]:
    order = draw.choice(orders)
    other = draw.choice([other for other in orders if other.seller == order.seller and other is not order])
    foreign = draw.choice([other for other in orders if other.seller != order.seller])
    return draw.choice(list(list_forged(order, other, foreign)))


def make_misdirected(draw: random.Random, orders: list[OpenOrder]) -> Callback:
    """Makes a genuine callback about one order, at the URL of another one."""
    order = draw.choice(orders)
    other = draw.choice([other for other in orders if other.seller == order.seller and other is not order])
    body = other.encode_body("failed")
    return Callback(order.url, other.sign(body), body)


def send(flow: OrderFlow, callbacks: Iterable[tuple[str, Callback]]) -> dict[str, set[int]]:
    """Sends the callbacks over several connections. Returns the statuses of each kind."""
    kinds: dict[int, str] = {}
    requests = []
    for kind, callback in callbacks:
        requests.append(callback.to_request())
        kinds[id(requests[-1])] = kind
    statuses: dict[str, set[int]] = defaultdict(set)
    for answer in send_requests(flow.gateway.url, requests):
        statuses[kinds[id(answer.request)]].add(answer.status)
    return dict(statuses)


def count_polls(flow: OrderFlow) -> int:
    return sum(len(flow.sandbox.list_requests(VENDOR_BY_SELLER[seller], "poll")) for seller in CALLING_SELLERS)


def count_outcomes(flow: OrderFlow) -> dict[str, float]:
    names = ("accepted", "duplicate", "late", "unchecked", "other_order", "forged", "unknown", "deferred")
    return {name: flow.gateway.read_metric("igw_callbacks_total", outcome=name) for name in names}


def count_new_outcomes(flow: OrderFlow, before: dict[str, float]) -> dict[str, float]:
    """Counts the callbacks since then, by outcome, without zeros."""
    new = {name: value - before[name] for name, value in count_outcomes(flow).items()}
    return {name: value for name, value in new.items() if value}
