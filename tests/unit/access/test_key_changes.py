"""Admins change options of keys. Simultaneous changes of different options all apply, and each one leaves an event."""

import asyncio
from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from gateway.access.key_administration import (
    ApiKeyConfigured,
    ApiKeyInactive,
    ApiKeyNotFound,
    InvalidKeyOption,
    KeyAdministration,
)
from gateway.access.key_changes import KeyChange
from gateway.access.key_requests import BudgetAmounts, ChangeKeyRequest, LimitChanges
from gateway.access.key_tokens import TokenDigester
from gateway.catalogue import ConfiguredKey
from gateway.config.schema import RateLimits
from gateway.jobs.budgets import BudgetLimits
from gateway.store.api_keys import AdminEvent, ApiKey, Scope
from tests.harness.virtual_time_loop import in_virtual_time
from tests.unit.access.key_fixtures import ADMIN, NOON, SECRET, KeyWorld, get_catalogue

DAY = 86_400.0


async def create_key(world: KeyWorld, **options: Any) -> ApiKey:
    token = await world.create_token(**options)
    return world.table.keys[token.split("_")[1]]


async def change_key(world: KeyWorld, key_id: str, **options: Any) -> bool:
    return await world.make_administration().change_key(key_id, KeyChange(**options), ADMIN)


async def list_events(world: KeyWorld, action: str) -> list[AdminEvent]:
    """Lists the events of an action, the oldest first."""
    events = (await world.make_administration().list_events(100, None)).events
    return [event for event in reversed(events) if event.action == action]


@in_virtual_time
async def test_only_named_options_change_and_the_event_says_from_what_to_what() -> None:
    world = KeyWorld()
    key = await create_key(world, name="ci", budget=BudgetLimits(day=2_000_000, month=5_000_000))
    change = {
        "name": "nightly",
        "budget": {"day": 3_500_000, "month": None, "week": 1},
        "limits": {"concurrent_jobs": 2},
    }
    assert await change_key(world, key.id, **change)
    changed = world.table.keys[key.id]
    assert changed == replace(
        key, name="nightly", budget=BudgetLimits(day=3_500_000, week=1), limits=RateLimits(concurrent_jobs=2)
    )
    [event] = await list_events(world, "key_changed")
    assert (event.actor, event.source, event.key_id, event.team) == (ADMIN.actor, ADMIN.source, key.id, "design")
    assert event.details == {
        "name": {"from": "ci", "to": "nightly"},
        "budget.month": {"from": 5.0, "to": None},
        "budget.day": {"from": 2.0, "to": 3.5},
        "budget.week": {"from": None, "to": 0.000001},
        "limits.concurrent_jobs": {"from": None, "to": 2},
    }


@in_virtual_time
async def test_change_to_the_present_options_leaves_no_event() -> None:
    world = KeyWorld()
    key = await create_key(world, name="ci", budget=BudgetLimits(day=1))
    assert not await change_key(world, key.id, name="ci", budget={"day": 1, "week": None})
    assert not await change_key(world, key.id)
    assert await list_events(world, "key_changed") == []


@in_virtual_time
async def test_simultaneous_changes_of_different_options_all_apply() -> None:
    world = KeyWorld(call_seconds=0.01)
    key = await create_key(world)
    changes: list[dict[str, Any]] = [
        {"name": "renamed"},
        {"budget": {"day": 1}},
        {"budget": {"month": 2}},
        {"limits": {"images_per_minute": 3}},
        {"policies": ("steady",)},
    ]
    await asyncio.gather(*(change_key(world, key.id, **change) for change in changes))
    changed = world.table.keys[key.id]
    assert (changed.name, changed.policies) == ("renamed", ("steady",))
    assert (changed.budget, changed.limits) == (BudgetLimits(day=1, month=2), RateLimits(images_per_minute=3))
    events = await list_events(world, "key_changed")
    assert sorted(name for event in events for name in event.details) == [
        *("budget.day", "budget.month", "limits.images_per_minute", "name", "policies")
    ]


@in_virtual_time
async def test_successor_has_a_change_that_was_saved_while_it_was_made() -> None:
    world = KeyWorld(call_seconds=0.01)
    key = await create_key(world, budget=BudgetLimits(day=1))
    change = change_key(world, key.id, name="renamed", budget={"day": 9})
    _, rotated = await asyncio.gather(change, world.make_administration().rotate_key(key.id, DAY, ADMIN))
    assert (rotated.key.name, rotated.key.budget) == ("renamed", BudgetLimits(day=9))
    assert [event.key_id for event in await list_events(world, "key_rotated")] == [key.id]
    assert world.table.keys[key.id].expires_at == NOON + DAY


@in_virtual_time
async def test_change_reaches_a_successor_that_was_saved_meanwhile() -> None:
    world = KeyWorld(call_seconds=0.01)
    key = await create_key(world, budget=BudgetLimits(day=1))
    rotation = world.make_administration().rotate_key(key.id, DAY, ADMIN)
    rotated, _ = await asyncio.gather(rotation, change_key(world, key.id, budget={"day": 9}))
    assert rotated.key.budget == BudgetLimits(day=1)
    assert {key_id: key.budget.day for key_id, key in world.table.keys.items()} == {key.id: 9, rotated.key.id: 9}


@in_virtual_time
async def test_budget_and_limits_change_for_the_whole_line_and_the_rest_for_one_key() -> None:
    world = KeyWorld()
    first = await create_key(world, name="ci")
    other = await create_key(world, name="other")
    administration = world.make_administration()
    second = (await administration.rotate_key(first.id, DAY, ADMIN)).key
    third = (await administration.rotate_key(second.id, DAY, ADMIN)).key
    change = {"name": "renamed", "policies": ("steady",), "budget": {"day": 5}, "limits": {"concurrent_jobs": 1}}
    await change_key(world, second.id, **change)
    keys = world.table.keys
    assert [keys[key.id].budget.day for key in (first, second, third, other)] == [5, 5, 5, None]
    assert [keys[key.id].limits.concurrent_jobs for key in (first, second, third, other)] == [1, 1, 1, None]
    assert [keys[key.id].name for key in (first, second, third, other)] == ["ci", "renamed", "ci", "other"]
    assert [keys[key.id].policies for key in (first, second, third)] == [None, ("steady",), None]
    assert len(await list_events(world, "key_changed")) == 1


@in_virtual_time
async def test_changed_lifetime_begins_now_and_passes_on_to_the_successor() -> None:
    world = KeyWorld()
    key = await create_key(world, lifetime_seconds=60 * DAY)
    world.clock.now += 50 * DAY
    await change_key(world, key.id, lifetime_seconds=30 * DAY)
    assert world.table.keys[key.id].expires_at == NOON + 80 * DAY
    world.clock.now += DAY
    successor = (await world.make_administration().rotate_key(key.id, DAY, ADMIN)).key
    assert successor.expires_at == NOON + 81 * DAY, "30 days, not those since the old key was created"
    await change_key(world, successor.id, lifetime_seconds=None)
    assert world.table.keys[successor.id].expires_at is None
    last = (await world.make_administration().rotate_key(successor.id, DAY, ADMIN)).key
    assert last.expires_at is None


@in_virtual_time
async def test_successor_of_a_key_without_a_saved_lifetime_works_as_long_as_the_key() -> None:
    """Keys of earlier versions have none."""
    world = KeyWorld()
    key = await create_key(world, lifetime_seconds=60 * DAY)
    world.table.keys[key.id] = replace(key, lifetime_seconds=UNSET)
    world.clock.now += DAY
    successor = (await world.make_administration().rotate_key(key.id, DAY, ADMIN)).key
    assert successor.expires_at == NOON + 61 * DAY


@in_virtual_time
async def test_overlap_of_a_rotated_key_is_not_the_lifetime_of_another_successor() -> None:
    world = KeyWorld()
    key = await create_key(world)
    administration = world.make_administration()
    await administration.rotate_key(key.id, DAY, ADMIN)
    assert world.table.keys[key.id].expires_at == NOON + DAY
    assert (await administration.rotate_key(key.id, DAY, ADMIN)).key.expires_at is None


@in_virtual_time
async def test_key_that_does_not_work_is_not_changed() -> None:
    world = KeyWorld()
    revoked, expired = await create_key(world), await create_key(world, lifetime_seconds=1.0)
    await world.make_administration().revoke_key(revoked.id, ADMIN)
    world.clock.now += 1.0
    for key, reason in ((revoked, "is revoked"), (expired, "is expired")):
        with pytest.raises(ApiKeyInactive, match=reason):
            await change_key(world, key.id, lifetime_seconds=DAY)
    with pytest.raises(ApiKeyNotFound):
        await change_key(world, "unknown", name="x")
    assert await list_events(world, "key_changed") == []


@in_virtual_time
async def test_key_of_the_configuration_is_changed_rotated_and_revoked_only_there() -> None:
    world = KeyWorld()
    keys = {"1": ConfiguredKey("env:IGW_KEY_DESIGN", "design"), "2": ConfiguredKey("env:IGW_ADMIN_KEY", None)}
    catalogue = replace(get_catalogue(), configured_keys=keys)
    administration = KeyAdministration(
        world.store, TokenDigester((SECRET,)), lambda: catalogue, world.clock, world.draw_bytes
    )
    with pytest.raises(ApiKeyConfigured, match=r"'env:IGW_KEY_DESIGN' is in teams\.yaml: change it there"):
        await administration.change_key("env:IGW_KEY_DESIGN", KeyChange(name="x"), ADMIN)
    with pytest.raises(ApiKeyConfigured, match=r"is in gateway\.yaml"):
        await administration.rotate_key("env:IGW_ADMIN_KEY", DAY, ADMIN)
    with pytest.raises(ApiKeyConfigured):
        await administration.revoke_key("env:IGW_KEY_DESIGN", ADMIN)
    with pytest.raises(ApiKeyNotFound):
        await administration.revoke_key("env:IGW_KEY_DESING", ADMIN)


@in_virtual_time
async def test_change_never_revives_a_key_that_is_revoked_meanwhile() -> None:
    world = KeyWorld(call_seconds=0.01)
    key = await create_key(world)
    change = asyncio.create_task(change_key(world, key.id, name="renamed"))
    await world.make_administration().revoke_key(key.id, ADMIN)
    await asyncio.wait([change])
    assert world.table.keys[key.id].get_status(NOON) == "revoked"


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"name": "x" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"policies": ("split",)}, "policies"),
    ],
)
@in_virtual_time
async def test_invalid_change_is_named(options: dict[str, Any], option: str) -> None:
    world = KeyWorld()
    key = await create_key(world)
    with pytest.raises(InvalidKeyOption) as error:
        await change_key(world, key.id, **options)
    assert error.value.option == option
    assert world.table.keys == {key.id: key}


@in_virtual_time
async def test_admin_key_gets_no_budget_and_has_none_to_remove() -> None:
    world = KeyWorld()
    key = await create_key(world, team=None, scopes=(Scope.ADMIN,))
    with pytest.raises(InvalidKeyOption) as error:
        await change_key(world, key.id, budget={"day": 1})
    assert error.value.option == "budget"
    assert not await change_key(world, key.id, budget={"day": None})


def test_null_removes_one_window_or_all_of_them() -> None:
    request = ChangeKeyRequest(budget=BudgetAmounts(day="5.00", week=None), limits=LimitChanges(concurrent_jobs=None))
    assert request.to_change() == KeyChange(budget={"day": 5_000_000, "week": None}, limits={"concurrent_jobs": None})
    change = ChangeKeyRequest(budget=None, limits=None).to_change()
    assert change.budget == {"day": None, "week": None, "month": None, "lifetime": None}
    assert change.limits == {"requests_per_minute": None, "images_per_minute": None, "concurrent_jobs": None}
    assert ChangeKeyRequest().to_change() == KeyChange()


@pytest.mark.parametrize("expires_in", ["0", "soon"])
def test_invalid_lifetime_of_a_change_is_named(expires_in: str) -> None:
    with pytest.raises(InvalidKeyOption) as error:
        ChangeKeyRequest(expires_in=expires_in).to_change()
    assert error.value.option == "expires_in"
