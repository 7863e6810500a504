"""A gateway deletes decision records and ledger entries of a team after the team's own times, by its periodic tasks."""

import asyncio
import json
from pathlib import Path
from random import Random
from typing import ClassVar, Protocol

import pytest
from msgspec.structs import replace

from gateway.assets.storage import ImageStorage
from gateway.components import Factories
from gateway.config.reloader import ConfigReloader
from gateway.config.schema import DEFAULT_ADMIN_KEYS
from gateway.config.value_types import Secret, SecretRef
from gateway.gateway_lifecycle import Gateway
from gateway.settings import load_settings
from gateway.store.base import DAY_SECONDS
from gateway.store.ledger_totals import Correction
from tests.explore.scripted_sellers import ScriptedSellers
from tests.explore.seller_dialects import CALLBACK_SECRET
from tests.explore.sellers_config import EXPLORED_ADAPTERS, TEAM, write_config
from tests.explore.story import Story
from tests.harness.manual_clock import ManualClock
from tests.harness.memory_storage import MemoryBackend
from tests.harness.memory_store import MemoryState, MemoryStore
from tests.harness.virtual_time_loop import run_in_virtual_time
from tests.store import job_factory
from tests.unit.ledger.sample_entry import ENTRY

# Litestar announces changes of its next version. A gateway process ignores these warnings, too.
pytestmark = pytest.mark.filterwarnings("ignore::litestar.exceptions.LitestarDeprecationWarning")
OTHER_TEAM = "another"


def find_secret(reference: SecretRef) -> Secret | None:
    return None if reference in DEFAULT_ADMIN_KEYS else Secret(CALLBACK_SECRET)


def configure_team(folder: Path, retention: dict[str, float]) -> None:
    path = folder / "teams.yaml"
    content = json.loads(path.read_text())
    content["teams"][TEAM]["retention"] = retention
    path.write_text(json.dumps(content))


class OldData(Protocol):
    """Data of two teams, from before the gateway starts."""

    days_before_start: float
    # The team's own time after the reload, which has ended by then.
    shorter_retention: dict[str, float]

    async def create(self, state: MemoryState) -> None: ...

    def list_teams(self, state: MemoryState) -> set[str]:
        """Lists the teams that have data."""


class OldRecords:
    """A decision record of each team, whose job has been deleted since."""

    days_before_start = 10
    shorter_retention: ClassVar = {"jobs_days": 5, "decisions_days": 5}

    def __init__(self) -> None:
        self._commits = [job_factory.make_create_commit(job_factory.NOON, team) for team in (TEAM, OTHER_TEAM)]

    async def create(self, state: MemoryState) -> None:
        store = await MemoryStore(state, clock=ManualClock(job_factory.NOON)).open()
        for commit in self._commits:
            await store.commit(commit)
        await store.close()
        for commit in self._commits:
            del state.jobs[commit.job.id], state.due_times[commit.job.id]

    def list_teams(self, state: MemoryState) -> set[str]:
        return {commit.job.team for commit in self._commits if state.decision_records.load(commit.job.id)}


class OldEntries:
    """A ledger entry of each team."""

    days_before_start = 50
    shorter_retention: ClassVar = {"ledger_days": 40}

    async def create(self, state: MemoryState) -> None:
        store = await MemoryStore(state, clock=ManualClock(job_factory.NOON)).open()
        for team in (TEAM, OTHER_TEAM):
            entry = replace(ENTRY, team=team, day=job_factory.DAY, posted_at=job_factory.NOON)
            assert await store.post_correction(Correction(id=f"correction of {team}", entries=(entry,)))
        await store.close()

    def list_teams(self, state: MemoryState) -> set[str]:
        return {entry.team for entry in state.ledger.entries}


async def run_gateway_later(folder: Path, old_data: OldData) -> tuple[set[str], set[str]]:
    """Runs a gateway days after the data was made. Returns the teams that have data after an hour, and after the team's
    time was shortened and loaded again."""
    loop, state = asyncio.get_running_loop(), MemoryState()
    await old_data.create(state)
    started_at = job_factory.NOON + old_data.days_before_start * DAY_SECONDS - loop.time()
    gateway = Gateway(
        load_settings({"IGW_SECRET": "a secret for signing URLs"}, config=folder, data=folder / "data"),
        lambda on_reload: ConfigReloader(folder, find_secret, EXPLORED_ADAPTERS, on_reload),
        lambda catalogue, logs: catalogue,
        Factories(
            make_store=lambda options: MemoryStore(state, clock=options.wall_clock),
            make_storage=lambda *_: ImageStorage(MemoryBackend()),
            make_seller_client=lambda _: ScriptedSellers(Random(1), Story(loop.time), is_calm=True),
            system_clock=lambda: started_at + loop.time(),
            monotonic=loop.time,
        ),
    )
    async with gateway.app.lifespan():
        await asyncio.sleep(2 * gateway.timing.maintenance.cleanup_interval_seconds)
        before_reload = old_data.list_teams(state)
        configure_team(folder, old_data.shorter_retention)
        gateway.reloader.request_reload()
        await asyncio.sleep(2 * gateway.timing.maintenance.cleanup_interval_seconds)
        await gateway.drain()
    return before_reload, old_data.list_teams(state)


@pytest.mark.parametrize(
    ("old_data", "longer_retention"),
    [(OldRecords(), {"decisions_days": 20}), (OldEntries(), {"ledger_days": 80})],
    ids=["decision records", "ledger entries"],
)
def test_gateway_deletes_old_data_of_the_team_also_after_a_reload(
    tmp_path: Path, old_data: OldData, longer_retention: dict[str, float]
) -> None:
    write_config(tmp_path)
    configure_team(tmp_path, longer_retention)
    assert run_in_virtual_time(run_gateway_later(tmp_path, old_data)) == ({TEAM, OTHER_TEAM}, {OTHER_TEAM})
