"""Admins create, rotate and revoke keys. Every action leaves an event; no secret is stored."""

import asyncio
from typing import Any

import pytest

from gateway.access.key_administration import (
    ApiKeyInactive,
    ApiKeyNotFound,
    CreatedKey,
    InvalidKeyOption,
    KeyOptions,
)
from gateway.access.key_tokens import is_token
from gateway.config.schema import RateLimits
from gateway.store.api_keys import ApiKey, Scope
from tests.harness.virtual_time_loop import in_virtual_time
from tests.unit.access.key_fixtures import ADMIN, NOON, KeyWorld

DAY = 86_400.0


async def create_key(world: KeyWorld, **options: Any) -> CreatedKey:
    return await world.make_administration().create_key(KeyOptions(**({"team": "design"} | options)), ADMIN)


async def find_status(world: KeyWorld, token: str) -> str:
    registry = world.make_registry()
    await registry.refresh()
    key = registry.find_key(token)
    return key.get_status(world.clock.now) if key else "unknown"


@in_virtual_time
async def test_new_key_has_its_options_and_an_event() -> None:
    world = KeyWorld()
    created = await create_key(
        world,
        name="nightly",
        scopes=(Scope.READ,),
        lifetime_seconds=DAY,
        policies=("steady",),
        limits=RateLimits(requests_per_minute=5),
    )
    key = created.key
    assert is_token(created.token)
    assert created.token.startswith(f"igw_{key.id}_")
    assert world.table.keys == {key.id: key}
    assert (key.name, key.team, key.scopes, key.policies) == ("nightly", "design", (Scope.READ,), ("steady",))
    assert (key.created_at, key.expires_at, key.limits.requests_per_minute) == (NOON, NOON + DAY, 5)
    (event,) = (await world.make_administration().list_events(10, None)).events
    assert (event.action, event.actor, event.source) == ("key_created", ADMIN.actor, ADMIN.source)
    assert (event.key_id, event.team, event.at) == (key.id, "design", NOON)
    assert event.details["scopes"] == ["read"]


@in_virtual_time
async def test_secret_is_stored_and_shown_nowhere() -> None:
    world = KeyWorld()
    created = await create_key(world)
    rotated = await world.make_administration().rotate_key(created.key.id, 60.0, ADMIN)
    await world.make_administration().revoke_key(rotated.key.id, ADMIN)
    for token in (created.token, rotated.token):
        secret = token.split("_")[2]
        for text in (repr(world.table.keys), repr(world.table.events), repr(created), repr(rotated)):
            assert secret not in text


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"team": "desing"}, "team"),
        ({"team": None}, "team"),
        ({"team": None, "scopes": (Scope.ADMIN, Scope.READ)}, "team"),
        ({"scopes": ()}, "scopes"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"policies": ("split",)}, "policies"),
        ({"policies": ("unknown",)}, "policies"),
    ],
)
@in_virtual_time
async def test_invalid_option_is_named(options: dict[str, Any], option: str) -> None:
    world = KeyWorld()
    with pytest.raises(InvalidKeyOption) as error:
        await create_key(world, **options)
    assert error.value.option == option
    assert not world.table.keys
    assert not world.table.events


@in_virtual_time
async def test_admin_key_needs_no_team() -> None:
    world = KeyWorld()
    created = await create_key(world, team=None, scopes=(Scope.ADMIN,))
    assert (created.key.team, created.key.scopes) == (None, (Scope.ADMIN,))


@in_virtual_time
async def test_rotated_key_works_until_the_overlap_ends() -> None:
    world = KeyWorld()
    old = await create_key(world, name="ci", policies=("steady",), lifetime_seconds=30 * DAY)
    world.clock.now += DAY
    new = await world.make_administration().rotate_key(old.key.id, DAY, ADMIN)
    assert new.token != old.token
    assert new.key.id != old.key.id
    assert (new.key.name, new.key.policies, new.key.replaces) == ("ci", ("steady",), old.key.id)
    assert new.key.limits_id == old.key.limits_id == old.key.id
    assert new.key.expires_at == world.clock.now + 30 * DAY, "it has the same lifetime"
    assert [await find_status(world, key.token) for key in (old, new)] == ["active", "active"]
    world.clock.now += DAY + 1.0
    assert [await find_status(world, key.token) for key in (old, new)] == ["expired", "active"]


@in_virtual_time
async def test_overlap_never_extends_a_key() -> None:
    world = KeyWorld()
    old = await create_key(world, lifetime_seconds=60.0)
    await world.make_administration().rotate_key(old.key.id, DAY, ADMIN)
    assert world.table.keys[old.key.id].expires_at == NOON + 60.0


@in_virtual_time
async def test_rotation_without_overlap_ends_the_key_at_once() -> None:
    world = KeyWorld()
    old = await create_key(world)
    new = await world.make_administration().rotate_key(old.key.id, 0.0, ADMIN)
    assert [await find_status(world, key.token) for key in (old, new)] == ["expired", "active"]


@in_virtual_time
async def test_revoked_key_ends_at_once_and_for_good() -> None:
    world = KeyWorld()
    administration, created = world.make_administration(), await create_key(world)
    world.clock.now += 1.0
    revoked = await administration.revoke_key(created.key.id, ADMIN)
    assert revoked.revoked_at == NOON + 1.0
    assert await find_status(world, created.token) == "revoked"
    world.clock.now += 5.0
    assert await administration.revoke_key(created.key.id, ADMIN) == revoked
    with pytest.raises(ApiKeyInactive, match="is revoked"):
        await administration.rotate_key(created.key.id, DAY, ADMIN)
    events = (await administration.list_events(10, None)).events
    assert [event.action for event in events] == ["key_revoked", "key_created"]


@in_virtual_time
async def test_unknown_key_is_not_found() -> None:
    administration = KeyWorld().make_administration()
    with pytest.raises(ApiKeyNotFound):
        await administration.revoke_key("unknown", ADMIN)
    with pytest.raises(ApiKeyNotFound):
        await administration.rotate_key("unknown", 0.0, ADMIN)
    with pytest.raises(ApiKeyNotFound):
        await administration.get_key("unknown")


@in_virtual_time
async def test_concurrent_admins_lose_no_change() -> None:
    world = KeyWorld(call_seconds=0.01)
    keys = await asyncio.gather(*(create_key(world, name=str(number)) for number in range(4)))
    await asyncio.gather(*(world.make_administration().revoke_key(created.key.id, ADMIN) for created in keys[:2]))
    statuses = [world.table.keys[created.key.id].get_status(NOON) for created in keys]
    assert statuses == ["revoked", "revoked", "active", "active"]
    assert len(world.table.events) == 6


@in_virtual_time
async def test_rotation_never_revives_a_key_that_is_revoked_meanwhile() -> None:
    world = KeyWorld(call_seconds=0.01)
    created = await create_key(world)
    administration = world.make_administration()
    rotation = asyncio.create_task(administration.rotate_key(created.key.id, DAY, ADMIN))
    await administration.revoke_key(created.key.id, ADMIN)
    await asyncio.wait([rotation])
    assert world.table.keys[created.key.id].get_status(NOON) == "revoked"


@in_virtual_time
async def test_keys_are_listed_newest_first_with_their_last_use() -> None:
    world = KeyWorld()
    first = await create_key(world)
    world.clock.now += 1.0
    second = await create_key(world, team=None, scopes=(Scope.ADMIN,))
    await world.store.record_uses({first.key.id: NOON + 0.5})
    administration = world.make_administration()
    listed = [(listed.key.id, listed.last_used_at) for listed in await administration.list_keys()]
    assert listed == [(second.key.id, None), (first.key.id, NOON + 0.5)]
    assert [listed.key.id for listed in await administration.list_keys("design")] == [first.key.id]
    assert await administration.list_keys("other") == ()


@in_virtual_time
async def test_ended_keys_are_deleted_after_their_retention() -> None:
    world = KeyWorld()
    administration = world.make_administration()
    keys: list[ApiKey] = [(await create_key(world)).key, (await create_key(world, lifetime_seconds=5.0)).key]
    keys.append((await create_key(world)).key)
    await administration.revoke_key(keys[0].id, ADMIN)
    world.clock.now += DAY
    await administration.delete_old_keys(DAY)
    assert len(world.table.keys) == 3
    world.clock.now += 10.0
    await administration.delete_old_keys(DAY)
    assert list(world.table.keys) == [keys[2].id]
