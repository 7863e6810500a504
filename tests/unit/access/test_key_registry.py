"""Keys are found in memory; a new key is found at once; guessed keys cost the store a few calls a second."""

import asyncio

import pytest

from gateway.access import key_registry
from gateway.access.key_registry import KeyRegistry
from gateway.access.key_tokens import NewToken, make_token
from gateway.store.api_keys import ApiKey
from gateway.store.base import StoreUnavailable
from gateway.timeouts_and_intervals import MaintenanceTiming
from tests.harness.virtual_time_loop import in_virtual_time
from tests.unit.access.key_fixtures import NEXT_SECRET, SECRET, KeyWorld


def guess_token(world: KeyWorld) -> NewToken:
    return make_token(world.draw_bytes)


def start_guess(world: KeyWorld, registry: KeyRegistry) -> asyncio.Task[ApiKey | None]:
    return asyncio.create_task(registry.find_recent_key(guess_token(world).text))


@in_virtual_time
async def test_key_of_the_loaded_table_is_found_without_a_call() -> None:
    world = KeyWorld()
    token = await world.create_token(name="ci")
    registry = await world.load_registry()
    calls = world.calls.total()
    key = registry.find_key(token)
    assert key is not None
    assert (key.id, key.name, key.team) == (token.split("_")[1], "ci", "design")
    assert registry.find_key(token[:-1] + "x") is None
    assert registry.find_key(guess_token(world).text) is None
    assert world.calls.total() == calls


@in_virtual_time
async def test_new_key_is_found_although_a_guess_caused_a_load_before() -> None:
    world = KeyWorld()
    registry = await world.load_registry()
    assert await registry.find_recent_key(guess_token(world).text) is None
    token = await world.create_token()
    assert await registry.find_recent_key(token) is not None
    assert registry.find_key(token) is not None


@in_virtual_time
async def test_load_that_began_before_the_request_does_not_answer_it() -> None:
    world = KeyWorld(call_seconds=0.1)
    registry = world.make_registry()
    guess = start_guess(world, registry)
    await asyncio.sleep(0.05)
    loads = world.calls["load_api_keys"]
    # Saved after the load of the guess was answered, but before that answer arrived.
    world.call_seconds = 0.0
    token = await world.create_token()
    assert world.calls["load_api_keys"] == loads + 1
    assert await registry.find_recent_key(token) is not None
    await guess


@in_virtual_time
async def test_guessed_keys_cost_few_calls() -> None:
    """With ids that exist and with others alike."""
    world = KeyWorld()
    token = await world.create_token()
    registry = await world.load_registry()
    before, started_at = world.calls["load_api_keys"], asyncio.get_running_loop().time()
    for number in range(100):
        guess = guess_token(world).text if number % 2 else token[:20] + guess_token(world).text[20:]
        guesses = [registry.find_recent_key(guess) for _ in range(20)]
        assert await asyncio.gather(*guesses) == [None] * 20
    seconds = asyncio.get_running_loop().time() - started_at
    assert world.calls["load_api_keys"] - before <= seconds / MaintenanceTiming().min_key_load_interval_seconds + 2


@in_virtual_time
async def test_known_and_unknown_ids_wait_alike() -> None:
    world = KeyWorld()
    registry, loop = world.make_registry(), asyncio.get_running_loop()
    token = await world.create_token()
    await registry.refresh()
    waits = []
    for guess in (token[:20] + guess_token(world).text[20:], guess_token(world).text):
        await asyncio.sleep(10.0)
        started_at = loop.time()
        assert await registry.find_recent_key(guess) is None
        waits.append(loop.time() - started_at)
    assert waits[0] == waits[1]


@in_virtual_time
async def test_too_many_guesses_are_rejected_at_once() -> None:
    world = KeyWorld(call_seconds=1.0)
    registry = world.make_registry()
    guesses = [start_guess(world, registry) for _ in range(key_registry.MAX_WAITERS)]
    await asyncio.sleep(0.1)
    async with asyncio.timeout(0.01):
        assert await registry.find_recent_key(guess_token(world).text) is None
    assert await asyncio.gather(*guesses) == [None] * key_registry.MAX_WAITERS


@pytest.mark.parametrize("text", ["", "sk-123", "igw_sandbox", "igw_" + "a" * 10, "IGW_" + "a" * 10 + "_" + "a" * 52])
@in_virtual_time
async def test_texts_of_another_form_cause_no_load(text: str) -> None:
    world = KeyWorld()
    assert await world.make_registry().find_recent_key(text) is None
    assert not world.calls


@in_virtual_time
async def test_outage_is_reported_for_unknown_keys_only() -> None:
    world = KeyWorld()
    token = await world.create_token()
    registry = await world.load_registry()
    world.is_down = True
    with pytest.raises(StoreUnavailable):
        await registry.find_recent_key(guess_token(world).text)
    assert registry.find_key(token) is not None
    world.is_down = False
    assert await registry.find_recent_key(guess_token(world).text) is None


@in_virtual_time
async def test_cancelled_request_does_not_cancel_the_load_of_others() -> None:
    world = KeyWorld(call_seconds=0.5)
    registry = world.make_registry()
    first = start_guess(world, registry)
    second = start_guess(world, registry)
    await asyncio.sleep(0.1)
    first.cancel()
    assert await second is None


@in_virtual_time
async def test_last_uses_are_saved_together() -> None:
    world = KeyWorld()
    key, registry = await world.create_key(), await world.load_registry()
    for _ in range(5):
        world.clock.now += 1.0
        registry.record_use(key)
    await registry.save_uses()
    await registry.save_uses()
    assert world.table.used_at == {key.id: world.clock.now}
    assert world.calls["record_api_key_uses"] == 1


@in_virtual_time
async def test_uses_of_an_outage_are_saved_later() -> None:
    world = KeyWorld()
    key, registry = await world.create_key(), await world.load_registry()
    registry.record_use(key)
    world.is_down = True
    with pytest.raises(StoreUnavailable):
        await registry.save_uses()
    world.is_down = False
    await registry.save_uses()
    assert world.table.used_at == {key.id: world.clock.now}


@in_virtual_time
async def test_key_outlives_the_rotation_of_the_secret_if_it_is_used_meanwhile() -> None:
    world = KeyWorld()
    used, unused = await world.create_token(), await world.create_token()
    rotating = await world.load_registry(NEXT_SECRET, SECRET)
    assert rotating.find_key(used) is not None
    await rotating.save_uses()
    for secrets in ((SECRET,), (NEXT_SECRET, SECRET)):
        registry = await world.load_registry(*secrets)
        assert registry.find_key(used) is not None
        assert registry.find_key(unused) is not None
    rotated = await world.load_registry(NEXT_SECRET)
    assert rotated.find_key(used) is not None
    assert rotated.find_key(unused) is None


@in_virtual_time
async def test_digest_depends_on_the_secret() -> None:
    world = KeyWorld()
    token = await world.create_token()
    other = await world.load_registry(NEXT_SECRET)
    assert other.find_key(token) is None
