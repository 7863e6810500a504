"""The targets of webhooks that admins added are listed for all teams in one call, and change by compare-and-set."""

from msgspec.structs import replace

from gateway.store.webhook_targets import (
    StoredSecret,
    StoredTarget,
    TeamTargets,
    decode_targets,
    list_target_records,
    load_team_targets,
    save_team_targets,
)
from tests.store.store_harness import StoreHarness

TARGET = StoredTarget(
    name="orders",
    url="https://orders.example.com/images",
    events=("job.completed", "job.failed"),
    created_at=1_800_000_000.25,
    payload="full",
    is_private=True,
    is_enabled=False,
    description="ünïcode",
    secrets=(
        StoredSecret(value="whsec_1", created_at=2.0),
        StoredSecret(value="whsec_0", created_at=1.0, expires_at=3.0),
    ),
)


async def list_all(harness: StoreHarness) -> dict[str, tuple[StoredTarget, ...]]:
    records = [decode_targets(record) for record in await list_target_records(harness.store)]
    return {record.team: record.targets for record in records}


async def save(harness: StoreHarness, targets: TeamTargets) -> bool:
    return await save_team_targets(harness.store, targets)


async def test_targets_of_all_teams_are_listed_as_they_were_saved(harness: StoreHarness) -> None:
    for team in ("acme", "ünïcode: team", "b/c"):
        loaded = await load_team_targets(harness.store, team, harness.now)
        assert (loaded.team, loaded.version, loaded.targets) == (team, 0, ())
        assert await save(harness, replace(loaded, targets=(TARGET,)))
    assert await list_all(harness) == dict.fromkeys(("acme", "ünïcode: team", "b/c"), (TARGET,))
    assert (await load_team_targets(harness.store, "acme", harness.now)).version == 1


async def test_targets_stay_listed_if_the_clock_is_set_back(harness: StoreHarness) -> None:
    loaded = await load_team_targets(harness.store, "acme", harness.now)
    assert await save(harness, replace(loaded, targets=(TARGET,)))
    harness.clock.now -= 30 * 86_400.0
    assert await list_all(harness) == {"acme": (TARGET,)}


async def test_second_change_of_the_same_version_is_refused(harness: StoreHarness) -> None:
    loaded = await load_team_targets(harness.store, "acme", harness.now)
    assert await save(harness, loaded)
    assert not await save(harness, replace(loaded, targets=(TARGET,)))
    assert await list_all(harness) == {"acme": ()}
    again = await load_team_targets(harness.store, "acme", harness.now)
    assert await save(harness, replace(again, targets=(TARGET,)))
    assert await list_all(harness) == {"acme": (TARGET,)}


async def test_restart_keeps_targets(harness: StoreHarness) -> None:
    loaded = await load_team_targets(harness.store, "acme", harness.now)
    assert await save(harness, replace(loaded, targets=(TARGET,)))
    await harness.reopen()
    assert await list_all(harness) == {"acme": (TARGET,)}
