"""Thousands of clients that leave at any moment cost nothing that is not given back, and change no job."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from tests.chaos import books
from tests.chaos.clients import post
from tests.chaos.configs import SELLERS
from tests.chaos.gateways import STRANGERS_KEY, Gateway, gateway, until
from tests.chaos.leavers import STAGES, Leavers
from tests.chaos.places import Stored
from tests.store import servers
from tests.vendors import Vendors

LEAVERS, SEED, AFTERWARDS = 5_000, 7, 100


def test_five_thousand_clients_leave_and_nothing_of_them_stays(
    shared: Stored, redis_server: servers.Server, sandbox: Vendors
) -> None:
    environ = {**shared.environ, "IGW_LOG": "json"}
    with gateway(shared.folder, shared.config, environ) as one:
        _all_succeed(one, "before")
        before = _rest(one, redis_server)
        with one.client() as client:
            sandbox.fault("stuck", vendor="runapi", times=1)
            stuck = post(client, "stuck", "runapi").json()["id"]
        leavers = Leavers(one.port, stuck, SEED)
        asyncio.run(leavers.all(LEAVERS))
        assert leavers.left.total() == LEAVERS
        assert all(leavers.left[stage] > LEAVERS / 20 for stage in STAGES)
        until(lambda: one.metric("igw_jobs_in_flight") == 1, "only the job that is stuck is left")
        _all_succeed(one, "after")
        until(lambda: _is_at_rest(one, redis_server, before), f"it holds no more than before: {before}", seconds=30)
        assert one.metric("igw_troubles_total") == 0, one.said()[-4_000:]
        one.stop_at_once()
    found = books.read(shared.make)
    assert {job.state for name, job in found.jobs.items() if name != stuck} == {"completed"}
    books.assert_invoice_is_explained(found, sandbox)


def test_strangers_wait_for_nothing_that_they_must_not_know_of(stored: Stored, sandbox: Vendors) -> None:
    """Another team's job looks like none at all; that somebody waits for it would give it away."""
    sandbox.fault("stuck", vendor="runapi", times=1)
    with gateway(stored.folder, stored.config, stored.environ) as one, one.client() as client:
        job = post(client, "stuck", "runapi").json()["id"]
        strangers = {"authorization": f"Bearer {STRANGERS_KEY}"}
        began = time.monotonic()
        answer = client.get(f"/v1/jobs/{job}?wait=30", headers=strangers)
        assert answer.status_code == 404
        assert time.monotonic() - began < 5
        one.stop_at_once()


def _all_succeed(at: Gateway, name: str) -> None:
    orders = [(f"{name}-{number}", SELLERS[number % len(SELLERS)]) for number in range(AFTERWARDS)]
    with at.client() as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda order: post(client, *order, 60), orders))
    assert [answer.json()["status"] for answer in answers] == ["completed"] * AFTERWARDS


def _rest(at: Gateway, server: servers.Server) -> dict[str, int]:
    until(at.is_idle, "nothing is in flight")
    return _held(at, server)


def _held(at: Gateway, server: servers.Server) -> dict[str, int]:
    clients = [line for line in server.cli("CLIENT", "LIST").splitlines() if line]
    return {**at.counts(), "redis": len(clients)}


def _is_at_rest(at: Gateway, server: servers.Server, before: dict[str, int]) -> bool:
    """The stuck job has an owner, its listener and its poll, with one connection; the rest is as it was."""
    now = _held(at, server)
    print(f"before {before}, now {now}")
    allowed = {"tasks": 5, "files": 4, "threads": 2, "redis": 1}
    return all(now[what] <= before[what] + more for what, more in allowed.items())
