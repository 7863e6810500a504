"""The hooks of moderation: of all teams and of one, with resolved secrets; what is wrong with them is a problem."""

from pathlib import Path

import pytest

from gateway.catalogue import Catalogue
from gateway.config.catalogue_builder import ResolvedConfig, placeholder_secrets, resolve_files, secrets_from_env
from gateway.config.loader import load
from gateway.config.value_types import Secret
from providers import ADAPTERS
from tests.unit.config.sample_config import SAMPLE_ENVIRON, SAMPLE_FILES, write_config

SECRET, TEAM_SECRET = "whsec_bmV3IHNlY3JldCBvZiAyNCBieXRlcyBvciBtb3Jl", "whsec_b2xkIHNlY3JldCBvZiAyNCBieXRlcyBvciBtb3Jl"
GATEWAY = """\
moderate:
  before: {url: "https://example.com/before", secrets: [env:HOOK]}
  after: {url: "http://10.0.0.5:8081/after", private: true, fail: open, timeout_seconds: 0.5}
"""
TEAMS = """\
teams:
  design:
    policies: [cheapest, steady]
    moderate:
      before: {url: "https://example.com/design", secrets: [env:TEAM_HOOK, env:HOOK]}
  other: {}
  unmoderated: {moderate: {after: none}}
"""
FILES = SAMPLE_FILES | {"gateway.yaml": GATEWAY, "teams.yaml": TEAMS}
ENVIRON = SAMPLE_ENVIRON | {"HOOK": SECRET, "TEAM_HOOK": TEAM_SECRET}


def resolve(folder: Path, files: dict[str, str], environ: dict[str, str]) -> ResolvedConfig:
    return resolve_files(load(write_config(folder, files)), secrets_from_env(environ), ADAPTERS)


def resolve_hooks(folder: Path) -> Catalogue:
    resolved = resolve(folder, FILES, ENVIRON)
    assert (resolved.problems, resolved.warnings) == ((), ())
    assert resolved.catalogue is not None
    return resolved.catalogue


def test_team_replaces_hook_by_hook(tmp_path: Path) -> None:
    catalogue = resolve_hooks(tmp_path)
    urls = {
        (team, hook.name): str(hook.config.url)
        for team in ("design", "other", "removed", "unmoderated")
        for hook in (catalogue.find_moderation_hook("before", team), catalogue.find_moderation_hook("after", team))
        if hook is not None
    }
    assert urls == {
        ("design", "before"): "https://example.com/design",
        ("other", "before"): "https://example.com/before",
        ("removed", "before"): "https://example.com/before",
        ("unmoderated", "before"): "https://example.com/before",
        **dict.fromkeys([(team, "after") for team in ("design", "other", "removed")], "http://10.0.0.5:8081/after"),
    }


def test_hook_has_its_secrets_and_defaults(tmp_path: Path) -> None:
    catalogue = resolve_hooks(tmp_path)
    before, after = (catalogue.find_moderation_hook(name, "design") for name in ("before", "after"))
    assert before is not None
    assert before.secrets == (Secret(TEAM_SECRET), Secret(SECRET))
    assert (before.config.fail, before.config.timeout_seconds, before.config.private) == ("closed", 5.0, False)
    assert after is not None
    assert after.secrets == ()
    assert (after.config.fail, after.config.timeout_seconds, after.config.private) == ("open", 0.5, True)
    assert "whsec" not in repr(catalogue)


def test_no_hook_without_configuration(tmp_path: Path) -> None:
    resolved = resolve(tmp_path, SAMPLE_FILES, SAMPLE_ENVIRON)
    assert resolved.catalogue is not None
    assert resolved.catalogue.find_moderation_hook("before", "design") is None


@pytest.mark.parametrize(
    ("missing", "location"),
    [("TEAM_HOOK", "teams.yaml:5"), ("HOOK", "gateway.yaml:2")],
)
def test_missing_secret_is_a_problem(tmp_path: Path, missing: str, location: str) -> None:
    environ = {name: value for name, value in ENVIRON.items() if name != missing}
    resolved = resolve(tmp_path, FILES, environ)
    assert resolved.catalogue is None
    assert f"env:{missing} not found: questions to this hook cannot be signed" in str(resolved.problems[0])
    assert location in str(resolved.problems[0])


def test_secret_of_another_form_is_a_problem(tmp_path: Path) -> None:
    resolved = resolve(tmp_path, FILES, ENVIRON | {"HOOK": "not-a-signing-secret"})
    assert {problem.message for problem in resolved.problems} == {
        "env:HOOK is not a signing secret: whsec_ and base64 of 24 to 64 bytes"
    }
    assert "not-a-signing-secret" not in str(resolved.problems)


def test_planning_needs_no_secret(tmp_path: Path) -> None:
    resolved = resolve_files(load(write_config(tmp_path, FILES)), placeholder_secrets, ADAPTERS)
    assert resolved.problems == resolved.warnings == ()


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ('{url: "http://example.com/"}', "url must be https on port 443, unless private is true"),
        ('{url: "https://example.com:8443/"}', "url must be https on port 443, unless private is true"),
        ('{url: "ftp://example.com/", private: true}', "Invalid URL"),
        ('{url: "https://user@example.com/"}', "Invalid URL"),
        ("{private: true}", "Missing option 'url'"),
        ("no hook", "Write a mapping with: url"),
        ('{url: "https://example.com/", timeout_seconds: 31}', "30"),
        ('{url: "https://example.com/", fail: ajar}', "ajar"),
        ('{url: "https://example.com/", timeout: 3}', "Unknown option"),
        ('{url: "https://example.com/", secrets: [whsec_abc]}', "Invalid secret reference"),
    ],
)
@pytest.mark.parametrize("name", ["before", "after"])
def test_invalid_hook_is_reported_with_its_line(tmp_path: Path, name: str, hook: str, message: str) -> None:
    files = SAMPLE_FILES | {"gateway.yaml": f"moderate:\n  {name}: {hook}\n"}
    [problem] = resolve(tmp_path, files, SAMPLE_ENVIRON).problems
    assert message in problem.message
    assert "gateway.yaml:2" in str(problem)
    assert "whsec_abc" not in str(problem)
