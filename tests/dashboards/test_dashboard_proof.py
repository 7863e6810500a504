"""Every panel and every alert has data from running gateways, and every alert fires when it should, and no other."""

from collections.abc import Iterator

import pytest
from msgspec import Struct

from tests.dashboards.alert_rules import ALERTS
from tests.dashboards.panel_queries import PanelQuery, list_panel_queries
from tests.dashboards.prometheus_server import PrometheusServer
from tests.dashboards.proof_scenario import PHASES, PhaseRecord, run_proof
from tests.dashboards.shortened_rules import read_shortened_rules

# Queries without data in the proof, and why.
MAY_BE_EMPTY = {
    "Overview: Spend per hour, and a week ago: a week ago": "Prometheus has no data of a week ago",
    "Spend: Booked back: {{seller}} {{line}}": "nothing is booked back in the scenario",
    "Jobs: Batch lines: {{outcome}}": "the scenario has no batch: replicas claim them too rarely in it",
    "Sellers: Late images: {{seller}}": "no image arrives after its order was given up",
}


# Queries have one value for each step, so that an alert is seen up to a step after it began to fire.
STEP_SECONDS = 1.0


class Proof(Struct, frozen=True):
    """The proof run: its Prometheus, which has all data, and when what happened."""

    server: PrometheusServer
    started_at: float
    phases: list[PhaseRecord]

    @property
    def ended_at(self) -> float:
        return self.phases[-1].ended_at

    def find_first_firing(self) -> dict[str, float]:
        """Returns when each alert fired first."""
        end = self.ended_at + STEP_SECONDS
        found = self.server.query_range('ALERTS{alertstate="firing"}', self.started_at, end, STEP_SECONDS)
        moments: dict[str, float] = {}
        for series in found:
            name, at = series.labels["alertname"], series.values[0][0]
            moments[name] = min(at, moments.get(name, at))
        return moments

    def get_earliest_start(self, alert: str) -> float:
        """Returns when the first phase started that may cause this alert."""
        phases = (record for record in self.phases if alert in record.phase.alerts | record.phase.possible_alerts)
        return min(record.started_at for record in phases)


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proof]:
    with run_proof(tmp_path_factory.mktemp("proof")) as (server, started_at, phases):
        yield Proof(server, started_at, phases)


@pytest.mark.thorough
def test_every_panel_has_data(proof: Proof) -> None:
    """All queries but the listed ones have data."""
    empty = {query.name for query in list_panel_queries() if not has_data(proof, query)}
    assert empty == MAY_BE_EMPTY.keys()


def has_data(proof: Proof, query: PanelQuery) -> bool:
    expr = query.replace_variables("15s")
    return bool(proof.server.query_range(expr, proof.started_at, proof.ended_at, STEP_SECONDS))


@pytest.mark.thorough
def test_every_alert_fires_in_its_phase_first(proof: Proof) -> None:
    """None fires before, so none in the quiet beginning."""
    moments = proof.find_first_firing()
    early_or_late = {
        name: (record.phase.name, moments[name] - record.started_at)
        for record in proof.phases
        for name in record.phase.alerts
        if not proof.get_earliest_start(name) <= moments[name] <= record.ended_at + STEP_SECONDS
    }
    assert early_or_late == {}
    assert moments.keys() == ALERTS.keys()


@pytest.mark.thorough
def test_every_rule_is_evaluated_without_error(proof: Proof) -> None:
    assert [rule["name"] for rule in proof.server.list_rules() if rule["health"] != "ok"] == []


@pytest.mark.thorough
def test_exemplars_are_ids_of_jobs(proof: Proof) -> None:
    """Panels of latencies link to them."""
    found = [series["exemplars"] for series in proof.server.query_exemplars("igw_job_duration_seconds_bucket")]
    assert any(found)
    assert all(entry["labels"]["job_id"].startswith("job_") for exemplars in found for entry in exemplars)


@pytest.mark.thorough
def test_texts_of_alerts_are_complete(proof: Proof) -> None:
    alerts = [alert for rule in proof.server.list_rules() for alert in rule.get("alerts", ())]
    assert alerts
    assert [alert for alert in alerts if "<no value>" in str(alert["annotations"])] == []


def test_every_alert_has_a_phase() -> None:
    named = [name for phase in PHASES for name in phase.alerts]
    assert sorted(named) == sorted(ALERTS)


def test_shortened_rules_have_all_rules() -> None:
    rules = [rule for group in read_shortened_rules()["groups"] for rule in group["rules"]]
    assert {rule["alert"] for rule in rules if "alert" in rule} == ALERTS.keys()
    assert all(rule.get("for", "2s") == "2s" for rule in rules)
