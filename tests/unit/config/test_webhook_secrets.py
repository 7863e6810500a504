"""The signing secrets of teams: resolved from their references, and never required for planning."""

from pathlib import Path

from gateway.config.catalogue_builder import placeholder_secrets, resolve_files, secrets_from_env
from gateway.config.loader import load
from gateway.config.value_types import Secret
from providers import ADAPTERS
from tests.unit.config.sample_config import SAMPLE_ENVIRON, SAMPLE_FILES, write_config

NEW, OLD = "whsec_bmV3IHNlY3JldCBvZiAyNCBieXRlcyBvciBtb3Jl", "whsec_b2xkIHNlY3JldCBvZiAyNCBieXRlcyBvciBtb3Jl"
TEAMS = """\
teams:
  design:
    policies: [cheapest, steady]
    webhooks:
      secrets: [env:NEW, env:OLD]
      targets:
        all: {url: "https://example.com/hook?token=a"}
  other: {}
"""


def write_teams(folder: Path) -> Path:
    return write_config(folder, SAMPLE_FILES | {"teams.yaml": TEAMS})


def test_both_secrets_of_a_rotation_are_found(tmp_path: Path) -> None:
    environ = SAMPLE_ENVIRON | {"NEW": NEW, "OLD": OLD}
    resolved = resolve_files(load(write_teams(tmp_path)), secrets_from_env(environ), ADAPTERS)
    assert resolved.problems == resolved.warnings == ()
    assert resolved.catalogue is not None
    assert resolved.catalogue.webhook_secrets == {"design": (Secret(NEW), Secret(OLD))}
    assert "whsec" not in repr(resolved.catalogue)


def test_missing_secret_is_a_warning(tmp_path: Path) -> None:
    resolved = resolve_files(load(write_teams(tmp_path)), secrets_from_env(SAMPLE_ENVIRON | {"OLD": OLD}), ADAPTERS)
    assert resolved.catalogue is not None
    assert resolved.catalogue.webhook_secrets == {"design": (Secret(OLD),)}
    [warning] = resolved.warnings
    assert "env:NEW not found: webhooks are not signed with it" in str(warning)


def test_planning_needs_no_secret(tmp_path: Path) -> None:
    resolved = resolve_files(load(write_teams(tmp_path)), placeholder_secrets, ADAPTERS)
    assert resolved.problems == resolved.warnings == ()
