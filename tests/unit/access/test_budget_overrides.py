"""Temporary overrides of budgets: who may be raised, until when, and what the event says. On the store of tests."""

import asyncio
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.access.budget_administration import BudgetAdministration, OverrideNotFound, RaiseBudgetRequest
from gateway.access.budget_events import BudgetOverrideChanged
from gateway.access.key_administration import Admin, InvalidKeyOption, KeyAdministration, KeyOptions
from gateway.access.key_tokens import TokenDigester
from gateway.config.budget_schema import BudgetConfig
from gateway.config.schema import TeamConfig
from gateway.config.value_types import Usd
from gateway.events import Event
from gateway.jobs.budgets import BudgetLimit, BudgetLimits, WindowKind, get_window, make_owner
from gateway.store.budget_overrides import load_raised_limits
from tests.harness.manual_clock import ManualClock
from tests.harness.memory_store import MemoryState, MemoryStore
from tests.harness.virtual_time_loop import in_virtual_time
from tests.store.job_factory import NOON
from tests.unit.access.key_fixtures import SECRET

ADMIN = Admin("cli:ann", "host")
CENT = 10_000
TEAMS = {"acme": TeamConfig(budget=BudgetConfig(day=Usd(100 * CENT))), "free": TeamConfig()}


def get_catalogue() -> Any:
    return SimpleNamespace(teams=TEAMS, configured_keys={})


class Harness:
    """The administration of one store, with a clock that tests move."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock, self.state = clock, MemoryState()
        self.store = MemoryStore(self.state, clock=clock)
        self.keys = self._make_keys(self.store)
        self.emitted: list[Event] = []
        self.budgets = self.make_budgets(self.store)
        self._numbers = count(1)

    def _make_keys(self, store: MemoryStore) -> KeyAdministration:
        return KeyAdministration(store.api_keys, TokenDigester((SECRET,)), get_catalogue, self.clock, self._draw_bytes)

    def make_budgets(self, store: MemoryStore) -> BudgetAdministration:
        return BudgetAdministration(
            store=store,
            keys=self._make_keys(store),
            catalogue=get_catalogue,
            wall_clock=self.clock,
            draw_bytes=self._draw_bytes,
            emit=self.emitted.append,
        )

    async def list_actions(self) -> list[str]:
        """Lists the actions of all events of admins, the oldest first."""
        return [event.action for event in (await self.keys.list_events(100, None)).events][::-1]

    def _draw_bytes(self, size: int) -> bytes:
        return next(self._numbers).to_bytes(2, "big").ljust(size, b"\0")

    async def open(self) -> None:
        await self.store.open()

    async def raise_budget(self, **changes: Any) -> str:
        fields = {"team": "acme", "window": WindowKind.DAY, "amount": "2.00", "reason": "launch", "duration": "24h"}
        override = await self.budgets.raise_budget(RaiseBudgetRequest(**{**fields, **changes}), ADMIN)
        return override.id

    async def load_amount(self, key_id: str = "", kind: WindowKind = WindowKind.DAY) -> int:
        """Returns the limit that applies now, of a configured one of 1 USD."""
        limit = BudgetLimit(make_owner("acme", key_id), get_window(kind, self.clock.now), 100 * CENT)
        [raised] = await load_raised_limits(self.store, (limit,), self.clock.now)
        return raised.amount


@pytest.fixture
def harness() -> Harness:
    return Harness(ManualClock(NOON))


@in_virtual_time
async def test_override_raises_one_limit_until_it_ends(harness: Harness) -> None:
    await harness.open()
    await harness.raise_budget()
    assert await harness.load_amount() == 200 * CENT
    assert await harness.load_amount(kind=WindowKind.WEEK) == 100 * CENT
    assert await harness.load_amount("k1") == 100 * CENT
    harness.clock.now += 86_399.0
    assert await harness.load_amount() == 200 * CENT
    harness.clock.now += 1.0
    assert await harness.load_amount() == 100 * CENT


@in_virtual_time
async def test_highest_override_applies_until_it_is_ended(harness: Harness) -> None:
    await harness.open()
    highest = await harness.raise_budget(amount="5.00")
    await harness.raise_budget(amount="3.00", duration=None, until="2040-05-12T00:00Z")
    assert await harness.load_amount() == 500 * CENT
    await harness.budgets.end_override(highest, ADMIN)
    assert await harness.load_amount() == 300 * CENT
    with pytest.raises(OverrideNotFound):
        await harness.budgets.end_override(highest, ADMIN)


@in_virtual_time
async def test_key_and_its_successor_have_one_override(harness: Harness) -> None:
    await harness.open()
    created = await harness.keys.create_key(KeyOptions(team="acme", budget=BudgetLimits(month=CENT)), ADMIN)
    successor = await harness.keys.rotate_key(created.key.id, 0.0, ADMIN)
    await harness.raise_budget(key_id=successor.key.id, window=WindowKind.MONTH)
    assert await harness.load_amount(created.key.id, WindowKind.MONTH) == 200 * CENT
    states = {state.limit.owner: state for state in await harness.budgets.list_budgets("acme")}
    assert set(states) == {"acme", make_owner("acme", created.key.id)}
    state = states[make_owner("acme", created.key.id)]
    assert (state.configured, state.limit.amount, state.left) == (CENT, 200 * CENT, 200 * CENT)


@in_virtual_time
async def test_each_change_is_an_event_with_its_reason(harness: Harness) -> None:
    await harness.open()
    override = await harness.raise_budget()
    await harness.budgets.end_override(override, ADMIN)
    page = await harness.keys.list_events(10, None)
    assert [(event.action, event.actor, event.team, event.key_id) for event in page.events] == [
        ("budget_override_ended", "cli:ann", "acme", None),
        ("budget_raised", "cli:ann", "acme", None),
    ]
    assert page.events[1].details == {
        "override": override,
        "window": "day",
        "configured": 1.0,
        "amount": 2.0,
        "until": "2040-05-11T12:00:00+00:00",
        "reason": "launch",
    }


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"team": "acm"}, "team"),
        ({"key_id": "unknown"}, "key_id"),
        ({"window": WindowKind.WEEK}, "window"),
        ({"team": "free"}, "window"),
        ({"amount": "1.00"}, "amount"),
        ({"amount": "much"}, "amount"),
        ({"reason": " "}, "reason"),
        ({"until": "2040-06-01T00:00Z"}, "until"),
        ({"duration": None}, "until"),
        ({"duration": None, "until": "2040-06-01"}, "until"),
        ({"duration": None, "until": "2040-05-01T00:00Z"}, "until"),
        ({"duration": "0"}, "duration"),
    ],
)
@in_virtual_time
async def test_invalid_override_is_named_and_leaves_no_event(
    harness: Harness, changes: dict[str, Any], option: str
) -> None:
    await harness.open()
    with pytest.raises(InvalidKeyOption) as raised:
        await harness.raise_budget(**changes)
    assert raised.value.option == option
    assert (await harness.keys.list_events(10, None)).events == ()


@in_virtual_time
async def test_expired_overrides_make_room_for_new_ones(harness: Harness) -> None:
    await harness.open()
    for _ in range(120):
        await harness.raise_budget(duration="1s")
        harness.clock.now += 1.0
    assert len(harness.state.team_records.records) == 1


@in_virtual_time
async def test_expiry_is_one_event_of_all_replicas(harness: Harness) -> None:
    """Also if several find it at once, and the first one crashed after its event."""
    await harness.open()
    override = await harness.raise_budget(duration="1h")
    other_store = await MemoryStore(harness.state, clock=harness.clock).open()
    replicas = [harness.budgets, harness.make_budgets(other_store)]
    await asyncio.gather(*(replica.expire_overrides() for replica in replicas))
    assert await harness.list_actions() == ["budget_raised"]
    harness.clock.now += 3_600.0
    stored = harness.state.team_records.records[override]
    await asyncio.gather(*(replica.expire_overrides() for replica in replicas * 3))
    assert harness.state.team_records.records == {}
    assert await harness.store.team_records.save(stored, 0.0)
    await replicas[1].expire_overrides()
    assert await harness.list_actions() == ["budget_raised", "budget_override_expired"]
    [expired, _] = (await harness.keys.list_events(10, None)).events
    assert (expired.at, expired.actor, expired.details["override"]) == (NOON + 3_600.0, "gateway", override)


@in_virtual_time
async def test_each_change_is_emitted_for_the_log(harness: Harness) -> None:
    await harness.open()
    await harness.raise_budget(duration="1h")
    harness.clock.now += 3_600.0
    await harness.budgets.expire_overrides()
    ended = await harness.raise_budget(amount="1.50")
    await harness.budgets.end_override(ended, ADMIN)
    emitted = [event for event in harness.emitted if isinstance(event, BudgetOverrideChanged)]
    assert [(event.action, event.actor, event.configured, event.limit) for event in emitted] == [
        ("budget_raised", "cli:ann", 100 * CENT, 200 * CENT),
        ("budget_override_expired", "gateway", 100 * CENT, 200 * CENT),
        ("budget_raised", "cli:ann", 100 * CENT, 150 * CENT),
        ("budget_override_ended", "cli:ann", 100 * CENT, 150 * CENT),
    ]
