"""`image-gateway keys` without a gateway: in the store, with the settings of `serve`."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.harness.cli_runner import run_command

TOKEN = re.compile(r"igw_[a-z2-7]{10}_[a-z2-7]{52}")


def run_keys(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return run_command("keys", *arguments, IGW_DATA=str(folder))


def run_json(folder: Path, *arguments: str) -> Any:
    result = run_keys(folder, *arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_standard_output_is_the_new_key_alone(tmp_path: Path) -> None:
    result = run_keys(tmp_path, "new", "design", "--name", "nightly build", "--expires", "90d")
    assert result.returncode == 0, result.stderr
    assert TOKEN.fullmatch(result.stdout.strip())
    assert "nightly build" in result.stderr
    assert not TOKEN.search(result.stderr)


def test_key_is_in_no_file_and_no_later_output(tmp_path: Path) -> None:
    secret = run_keys(tmp_path, "new", "design").stdout.strip().split("_")[2]
    for command in ("list", "events"):
        result = run_keys(tmp_path, command, *(("--all",) if command == "list" else ()))
        assert secret not in result.stdout + result.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def test_keys_are_listed_rotated_and_revoked(tmp_path: Path) -> None:
    created = run_json(tmp_path, "new", "design", "--scope", "read", "--images-per-minute", "60")
    assert (created["scopes"], created["limits"]) == (["read"], {"images_per_minute": 60})
    rotated = run_json(tmp_path, "rotate", created["id"], "--overlap", "2h")
    assert (rotated["replaces"], rotated["scopes"]) == (created["id"], ["read"])
    assert [key["id"] for key in run_json(tmp_path, "list")] == [rotated["id"], created["id"]]
    revoked = run_keys(tmp_path, "revoke", created["id"])
    assert revoked.stdout.strip() == f"revoked {created['id']} of design"
    assert [key["id"] for key in run_json(tmp_path, "list")] == [rotated["id"]]
    listed = run_json(tmp_path, "list", "--all", "--team", "design")
    assert {key["id"]: key["status"] for key in listed} == {rotated["id"]: "active", created["id"]: "revoked"}
    events = run_json(tmp_path, "events")
    assert [event["action"] for event in events] == ["key_revoked", "key_rotated", "key_created"]
    assert all(event["actor"].startswith("cli:") for event in events)
    table = run_keys(tmp_path, "list").stdout.splitlines()
    assert table[0].split()[:3] == ["ID", "TEAM", "SCOPES"]
    assert "60 images/min" in table[1]


def test_key_is_changed(tmp_path: Path) -> None:
    created = run_json(tmp_path, "new", "design", "--budget-day", "2.00", "--images-per-minute", "60")
    limits = ("--images-per-minute", "none", "--concurrent-jobs", "4")
    budget = ("--budget-day", "2.50", "--budget-month", "30.00")
    changed = run_json(tmp_path, "change", created["id"], "--expires", "90d", "--policy", "steady", *limits, *budget)
    assert (changed["limits"], changed["policies"]) == ({"concurrent_jobs": 4}, ["steady"])
    assert (changed["budget"], changed["name"]) == ({"month": 30.0, "day": 2.5}, "")
    assert changed["expires_at"] > created["created_at"] + 89 * 86_400
    assert run_json(tmp_path, "list") == [changed]
    table = run_keys(tmp_path, "change", created["id"], "--all-policies", "--expires", "never", "--name", "ci").stdout
    assert ("ci" in table, "$2.50/day" in table, "4 jobs" in table) == (True, True, True)
    restored = run_json(tmp_path, "list")[0]
    assert (restored["policies"], restored["expires_at"]) == (None, None)
    [second, first, _] = run_json(tmp_path, "events")
    assert (first["action"], first["details"]["budget.day"]) == ("key_changed", {"from": 2.0, "to": 2.5})
    assert second["details"]["policies"] == {"from": ["steady"], "to": None}


def test_empty_list_says_so_on_standard_error(tmp_path: Path) -> None:
    result = run_keys(tmp_path, "list")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "no active keys\n")
    assert run_json(tmp_path, "list") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("new", "desing"), "team 'desing' is not in teams.yaml"),
        (("new",), "needs a team"),
        (("new", "design", "--expires", "soon"), "Write it like 30m, 24h or 90d"),
        (("new", "design", "--policy", "split"), "may not request policy 'split'"),
        (("new", "design", "--scope", "write"), "'write' is not one of"),
        (("change", "unknown", "--name", "x"), "API key 'unknown' not found"),
        (("change", "unknown"), "nothing to change"),
        (("change", "unknown", "--budget-day", "much"), "budget.day: "),
        (("change", "unknown", "--concurrent-jobs", "0"), "is not in the range"),
        (("change", "unknown", "--policy", "steady", "--all-policies"), "use either --policy or --all-policies"),
        (("rotate", "unknown"), "API key 'unknown' not found"),
        (("revoke", "unknown"), "API key 'unknown' not found"),
        (("list", "--url", "http://127.0.0.1:1"), "requires an admin key"),
        (("list", "--url", "http://127.0.0.1:1", "--admin-key", "x"), "is unreachable"),
        (("list", "--url", "nonsense", "--admin-key", "x"), "Invalid gateway URL"),
    ],
)
def test_error_says_what_to_do(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run_keys(tmp_path, *arguments)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
