"""The receivers and the body that docs/webhooks.md prints, against webhooks as the gateway signs them."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.access.webhook_administration import MAX_TEAM_TARGETS
from gateway.api.webhooks.webhook_target_routes import WEBHOOK_TARGET_HANDLERS
from gateway.commands.webhook_commands import webhooks
from gateway.config.schema import TeamsFile
from gateway.config.validation import Validator
from gateway.config.value_types import Secret
from gateway.config.yaml_nodes import parse_bytes
from gateway.timeouts_and_intervals import WebhookTiming
from gateway.webhooks.signature import build_signed_headers
from gateway.webhooks.webhook_body import build_body, build_thin_data
from gateway.webhooks.webhook_records import WebhookOutcome, WebhookRecord
from tests.harness.gateway_runner import ADMIN_KEY, ROOT, run_sandboxed_gateway
from tests.harness.page_examples import run_bash_example
from tests.harness.webhook_receiver import OLD_WEBHOOK_SECRET, WEBHOOK_SECRET

ENDS = ("", "/rotate", "/test")
PAGE = (ROOT / "docs" / "webhooks.md").read_text()
RECORD = WebhookRecord(
    id="delivery_ct5l4lhyq3nqkh5dydyy3zfkwz5h",
    team="design",
    created_at=1_795_780_800.25,
    event="job.completed",
    job="job_07aaaaaaaaaaaaaaaaaaaaaaaaaa",
)
BODY = build_body(RECORD, build_thin_data(RECORD))


def get_example(title: str, language: str) -> str:
    match = re.search(rf"<!-- {title}: [^\n]*-->\n```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None, title
    return match[1]


def sign(body: bytes = BODY, secret: str = WEBHOOK_SECRET, age_seconds: float = 0.0) -> dict[str, str]:
    return build_signed_headers(RECORD.id, time.time() - age_seconds, body, [Secret(secret)])


def test_thin_body_is_as_printed() -> None:
    assert json.loads(get_example("thin body", "json")) == json.loads(BODY)


@pytest.mark.parametrize("package", ["standardwebhooks", "openai"])
def test_python_receiver_runs_as_printed(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IGW_WEBHOOK_SECRET", WEBHOOK_SECRET)
    names: dict[str, Any] = {}
    exec(get_example(f"python with {package}", "python"), names)  # noqa: S102
    event = names["receive"](BODY, sign())
    assert (event["type"] if package == "standardwebhooks" else event.type) == "job.completed"
    for body, headers in (
        (BODY, sign(secret=OLD_WEBHOOK_SECRET)),
        (BODY + b" ", sign()),
        (BODY, sign(age_seconds=600)),
    ):
        with pytest.raises(Exception, match=r".") as refusal:
            names["receive"](body, headers)
        assert "Verification" in type(refusal.value).__name__ or "Signature" in type(refusal.value).__name__


def test_node_receiver_runs_as_printed(tmp_path: Path) -> None:
    (tmp_path / "receive.mjs").write_text(get_example("node", "js"))
    cases = [
        {"headers": sign(), "body": BODY.decode(), "is_valid": True},
        {"headers": sign(secret=OLD_WEBHOOK_SECRET), "body": BODY.decode(), "is_valid": False},
        {"headers": sign(), "body": BODY.decode() + " ", "is_valid": False},
        {"headers": sign(age_seconds=600), "body": BODY.decode(), "is_valid": False},
        {"headers": sign() | {"webhook-signature": "v1a,AAAA v1"}, "body": BODY.decode(), "is_valid": False},
    ]
    program = """
import { receive } from './receive.mjs';
const results = JSON.parse(process.argv[2]).map(({ body, headers }) => {
  try { return receive(body, headers).type; } catch (error) { return error.message; }
});
console.log(JSON.stringify(results));
"""
    (tmp_path / "main.mjs").write_text(program)
    node = Path(sys.executable).parent / "node"
    command = [str(node) if node.exists() else "node", "main.mjs", json.dumps(cases)]
    output = subprocess.run(
        command,
        cwd=tmp_path,
        env={"IGW_WEBHOOK_SECRET": WEBHOOK_SECRET},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    expected = ["job.completed" if case["is_valid"] else "not a webhook of the gateway" for case in cases]
    assert json.loads(output) == expected


def test_page_lists_all_outcomes_and_the_schedule() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", PAGE, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == {
        str(outcome) for outcome in WebhookOutcome
    }
    assert "5 seconds,\n1 minute, 5 minutes, 30 minutes, 2, 5, 10, 20 and 24 hours" in PAGE
    assert WebhookTiming().retry_delays_seconds == (5, 60, 300, 1_800, 7_200, 18_000, 36_000, 72_000, 86_400)


def test_configuration_is_valid_as_printed() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    validator, parsed = Validator(), parse_bytes(example.encode(), "teams.yaml")
    teams = validator.build_file(parsed.node, TeamsFile)
    assert (validator.problems, parsed.problems) == ([], ())
    assert set(teams.teams["design"].webhooks.targets) == {"orders", "alarm"}


@pytest.mark.thorough
def test_commands_and_requests_of_admins_run_as_printed(tmp_path: Path) -> None:
    commands, request = (
        example
        for example in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
        if "webhooks add" in example or "/v1/admin/webhooks" in example
    )
    with run_sandboxed_gateway(tmp_path / "gateway") as gateway:
        setup = f"export IGW_URL={gateway.url} IGW_ADMIN_KEY={ADMIN_KEY} PATH={Path(sys.executable).parent}:$PATH"
        listed = run_bash_example(gateway, tmp_path, f"{setup}\n{commands}")
        assert [line.split()[1] for line in listed.splitlines()[1:]] == ["design"] * 2
        assert "http://alarm.internal:8080/" in listed
        created = json.loads(run_bash_example(gateway, tmp_path, f"{setup}\n{request}"))
    assert (created["team"], created["events"]) == ("design", ["budget.threshold_reached"])


def test_page_names_the_routes_and_the_limit() -> None:
    paths = {path for handler in WEBHOOK_TARGET_HANDLERS for path in handler.paths}
    assert paths == {f"/v1/admin/webhooks{rest}" for rest in ("", *(f"/{{target_id:str}}{end}" for end in ENDS))}
    table = PAGE.partition("### Add targets without a file")[2]
    commands = re.findall(r"^\| `webhooks (\w+)", table, re.MULTILINE)
    assert set(commands) == set(webhooks.commands)
    assert f"a team has at most {MAX_TEAM_TARGETS} such targets" in PAGE
