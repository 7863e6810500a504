"""Budgets of the API keys in teams.yaml."""

from pathlib import Path

from gateway.access.principal import make_configured_principal
from gateway.config.catalogue_builder import ResolvedConfig
from gateway.jobs.budgets import BudgetLimits, KeyBudget
from tests.unit.config.sample_config import SAMPLE_ENVIRON, SAMPLE_FILES, resolve_config, write_config

TEAMS = """\
teams:
  design:
    keys: [env:IGW_KEY_CI, env:IGW_KEY_PLAIN]
    key_budgets:
      env:IGW_KEY_CI: {day: "1.50", lifetime: "20"}
"""


def resolve(folder: Path, **keys: str) -> ResolvedConfig:
    return resolve_config(write_config(folder, SAMPLE_FILES | {"teams.yaml": TEAMS}), SAMPLE_ENVIRON | keys)


def test_key_has_its_budget_and_each_key_is_counted_by_its_reference(tmp_path: Path) -> None:
    catalogue = resolve(tmp_path, IGW_KEY_CI="first", IGW_KEY_PLAIN="second").catalogue
    assert catalogue is not None
    principals = [make_configured_principal(key) for key in catalogue.configured_keys.values()]
    assert [principal.key_budget for principal in principals] == [
        KeyBudget("env:IGW_KEY_CI", BudgetLimits(day=1_500_000, lifetime=20_000_000)),
        KeyBudget("env:IGW_KEY_PLAIN", BudgetLimits()),
    ]


def test_two_references_to_one_key_with_different_budgets_are_a_problem(tmp_path: Path) -> None:
    [problem] = resolve(tmp_path, IGW_KEY_CI="the same", IGW_KEY_PLAIN="the same").problems
    assert "env:IGW_KEY_PLAIN is the same key as env:IGW_KEY_CI, with another budget" in str(problem)
    assert "teams.yaml:3: teams.design.keys[1]" in str(problem)
