"""API keys change as a table: all of a change or nothing, and only from the version that its admin saw."""

import pytest

from gateway.config.schema import RateLimits
from gateway.store.api_keys import (
    EMPTY_VERSION,
    AdminEvent,
    ApiKey,
    ApiKeyChange,
    ApiKeyTable,
    Scope,
    make_event_id,
)
from gateway.store.base import DAY_SECONDS, Retention
from tests.store.store_harness import StoreHarness


def make_key(key_id: str, created_at: float = 1.5, team: str | None = "acme") -> ApiKey:
    return ApiKey(
        id=key_id,
        name="the key of a job, in ünïcode",
        team=team,
        scopes=(Scope.GENERATE, Scope.READ),
        digests=("digest of " + key_id,),
        created_at=created_at,
        policies=("cheapest",),
        limits=RateLimits(images_per_minute=3),
    )


def make_event(harness: StoreHarness, number: int) -> AdminEvent:
    return AdminEvent(
        id=make_event_id(harness.now, f"{number:012x}"),
        at=harness.now,
        action="key_created",
        actor="env:IGW_ADMIN_KEY",
        source="10.0.0.1",
        key_id=f"key{number}",
        details={"name": "ü", "scopes": ["read"]},
    )


async def load_table(harness: StoreHarness, known_version: str | None = None) -> ApiKeyTable | None:
    return await harness.store.api_keys.load_table(known_version)


async def change_table(harness: StoreHarness, expected: str, version: str, *keys: ApiKey) -> bool:
    change = ApiKeyChange(expected_version=expected, version=version, keys=keys)
    return await harness.store.api_keys.change_table(change)


async def test_new_store_has_no_keys(harness: StoreHarness) -> None:
    assert await load_table(harness) == ApiKeyTable(EMPTY_VERSION, ())
    assert await load_table(harness, EMPTY_VERSION) is None
    assert await harness.store.api_keys.load_uses() == {}
    assert (await harness.store.api_keys.list_events()).events == ()


async def test_event_that_is_saved_again_is_one_event(harness: StoreHarness) -> None:
    event = make_event(harness, 1)
    for version in ("one", "two"):
        expected = EMPTY_VERSION if version == "one" else "one"
        change = ApiKeyChange(expected_version=expected, version=version, event=event)
        assert await harness.store.api_keys.change_table(change)
    assert (await harness.store.api_keys.list_events()).events == (event,)


async def test_change_adds_replaces_and_deletes_keys(harness: StoreHarness) -> None:
    first, second = make_key("a"), make_key("b", team=None)
    assert await change_table(harness, EMPTY_VERSION, "v1", first, second)
    assert await load_table(harness) == ApiKeyTable("v1", (first, second))
    changed = make_key("a", created_at=2.0)
    change = ApiKeyChange(expected_version="v1", version="v2", keys=(changed,), deleted_ids=("b", "unknown"))
    assert await harness.store.api_keys.change_table(change)
    assert await load_table(harness, "v1") == ApiKeyTable("v2", (changed,))
    assert await load_table(harness, "v2") is None


async def test_keys_outlive_a_restart(harness: StoreHarness) -> None:
    await change_table(harness, EMPTY_VERSION, "v1", make_key("a"))
    await harness.store.api_keys.record_uses({"a": 5.25})
    await harness.reopen()
    assert await load_table(harness) == ApiKeyTable("v1", (make_key("a"),))
    assert await harness.store.api_keys.load_uses() == {"a": 5.25}


async def test_change_of_another_version_changes_nothing(harness: StoreHarness) -> None:
    await change_table(harness, EMPTY_VERSION, "v1", make_key("a"))
    before = harness.raw_store.dump_everything()
    event = make_event(harness, 1)
    for expected in (EMPTY_VERSION, "v0", "v2"):
        change = ApiKeyChange(
            expected_version=expected, version="v2", keys=(make_key("b"),), deleted_ids=("a",), event=event
        )
        assert not await harness.store.api_keys.change_table(change)
    assert harness.raw_store.dump_everything() == before


async def test_all_replicas_share_the_table(shared_harness: StoreHarness) -> None:
    async with shared_harness.open_another() as other:
        await change_table(shared_harness, EMPTY_VERSION, "v1", make_key("a"))
        assert await other.api_keys.load_table(EMPTY_VERSION) == ApiKeyTable("v1", (make_key("a"),))


async def test_last_use_never_goes_back(harness: StoreHarness) -> None:
    store = harness.store.api_keys
    await change_table(harness, EMPTY_VERSION, "v1", make_key("a"), make_key("b"))
    await store.record_uses({"a": 100.5, "b": 50.0, "deleted": 7.0})
    await store.record_uses({"a": 99.0, "b": 60.0})
    await store.record_uses({})
    assert await store.load_uses() == {"a": 100.5, "b": 60.0}
    await store.change_table(ApiKeyChange(expected_version="v1", version="v2", deleted_ids=("a",)))
    assert await store.load_uses() == {"b": 60.0}


async def test_uses_do_not_change_the_version(harness: StoreHarness) -> None:
    await change_table(harness, EMPTY_VERSION, "v1", make_key("a"))
    await harness.store.api_keys.record_uses({"a": 1.0})
    assert await load_table(harness, "v1") is None


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_events_are_listed_newest_first(harness: StoreHarness, limit: int) -> None:
    store, events = harness.store.api_keys, []
    for number in range(5):
        events.append(make_event(harness, number))
        change = ApiKeyChange(
            expected_version=f"v{number}" if number else EMPTY_VERSION, version=f"v{number + 1}", event=events[-1]
        )
        assert await store.change_table(change)
        harness.clock.now += 0.5
    listed: list[AdminEvent] = []
    cursor = None
    while True:
        page = await store.list_events(limit, cursor)
        assert len(page.events) <= limit
        listed += page.events
        if (cursor := page.next_cursor) is None:
            break
    assert listed == events[::-1]


@pytest.mark.parametrize("cursor", ["", "x", "evt_", "evt_1 ", "+", "(evt_0000000000000000", "evt_000000000000000g"])
async def test_invalid_cursor_of_events_is_refused(harness: StoreHarness, cursor: str) -> None:
    with pytest.raises(ValueError, match="Invalid cursor"):
        await harness.store.api_keys.list_events(10, cursor)


async def test_events_are_kept_for_their_retention(harness: StoreHarness) -> None:
    await harness.reopen(retention=Retention(admin_events=DAY_SECONDS))
    store = harness.store.api_keys
    await store.change_table(
        ApiKeyChange(expected_version=EMPTY_VERSION, version="v1", keys=(make_key("a"),), event=make_event(harness, 1))
    )
    harness.advance_time(DAY_SECONDS - 1.0)
    await harness.store.delete_expired()
    assert len((await store.list_events()).events) == 1
    harness.advance_time(2.0)
    await harness.store.delete_expired()
    assert (await store.list_events()).events == ()
    assert await load_table(harness) == ApiKeyTable("v1", (make_key("a"),))
