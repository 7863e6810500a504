"""A replica stands still while another one buys elsewhere, and then delivers what it had ordered itself."""

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from sandbox.runapi_callbacks import CALLBACK_SECRET, sign
from tests.chaos import books
from tests.chaos.clients import post
from tests.chaos.gateways import Gateway, gateway, until
from tests.chaos.places import LEASE, Stored
from tests.chaos.test_replicas import ended
from tests.vendors import Vendors

AGAIN = "  again: {rank: listed, sellers: [openai, runflow-run], failover: {on_unknown: reorder}}\n"


@pytest.fixture
def replicas(shared: Stored) -> Iterator[tuple[Gateway, Gateway]]:
    """They buy elsewhere if the outcome of an order is unknown."""
    for page, old, new in (
        ("policies.yaml", "default: any", f"{AGAIN}default: any"),
        ("teams.yaml", "policies: [any,", "policies: [again, any,"),
    ):
        written = (shared.config / page).read_text()
        assert old in written
        (shared.config / page).write_text(written.replace(old, new))
    with (
        gateway(shared.folder / "1", shared.config, shared.environ) as one,
        gateway(shared.folder / "2", shared.config, shared.environ) as two,
    ):
        yield one, two


@contextmanager
def frozen(one: Gateway) -> Iterator[None]:
    one.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        one.signal(signal.SIGCONT)


def ordered(at: Gateway, sandbox: Vendors) -> str:
    """A job whose order at the first seller is on its way; its answer is heard by this replica alone."""
    with at.client() as client:
        job: str = post(client, "key", "again").json()["id"]
    until(lambda: sandbox.requests("openai", "submit"), "it is ordered")
    return job


def call_back(at: Gateway, sandbox: Vendors) -> int:
    """Sends RunAPI's callback about its last order to a replica."""
    (order,) = [body for one in sandbox.requests("runapi", "submit") if (body := one["body"])]
    path = urlsplit(json.loads(order)["callback_url"]).path
    body = json.dumps({"id": sandbox.charges("runapi")[0]["id"], "status": "completed"}).encode()
    stamp = str(int(time.time()))
    signature = sign(CALLBACK_SECRET, "msg_1", stamp, body)
    headers = {"x-callback-id": "msg_1", "x-callback-timestamp": stamp, "x-callback-signature": signature}
    with at.client() as client:
        return client.post(path, content=body, headers=headers).status_code


@pytest.fixture
def called_replicas(shared: Stored) -> Iterator[tuple[Gateway, Gateway]]:
    """A lost order of RunAPI is found by its callback alone."""
    page = shared.config / "accounts.yaml"
    page.write_text(page.read_text().replace("replay: trusted", "replay: untrusted"))
    # The test itself calls, at the replica that it chooses.
    called = {"IGW_PUBLIC_URL": "http://127.0.0.1:1", **shared.environ}
    with (
        gateway(shared.folder / "1", shared.config, called) as one,
        gateway(shared.folder / "2", shared.config, called) as two,
    ):
        yield one, two


@pytest.mark.parametrize("knows", [True, False], ids=["knows of its lost lease", "does not know of it yet"])
def test_callback_that_a_replica_lost_with_its_lease_is_processed_when_it_is_redelivered(
    called_replicas: tuple[Gateway, Gateway], shared: Stored, sandbox: Vendors, knows: bool
) -> None:
    """Only this callback names the order. The seller cannot confirm it until the replica has lost the job."""
    one, two = called_replicas
    sandbox.fault("no_callback", vendor="runapi")
    sandbox.fault("reset_after", vendor="runapi", times=1)
    sandbox.fault("status", vendor="runapi", route="poll", status=500)
    with one.client() as client:
        job: str = post(client, "key", "runapi").json()["id"]
    until(lambda: sandbox.charges("runapi"), "it is ordered")
    assert call_back(one, sandbox) == 204
    until(lambda: sandbox.requests("runapi", "poll"), "the replica asks about the order")
    with frozen(one):
        until(lambda: two.metric("igw_rescues_total"), "it is taken over")
        if not knows:
            sandbox.control("DELETE", "/faults")
    if knows:
        until(one.is_idle, "the replica knows that it has lost the job")
        sandbox.control("DELETE", "/faults")
    until(lambda: call_back(one, sandbox) == 204, "the redelivery is accepted")
    (found,) = ended(two, [job])
    assert found["status"] == "completed", found
    until(lambda: has_settled(one, two), "all is settled")
    books.assert_invoice_is_explained(books.read(shared.make), sandbox)
    assert len(sandbox.charges()) == 1


def has_settled(one: Gateway, two: Gateway) -> bool:
    return one.is_idle() and two.is_idle()


def fetched(at: Gateway, job: dict[str, Any]) -> list[dict[str, Any]]:
    """The job's images as it lists them, beside what their links give."""
    with at.client() as client:
        return [image | {"fetched": _digest(client.get(image["url"]))} for image in job["images"]]


def _digest(answer: httpx.Response) -> tuple[str, int]:
    return sha256(answer.raise_for_status().content).hexdigest(), len(answer.content)


def assert_is_what_it_lists(at: Gateway, name: str, shared: Stored, sandbox: Vendors) -> None:
    (job,) = ended(at, [name])
    assert job["status"] == "completed", job
    (image,) = fetched(at, job)
    assert image["seller"] == "runflow-run"
    assert image["fetched"] == (image["sha256"], image["bytes"])
    assert len(sandbox.charges()) == 2
    saved = books.read(shared.make)
    books.assert_in_order(saved, [name])
    books.assert_invoice_is_explained(saved, sandbox)
    late, delivering = saved.jobs[name].attempts
    assert (late.delivered, late.suspected, late.orphaned > 0, delivering.delivered) == (0, 0, True, 1)
    assert asyncio.run(_documents(shared, name)) == {"picture.2.0"}


async def _documents(shared: Stored, name: str) -> set[str]:
    """Of pictures, those that lie beside the job, whichever attempt brought them."""
    store = await shared.make().open()
    try:
        return set(await store.documents(name, *(f"picture.{attempt}.0" for attempt in (1, 2))))
    finally:
        await store.close()


def test_what_the_owner_before_brings_within_a_lease_is_delivered_and_not_bought_again(
    replicas: tuple[Gateway, Gateway], shared: Stored, sandbox: Vendors
) -> None:
    """It only stood still, and it alone gets the answer to the order."""
    one, two = replicas
    sandbox.latency(1.0, 0.0, vendor="openai")
    job = ordered(one, sandbox)
    with frozen(one):
        until(lambda: two.metric("igw_rescues_total"), "it is taken over")
    (found,) = ended(two, [job], seconds=LEASE)
    assert (found["status"], len(found["attempts"])) == ("completed", 1), found
    until(lambda: has_settled(one, two), "all is settled")
    saved = books.read(shared.make)
    books.assert_in_order(saved, [job])
    books.assert_invoice_is_explained(saved, sandbox)
    assert len(sandbox.charges()) == 1


def test_a_late_picture_does_not_take_the_place_of_the_one_that_was_delivered(
    replicas: tuple[Gateway, Gateway], shared: Stored, sandbox: Vendors
) -> None:
    one, two = replicas
    sandbox.latency(2.0, 0.0, vendor="openai")
    job = ordered(one, sandbox)
    with frozen(one):
        ended(two, [job])
    until(lambda: has_settled(one, two), "all is settled")
    assert_is_what_it_lists(two, job, shared, sandbox)
    assert "late delivery" in one.said()
    assert one.metric("igw_troubles_total") == 0, "a late delivery is no fault of ours"


def test_a_delivered_picture_is_not_listed_as_the_late_one_that_came_before_it(
    replicas: tuple[Gateway, Gateway], shared: Stored, sandbox: Vendors
) -> None:
    one, two = replicas
    sandbox.latency(1.0, 0.0, vendor="openai")
    sandbox.latency(6.0, 0.0, vendor="runflow")
    job = ordered(one, sandbox)
    with frozen(one):
        until(lambda: sandbox.requests("runflow"), "it is bought elsewhere")
    assert_is_what_it_lists(two, job, shared, sandbox)
