"""Which teams have a label of their own depends on the configuration and the store alone."""

from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from gateway.config.schema import TeamConfig
from gateway.telemetry import store_metric_table as table
from gateway.telemetry.team_labels import MAX_TEAMS, OTHER
from tests.unit.telemetry.sample_events import SAMPLE_EVENTS
from tests.unit.telemetry.store_reader_harness import ReaderHarness, make_total

# In an order that no sorting gives. The last ones share a label.
TEAMS = [f"team-{number * 7 % 45:02}" for number in range(45)]
OWN, FOLDED = set(TEAMS[:MAX_TEAMS]), set(TEAMS[MAX_TEAMS:])


def make_teams(names: list[str] = TEAMS) -> dict[str, TeamConfig]:
    return {name: TeamConfig() for name in names}


def get_labels(harness: ReaderHarness, names: list[str]) -> dict[str, str]:
    return {name: harness.team_labels.get_label(name) for name in names}


def list_team_labels(harness: ReaderHarness) -> dict[str, set[str]]:
    """Returns the values of the label `team` of each metric that has some."""
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(harness.metrics.render()[0].decode()):
        for sample in family.samples:
            if "team" in sample.labels:
                labels.setdefault(family.name, set()).add(sample.labels["team"])
    return labels


def test_first_teams_of_the_configuration_have_a_label_of_their_own() -> None:
    harness = ReaderHarness(teams=make_teams())
    assert get_labels(harness, TEAMS) == {name: name if name in OWN else OTHER for name in TEAMS}
    assert harness.team_labels.get_label("unknown") == OTHER


@pytest.mark.parametrize("first_booked", [TEAMS[:3], TEAMS[-3:], list(FOLDED), ["a-former-team"], []])
def test_labels_do_not_depend_on_when_a_process_started(first_booked: list[str]) -> None:
    early, late = ReaderHarness(teams=make_teams()), ReaderHarness(teams=make_teams())
    early.statistics.totals = tuple(make_total(team, charged=1_000_000) for team in first_booked)
    early.refresh()
    early.statistics.totals = late.statistics.totals = tuple(
        make_total(team, charged=1_000_000) for team in {*TEAMS, *first_booked}
    )
    early.refresh()
    late.refresh()
    early.clock.now += 3_600.0
    early.refresh()
    assert early.read_samples(table.SPEND) == late.read_samples(table.SPEND)
    assert {team for team, *_ in late.read_samples(table.SPEND)} == {*OWN, OTHER}


def test_events_have_the_same_labels_as_money() -> None:
    harness = ReaderHarness(teams=make_teams())
    team_events: list[Any] = [event for event in SAMPLE_EVENTS if getattr(event, "team", None)]
    for event in team_events:
        for team in TEAMS:
            harness.metrics(replace(event, team=team))
    harness.statistics.totals = tuple(make_total(team, charged=1, charged_images=1, corrected=1) for team in TEAMS)
    harness.refresh()
    labels = list_team_labels(harness)
    assert len(labels) > 7
    assert set(map(frozenset, labels.values())) == {frozenset({*OWN, OTHER})}


def test_former_team_keeps_its_label_while_there_is_room() -> None:
    harness = ReaderHarness(teams=make_teams(TEAMS[:3]))
    harness.statistics.totals = (make_total(TEAMS[0], charged=1_000_000),)
    harness.refresh()
    before = harness.read_samples(table.SPEND)
    del harness.teams[TEAMS[0]]
    harness.refresh()
    assert harness.read_samples(table.SPEND) == before
    assert harness.team_labels.get_label(TEAMS[0]) == TEAMS[0], "of its last jobs, too"


def test_money_that_moves_to_another_label_is_not_new() -> None:
    """Otherwise what a team has ever spent would seem to be spent at that moment."""
    harness = ReaderHarness(teams=make_teams())
    harness.statistics.totals = tuple(make_total(team, charged=1_000_000) for team in TEAMS)
    harness.refresh()
    promoted = TEAMS[MAX_TEAMS]
    del harness.teams[TEAMS[0]]
    harness.refresh()
    spend = {team: value for (team, *_), value in harness.read_samples(table.SPEND).items()}
    assert (spend[promoted], spend[OTHER]) == (1.0, 5.0)
    assert TEAMS[0] not in spend
