"""The server, the configuration and the outcomes that docs/moderation.md prints."""

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.catalogue import ModerationHook
from gateway.config.moderation_schema import ModerationConfig
from gateway.config.schema import GatewayFile
from gateway.config.validation import Validator
from gateway.config.yaml_nodes import parse_bytes
from gateway.engine.moderation_client import HookAnswer, HookQuestion, ModerationClient
from gateway.upstream.transport_pool import TransportPool
from gateway.upstream.webhook_client import WebhookClient
from gateway.webhooks.webhook_records import WebhookOutcome
from tests.harness.gateway_runner import ROOT
from tests.harness.ports import reserve_port
from tests.harness.wait import wait_until

PAGE = (ROOT / "docs" / "moderation.md").read_text()


def build_printed_config() -> ModerationConfig:
    [example] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    validator, parsed = Validator(), parse_bytes(example.encode(), "gateway.yaml")
    config: GatewayFile = validator.build_file(parsed.node, GatewayFile)
    assert (validator.problems, parsed.problems) == ([], ())
    return config.moderate


@pytest.fixture
def server_url(tmp_path: Path) -> Iterator[str]:
    match = re.search(r"<!-- server: run by a test -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None
    port = reserve_port()
    assert "8081" in match[1]
    (tmp_path / "server.py").write_text(match[1].replace("8081", str(port)))
    with subprocess.Popen([sys.executable, "server.py"], cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: is_listening(url), "the printed server listens")
            yield f"{url}/before"
        finally:
            process.kill()


def is_listening(url: str) -> bool:
    try:
        httpx.get(url, trust_env=False)
    except httpx.TransportError:
        return False
    return True


async def ask(url: str, prompt: str) -> HookAnswer:
    """Asks the printed server, as the printed configuration says."""
    before = build_printed_config().before
    assert before is not None
    hook = ModerationHook("before", type(before)(url=type(before.url)(url), private=before.private), ())
    pool = TransportPool()
    body = b'{"type": "moderation.before", "prompt": "%s"}' % prompt.encode()
    try:
        question = HookQuestion(id="moderation_1", team="design", body=body)
        return await ModerationClient(WebhookClient(pool), time.time).ask(hook, question)
    finally:
        await pool.aclose()


def test_printed_server_decides(server_url: str) -> None:
    assert asyncio.run(ask(server_url, "a lighthouse")).outcome == "allowed"
    refusal = asyncio.run(ask(server_url, "a forbidden lighthouse"))
    assert (refusal.outcome, refusal.reason) == ("refused", "the rules do not allow this")


def test_printed_configuration_is_valid() -> None:
    config = build_printed_config()
    assert config.before is not None
    assert config.after is not None
    assert (config.before.private, config.before.secrets, config.after.fail) == (
        True,
        ("env:IGW_MODERATION_SECRET",),
        "closed",
    )


def test_page_lists_all_outcomes() -> None:
    """Those of webhooks that have no answer, and those of answers."""
    table = PAGE.partition("| Outcome | Means |")[2]
    listed = set(re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in table.splitlines() if "|" in row)))
    without_answer = {"timeout", "connection_lost", "address_blocked", "gateway_busy"} | {
        str(outcome) for outcome in WebhookOutcome if outcome.endswith(("_failed", "_not_found"))
    }
    assert without_answer <= set(map(str, WebhookOutcome))
    assert listed == without_answer | {"allowed", "refused", "invalid_answer"}
