"""A job's first commit: what is there afterwards, and who owns it."""

import pytest
from msgspec.structs import replace

from gateway.jobs.commit import Milestone
from gateway.jobs.facts import CancelAsked
from gateway.jobs.job import State
from gateway.store.base import FIRST_FENCE, Applied, Claimed, Page
from gateway.store.books import Balance
from tests.store import orders
from tests.store.orders import CEILING, DAY, MONTH
from tests.store.worlds import LEASE, World


async def test_what_was_accepted_is_loaded_as_it_was(world: World) -> None:
    job = await world.accepted(n=3, webhook=True, warnings=("a warning",), config="c0ffee")
    assert await world.store.load(job.id) == job
    assert await world.store.list("acme") == Page((job,), None)


@pytest.mark.parametrize(
    "name",
    ["", "job", "nonsense", "job_99" + "0" * 26, "job_00" + "0" * 26, "job_0\N{ARABIC-INDIC DIGIT ONE}" + "0" * 26],
)
async def test_a_job_that_was_never_accepted_is_not_there(world: World, name: str) -> None:
    assert await world.store.load(name) is None
    assert await world.store.documents(name, "request") == {}
    assert await world.store.milestones(name) == ()


async def test_another_job_of_the_same_team_is_another_job(world: World) -> None:
    first, second = await world.accepted(), await world.accepted()
    assert await world.store.load(first.id) == first
    assert await world.store.load(second.id) == second


async def test_documents_lie_beside_the_job_and_only_those_asked_for_are_read(world: World) -> None:
    job = await world.accepted(documents={"request": b"{}", "plan": b"\x00\xff", "bytes of 1": b""})
    assert await world.store.documents(job.id, "plan", "bytes of 1", "never written") == {
        "plan": b"\x00\xff",
        "bytes of 1": b"",
    }
    assert await world.store.documents(job.id) == {}


async def test_a_document_of_60_kb_is_kept_to_the_byte(world: World) -> None:
    large = bytes(range(256)) * 240
    job = await world.accepted(documents={"request": large, "plan": large[::-1]})
    assert await world.store.documents(job.id, "request", "plan") == {"request": large, "plan": large[::-1]}


async def test_a_later_commit_brings_documents_and_drops_others(world: World) -> None:
    job = await world.accepted(documents={"request": b"r", "plan": b"p"})
    later = replace(
        orders.changed(job, orders.opened(job), world.now), documents={"order of 1": b"o"}, dropped=("plan", "no such")
    )
    await world.done(later)
    names = ("request", "plan", "order of 1")
    assert await world.store.documents(job.id, *names) == {"request": b"r", "order of 1": b"o"}


async def test_a_new_job_is_owned_until_its_lease_ends(world: World) -> None:
    job = await world.accepted()
    world.passes(LEASE - 0.01)
    assert await world.store.claim() == ()
    world.passes(0.01)
    assert await world.store.claim() == (Claimed(job=job, fence=FIRST_FENCE + 1, rescues=1),)


async def test_its_first_owner_decides_with_the_first_fence(world: World) -> None:
    job = await world.accepted()
    assert await world.store.commit(orders.changed(job, orders.opened(job, FIRST_FENCE), world.now)) == Applied()


async def test_it_is_told_as_queued(world: World) -> None:
    job = await world.accepted()
    assert await world.store.milestones(job.id) == (Milestone(number=1, at=world.now, name=State.QUEUED),)


async def test_money_is_set_aside_in_the_day_and_the_month(world: World) -> None:
    await world.accepted(n=2)
    await world.accepted(n=1)
    assert await world.store.budget("acme", DAY, MONTH, "2040-05-11", "2040-06") == {
        DAY: Balance(held=3 * CEILING),
        MONTH: Balance(held=3 * CEILING),
        "2040-05-11": Balance(),
        "2040-06": Balance(),
    }
    assert await world.store.budget("acme") == {}


async def test_a_limit_may_be_reached_to_the_micro_dollar(world: World) -> None:
    for _ in range(2):
        assert await world.tried(day=2 * CEILING, month=2 * CEILING) == Applied()


async def test_a_job_that_ends_at_once_keeps_nothing_of_its_hold(world: World) -> None:
    job = await world.happens(await world.accepted(), CancelAsked())
    assert job.state is State.CANCELLED
    assert await world.store.budget("acme", DAY) == {DAY: Balance()}
