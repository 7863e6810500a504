"""Two replicas with one Redis: whatever one of them knows, the other can tell; what one drops, the other picks up."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos import books, configs
from tests.chaos.clients import post
from tests.chaos.gateways import Gateway, gateway, until
from tests.chaos.places import LEASE, Stored
from tests.vendors import Vendors

VENDORS = ("runapi", "runflow", "openai")


@pytest.fixture
def replicas(shared: Stored) -> Iterator[tuple[Gateway, Gateway]]:
    with ExitStack() as running:
        one, two = (
            running.enter_context(gateway(shared.folder / name, shared.config, shared.environ)) for name in ("1", "2")
        )
        yield one, two


def posted(to: Gateway, seller: str, number: int, key: str = "key") -> list[str]:
    """The jobs' names."""
    with to.client() as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda one: post(client, f"{key}-{seller}-{one}", seller), range(number)))
    assert {answer.status_code for answer in answers} == {202}, [answer.text for answer in answers]
    return [answer.json()["id"] for answer in answers]


def ended(at: Gateway, jobs: list[str], seconds: float = 60.0) -> list[dict[str, Any]]:
    with at.client(seconds + 10) as client, ThreadPoolExecutor(len(jobs)) as pool:
        answers = pool.map(lambda job: client.get(f"/v1/jobs/{job}", params={"wait": int(seconds)}), jobs)
        return [answer.json() for answer in answers]


def test_whoever_waits_at_the_other_replica_wakes_when_the_job_ends(
    replicas: tuple[Gateway, Gateway], sandbox: Vendors
) -> None:
    """Nobody looks again by himself within two seconds: this is heard."""
    one, two = replicas
    sandbox.latency(1.0, 0.5)
    jobs = posted(one, "runapi", 12)

    def when_ended(job: str) -> tuple[float, float]:
        with ThreadPoolExecutor(2) as pool:
            here, there = pool.map(lambda at: _ended_at(at, job), (one, two))
        return here, there

    with ThreadPoolExecutor(len(jobs)) as pool:
        times = list(pool.map(when_ended, jobs))
    assert max(there - here for here, there in times) < 1.0


def _ended_at(at: Gateway, job: str) -> float:
    answer = at.get(f"/v1/jobs/{job}?wait=60", seconds=70)
    assert answer.json()["status"] == "completed", answer.text
    return time.monotonic()


def test_a_replica_that_dies_leaves_nothing_behind(
    replicas: tuple[Gateway, Gateway], shared: Stored, sandbox: Vendors
) -> None:
    one, two = replicas
    sandbox.latency(2.0, 0.5)
    traced = [job for seller in ("runapi", "runflow-runs") for job in posted(one, seller, 20)]
    untraced = posted(one, "openai", 10)
    # An order counts as one before it has left: the sellers must have it.
    until(lambda: sum(len(sandbox.requests(vendor, "submit")) for vendor in VENDORS) == 50, "all have arrived")
    one.kill()
    killed = time.monotonic()
    found = ended(two, traced)
    assert {job["status"] for job in found} == {"completed"}
    assert [len(job["images"]) for job in found] == [1] * 40
    assert [len(job["attempts"]) for job in found] == [1] * 40
    # The answer to these went with whoever was waiting for it, and nobody buys a second time in the dark.
    assert {job["error"]["code"] for job in ended(two, untraced)} == {"outcome_unknown"}
    assert time.monotonic() - killed < LEASE + 10
    until(two.is_idle, "all is settled")
    assert two.metric("igw_rescues_total") == 50
    with two.client() as client:
        assert all(_picture(client, job) for job in found)
    two.stop()
    saved = books.read(shared.make)
    books.assert_in_order(saved, [*traced, *untraced])
    books.assert_invoice_is_explained(saved, sandbox)
    assert len(sandbox.charges()) == 50


def _picture(client: httpx.Client, job: dict[str, Any]) -> bool:
    answer = client.get(job["images"][0]["url"])
    return answer.status_code == 200 and answer.content.startswith(b"\x89PNG")


@contextmanager
def called_at_the_other(shared: Stored, config: Path) -> Iterator[tuple[Gateway, Gateway]]:
    """Two replicas. Sellers call back at the second, whoever ordered."""
    two = Gateway(shared.folder / "2", config)
    environ = {**shared.environ, "IGW_PUBLIC_URL": f"http://127.0.0.1:{two.port}"}
    two.environ |= environ
    with gateway(shared.folder / "1", config, environ) as one:
        try:
            two.start()
            yield one, two
        finally:
            two.discard()


def test_a_callback_that_lands_on_the_other_replica_is_heard(shared: Stored, sandbox: Vendors) -> None:
    """The seller is thought to take a minute, so nobody would ask about the order before that."""
    sandbox.latency(1.0)
    with called_at_the_other(shared, configs.write(shared.config, sandbox.url, expected=60)) as (one, two):
        began = time.monotonic()
        found = ended(one, posted(one, "runapi", 5))
        assert {job["status"] for job in found} == {"completed"}
        assert time.monotonic() - began < 15
        assert _callbacks_answered(two) >= 5
    assert len(sandbox.charges("runapi")) == 5


def test_an_order_whose_answer_was_lost_is_found_by_a_callback_at_the_other_replica(
    shared: Stored, sandbox: Vendors
) -> None:
    """Nothing but the callback says which of the seller's tasks it is, and no order may be repeated."""
    sandbox.latency(1.0)
    sandbox.fault("reset_after", vendor="runapi", times=3)
    config = configs.write(shared.config, sandbox.url, expected=60)
    accounts = config / "accounts.yaml"
    accounts.write_text(accounts.read_text().replace("replay: trusted", "replay: untrusted"))
    with called_at_the_other(shared, config) as (one, two):
        found = ended(one, posted(one, "runapi", 5))
        assert {job["status"] for job in found} == {"completed"}, [(job["error"], job["attempts"]) for job in found]
        assert [len(job["attempts"]) for job in found] == [1] * 5
        assert _callbacks_answered(two) >= 5
    assert len(sandbox.charges("runapi")) == 5


def _callbacks_answered(at: Gateway) -> int:
    lines = [line for line in at.get("/metrics").text.splitlines() if "/callbacks/" in line and "_count" in line]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines if 'status="2' in line)
