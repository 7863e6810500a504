"""`image-gateway webhooks` without a running gateway: in the store of SQLite."""

import json
from pathlib import Path

import pytest

from gateway.config.signing_secrets import decode_signing_secret
from gateway.config.value_types import Secret
from tests.harness.cli_runner import run_command

URL = "https://orders.example.com/images"


def test_target_is_added_changed_rotated_and_removed_in_the_store(tmp_path: Path) -> None:
    options = ("--data", str(tmp_path / "data"))
    added = run_command("webhooks", "add", "design", URL, "--name", "orders", "--description", "shop", *options)
    assert added.returncode == 0, added.stderr
    assert decode_signing_secret(Secret(added.stdout.strip())) is not None
    assert "the only time the secret is shown" in added.stderr
    [target] = json.loads(run_command("webhooks", "list", "--json", *options).stdout)
    assert (target["team"], target["url"], target["description"]) == ("design", URL, "shop")
    changed = run_command("webhooks", "change", target["id"], "--disable", "--event", "job.failed", *options)
    assert "disabled" in changed.stdout, changed.stderr
    rotated = run_command("webhooks", "rotate", target["id"], "--json", *options)
    assert len(json.loads(rotated.stdout)["secrets"]) == 2, rotated.stderr
    assert "the old one until" in run_command("webhooks", "list", *options).stdout
    removed = run_command("webhooks", "remove", target["id"], *options)
    assert removed.stdout == "removed orders of design\n"
    assert run_command("webhooks", "list", *options).stderr == "no targets\n"
    events = json.loads(run_command("keys", "events", "--json", *options).stdout)
    assert [event["action"] for event in events] == [
        "webhook_target_removed",
        "webhook_secret_rotated",
        "webhook_target_changed",
        "webhook_target_added",
    ]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("add", "desing", URL), 2, "did you mean 'design'"),
        (("add", "design", "http://orders.example.com/"), 2, "url must be https"),
        (("add", "design", URL, "--event", "job.complete"), 2, "job.completed"),
        (("change", "target_unknown", "--disable"), 1, "not found"),
        (("remove", "target_unknown"), 1, "not found"),
        (("rotate", "target_unknown"), 1, "not found"),
        (("test", "target_unknown"), 2, "--url"),
    ],
)
def test_mistake_is_named(tmp_path: Path, arguments: tuple[str, ...], exit_code: int, message: str) -> None:
    result = run_command("webhooks", *arguments, "--data", str(tmp_path / "data"))
    assert (result.returncode, result.stdout) == (exit_code, "")
    assert message in result.stderr
