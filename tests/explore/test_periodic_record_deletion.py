"""A gateway deletes the decision records of a team after the team's own time, by its periodic task."""

import asyncio
import json
from pathlib import Path
from random import Random

import pytest

from gateway.assets.storage import ImageStorage
from gateway.components import Factories
from gateway.config.reloader import ConfigReloader
from gateway.config.schema import DEFAULT_ADMIN_KEYS
from gateway.config.value_types import Secret, SecretRef
from gateway.gateway_lifecycle import Gateway
from gateway.settings import load_settings
from gateway.store.base import DAY_SECONDS
from tests.explore.scripted_sellers import ScriptedSellers
from tests.explore.seller_dialects import CALLBACK_SECRET
from tests.explore.sellers_config import EXPLORED_ADAPTERS, TEAM, write_config
from tests.explore.story import Story
from tests.harness.manual_clock import ManualClock
from tests.harness.memory_storage import MemoryBackend
from tests.harness.memory_store import MemoryState, MemoryStore
from tests.harness.virtual_time_loop import run_in_virtual_time
from tests.store import job_factory

# Litestar announces changes of its next version. A gateway process ignores these warnings, too.
pytestmark = pytest.mark.filterwarnings("ignore::litestar.exceptions.LitestarDeprecationWarning")
OTHER_TEAM = "another"
DAYS_BEFORE_START = 10


def find_secret(reference: SecretRef) -> Secret | None:
    return None if reference in DEFAULT_ADMIN_KEYS else Secret(CALLBACK_SECRET)


def configure_team(folder: Path, retention: dict[str, float]) -> None:
    path = folder / "teams.yaml"
    content = json.loads(path.read_text())
    content["teams"][TEAM]["retention"] = retention
    path.write_text(json.dumps(content))


async def create_old_records(state: MemoryState) -> dict[str, str]:
    """Creates one record for each team, whose job has been deleted since. Returns the job ids by team."""
    store = await MemoryStore(state, clock=ManualClock(job_factory.NOON)).open()
    commits = [job_factory.make_create_commit(job_factory.NOON, team) for team in (TEAM, OTHER_TEAM)]
    for commit in commits:
        await store.commit(commit)
    await store.close()
    for commit in commits:
        del state.jobs[commit.job.id], state.due_times[commit.job.id]
    return {commit.job.team: commit.job.id for commit in commits}


async def run_gateway_later(folder: Path) -> tuple[set[str], set[str]]:
    """Runs a gateway ten days after the records were made. Returns the teams that have a record after an hour, and
    after the team's time was shortened and loaded again."""
    loop, state = asyncio.get_running_loop(), MemoryState()
    job_ids = await create_old_records(state)
    started_at = job_factory.NOON + DAYS_BEFORE_START * DAY_SECONDS - loop.time()
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

    def list_teams() -> set[str]:
        return {team for team, job_id in job_ids.items() if state.decision_records.load(job_id)}

    async with gateway.app.lifespan():
        await asyncio.sleep(2 * gateway.timing.maintenance.cleanup_interval_seconds)
        before_reload = list_teams()
        configure_team(folder, {"jobs_days": 5, "decisions_days": 5})
        gateway.reloader.request_reload()
        await asyncio.sleep(2 * gateway.timing.maintenance.cleanup_interval_seconds)
        await gateway.drain()
    return before_reload, list_teams()


def test_gateway_deletes_old_records_of_the_team_also_after_a_reload(tmp_path: Path) -> None:
    write_config(tmp_path)
    configure_team(tmp_path, {"decisions_days": 20})
    assert run_in_virtual_time(run_gateway_later(tmp_path)) == ({TEAM, OTHER_TEAM}, {OTHER_TEAM})
