"""Which secrets sign the webhooks of targets that admins added."""

import pytest

from gateway.access.webhook_administration import (
    MAX_SECRETS,
    WebhookTargetConflict,
)
from gateway.access.webhook_requests import (
    serialize_target,
)
from gateway.config.signing_secrets import decode_signing_secret
from gateway.config.value_types import Secret
from tests.harness.virtual_time_loop import in_virtual_time
from tests.store.job_factory import NOON
from tests.unit.access.webhook_target_world import ADMIN, DAY, TEAM_SECRET, open_target_world


@in_virtual_time
async def test_team_with_secrets_signs_with_them_unless_the_target_has_its_own() -> None:
    world = await open_target_world()
    shared, own = await world.add(), await world.add(name="own", own_secret=True)
    assert shared.secret is None
    assert await world.list_secrets() == [TEAM_SECRET.reveal()]
    assert own.secret is not None
    assert decode_signing_secret(Secret(own.secret)) is not None
    assert await world.list_secrets("own") == [own.secret]
    assert [serialize_target(target.target, NOON)["signed_with"] for target in (shared, own)] == [
        "team_secrets",
        "own_secrets",
    ]


@in_virtual_time
async def test_target_of_a_team_without_secrets_gets_one_that_nothing_shows_again() -> None:
    world = await open_target_world()
    created = await world.add(team="free")
    assert created.secret is not None
    shown = [await world.list_events(), [serialize_target(created.target, NOON)], world.emitted]
    shown += [await world.webhooks.list_targets(), created]
    assert created.secret not in repr(shown)
    assert await world.list_secrets(team="free") == [created.secret]


@in_virtual_time
async def test_rotated_secret_signs_beside_the_new_one_until_it_expires() -> None:
    world = await open_target_world()
    first = await world.add(team="free")
    world.clock.now += 10.0
    second = await world.webhooks.rotate_secret(first.target.id, DAY, ADMIN)
    assert await world.list_secrets(team="free") == [second.secret, first.secret]
    secrets = serialize_target(second.target, world.clock.now)["secrets"]
    assert [secret["expires_at"] for secret in secrets] == [None, int(NOON + 10.0 + DAY)]
    world.clock.now += DAY - 1.0
    assert await world.list_secrets(team="free") == [second.secret, first.secret]
    world.clock.now += 1.0
    assert await world.list_secrets(team="free") == [second.secret]
    [target] = await world.webhooks.list_targets("free")
    assert len(serialize_target(target, world.clock.now)["secrets"]) == 1


@in_virtual_time
async def test_rotation_never_makes_an_old_secret_valid_for_longer() -> None:
    world = await open_target_world()
    first = await world.add(team="free")
    target_id = first.target.id
    second = await world.webhooks.rotate_secret(target_id, 3_600.0, ADMIN)
    third = await world.webhooks.rotate_secret(target_id, DAY, ADMIN)
    assert await world.list_secrets(team="free") == [third.secret, second.secret, first.secret]
    world.clock.now += 3_600.0
    assert await world.list_secrets(team="free") == [third.secret, second.secret]
    last = await world.webhooks.rotate_secret(target_id, 0.0, ADMIN)
    assert await world.list_secrets(team="free") == [last.secret]
    for _ in range(10):
        await world.webhooks.rotate_secret(target_id, DAY, ADMIN)
    assert len(await world.list_secrets(team="free")) == MAX_SECRETS


@in_virtual_time
async def test_target_that_its_team_signs_has_no_secret_to_rotate() -> None:
    world = await open_target_world()
    created = await world.add()
    with pytest.raises(WebhookTargetConflict, match=r"teams\.yaml"):
        await world.webhooks.rotate_secret(created.target.id, DAY, ADMIN)
