"""A gateway, or its Redis, stands still for longer than a lease: whatever was on its way comes to its end, once."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx

from tests.chaos import books
from tests.chaos.clients import post
from tests.chaos.configs import SELLERS
from tests.chaos.gateways import gateway, until
from tests.chaos.places import LEASE, Stored
from tests.chaos.test_replicas import ended, posted
from tests.store.servers import Server
from tests.vendors import Vendors

# A store that has not answered for so long is taken for gone.
PATIENCE = 5.0
JOBS = 80


@contextmanager
def standing_still(pid: int, seconds: float) -> Iterator[None]:
    """Meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
        time.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_process_that_stood_still_goes_on_with_what_it_had_ordered(stored: Stored, sandbox: Vendors) -> None:
    """Nobody has taken its jobs over, and what came of the orders is known to its connections alone."""
    sandbox.latency(LEASE + 3.0)
    with gateway(stored.folder, stored.config, stored.environ) as one:
        jobs = [job for seller in SELLERS for job in posted(one, seller, 2)]
        until(lambda: one.metric("igw_account_orders") == len(jobs), "all are ordered")
        with standing_still(one.pid, LEASE + 1.5):
            pass
        found = ended(one, jobs)
        assert {job["status"] for job in found} == {"completed"}, [(job["error"], job["attempts"]) for job in found]
        assert [len(job["attempts"]) for job in found] == [1] * len(jobs)
        until(one.is_idle, "all is settled")
        one.stop()
    saved = books.read(stored.make)
    books.assert_in_order(saved, jobs)
    books.assert_invoice_is_explained(saved, sandbox)
    assert len(sandbox.charges()) == len(jobs)


def test_orders_and_answers_outlast_a_redis_that_stands_still(
    shared: Stored, redis_server: Server, sandbox: Vendors
) -> None:
    """Commits are carried out whose answers nobody waited for: each knows itself when it is repeated."""
    sandbox.latency(3.0, 2.0)
    with gateway(shared.folder, shared.config, shared.environ) as one:
        with one.client() as client, ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(_order, client, number) for number in range(JOBS)]
            until(lambda: sum(order.done() for order in asked) >= JOBS // 3, "some are accepted")
            with standing_still(redis_server.pid, PATIENCE + 2.5):
                pass
            answers = [order.result() for order in asked]
        assert {answer.status_code for answer in answers} <= {202, 503}
        jobs = [answer.json()["id"] for answer in answers if answer.status_code == 202]
        found = ended(one, jobs)
        assert {job["status"] for job in found} == {"completed"}, [one["attempts"] for one in found if one["error"]]
        assert [len(job["attempts"]) for job in found] == [1] * len(jobs)
        until(lambda: one.is_idle_for(LEASE + 1.5), "all is settled")
        one.stop()
    saved = books.read(shared.make)
    books.assert_in_order(saved, jobs)
    books.assert_invoice_is_explained(saved, sandbox)
    assert not any(attempt.suspected for attempt in saved.attempts.values())
    assert len(sandbox.charges()) == sum(job.captured > 0 for job in saved.jobs.values())


def test_who_was_told_that_nobody_knows_is_not_sold_what_he_cannot_find(
    shared: Stored, redis_server: Server, sandbox: Vendors
) -> None:
    """Without a key he would order anew; with one, asking again finds the job."""
    with gateway(shared.folder, shared.config, shared.environ) as one:
        with one.client() as client, ThreadPoolExecutor(8) as pool:
            with standing_still(redis_server.pid, PATIENCE + 2.5):
                asked = [pool.submit(_order, client, number, number % 2 == 0) for number in range(8)]
            assert {order.result().status_code for order in asked} == {503}
            again = [_order(client, number) for number in range(0, 8, 2)]
        found = ended(one, [answer.json()["id"] for answer in again])
        assert {job["status"] for job in found} == {"completed"}
        until(lambda: one.is_idle_for(LEASE + 1.5), "all is settled")
        one.stop()
    assert len(sandbox.charges()) == len(again)
    books.assert_invoice_is_explained(books.read(shared.make), sandbox)


def _order(client: httpx.Client, number: int, is_keyed: bool = True) -> httpx.Response:
    if is_keyed:
        return post(client, f"key-{number}", SELLERS[number % len(SELLERS)])
    return client.post("/v1/jobs", json={"prompt": f"no key {number}", "quality": "low", "policy": "runapi"})
