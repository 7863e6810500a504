"""More teams than have a label of their own: all replicas of one configuration fold the same ones into `other`."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.chaos.store_setups import StoreSetup
from tests.harness.child_spec import ChildSpec
from tests.harness.gateway_process import GatewayProcess
from tests.harness.metric_scrapes import Scrape, scrape, sum_series
from tests.harness.timings import CHAOS_TIMINGS, change_timing
from tests.harness.wait import wait_for_value

CHILD = ChildSpec(change_timing(CHAOS_TIMINGS, maintenance={"store_metric_interval_seconds": 0.3}))
# In an order that no sorting gives. The last five share a label.
TEAMS = [f"team-{number * 7 % 45:02}" for number in range(45)]
OWN_LABELS = {*TEAMS[:40], "other"}
PRICE_USD = 0.009
# Two images leave less than a tenth of it.
BUDGET_USD = 0.0185


def get_key(team: str) -> str:
    return f"igw_key_of_{team}"


def write_teams(config: Path) -> dict[str, str]:
    """Writes teams.yaml with a budget for each team. Returns the variables with their keys."""
    lines = [
        f'  {team}: {{keys: ["env:IGW_KEY_{number}"], policies: [runflow-runs], budget: {{day: "{BUDGET_USD}"}}}}'
        for number, team in enumerate(TEAMS)
    ]
    (config / "teams.yaml").write_text("teams:\n" + "\n".join(lines) + "\n")
    return {f"IGW_KEY_{number}": get_key(team) for number, team in enumerate(TEAMS)}


def create_image(gateway: GatewayProcess, team: str) -> None:
    headers = {"authorization": f"Bearer {get_key(team)}", "prefer": "wait=60"}
    body = {"prompt": f"a lighthouse of {team}", "quality": "low", "policy": "runflow-runs"}
    answer = httpx.post(f"{gateway.url}/v1/jobs", json=body, headers=headers, timeout=70.0, trust_env=False)
    assert answer.json()["status"] == "completed", answer.text


def read_spend(gateway: GatewayProcess) -> dict[str, float]:
    """Returns the money of each value of the label `team`."""
    spend: dict[str, float] = {}
    for (name, pairs), value in scrape(gateway).items():
        if name == "igw_spend_usd_total":
            team = dict(pairs)["team"]
            spend[team] = round(spend.get(team, 0.0) + value, 6)
    return spend


def wait_for_spend(gateway: GatewayProcess, images: int) -> dict[str, float]:
    return wait_for_value(
        lambda: read_spend(gateway),
        lambda spend: round(sum(spend.values()), 6) == round(images * PRICE_USD, 6),
        f"the metrics have {images} images",
    )


def list_labels(found: Scrape, name: str) -> set[str]:
    return {dict(pairs)["team"] for metric, pairs in found if metric == name}


@pytest.mark.thorough
def test_all_replicas_fold_the_same_teams(redis_setup: StoreSetup) -> None:
    """The first one starts before any team has spent anything, the second one when some have, the third one at last."""
    environ = {**redis_setup.environ, **write_teams(redis_setup.config)}

    def make_replica(name: str) -> GatewayProcess:
        return GatewayProcess(redis_setup.folder / name, redis_setup.config, environ, child=CHILD)

    with make_replica("1") as first, make_replica("2") as second, make_replica("3") as third:
        first.start()
        for team in (TEAMS[44], TEAMS[44], TEAMS[42], TEAMS[0]):
            create_image(first, team)
        assert wait_for_spend(first, 4).keys() == {TEAMS[0], "other"}
        second.start()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda team: create_image(second, team), TEAMS[:44]))
        expected = dict.fromkeys(TEAMS[:40], PRICE_USD) | {TEAMS[0]: 2 * PRICE_USD, "other": 7 * PRICE_USD}
        third.start()
        for gateway in (first, second, third):
            assert wait_for_spend(gateway, 48) == {team: round(amount, 6) for team, amount in expected.items()}
        assert list_labels(scrape(first), "igw_jobs_ended_total") == {TEAMS[0], "other"}
        assert list_labels(scrape(second), "igw_jobs_ended_total") == OWN_LABELS
        first.kill()
        first.start()
        assert wait_for_spend(first, 48) == {team: round(amount, 6) for team, amount in expected.items()}
        for gateway in (first, second, third):
            found = scrape(gateway)
            limit, left = (sum_series(found, f"igw_budget_{kind}_usd", team=TEAMS[44]) for kind in ("limit", "left"))
            assert limit == BUDGET_USD
            assert left < 0.1 * limit, "an alert names the team although it has no label of its own elsewhere"
