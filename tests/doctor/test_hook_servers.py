"""`doctor` at the servers of moderation hooks."""

import io
from collections.abc import Iterator

import pytest
from PIL import Image

from gateway.commands.doctor.moderation_checks import IMAGE
from tests.doctor.doctor_runner import Installation
from tests.harness.moderation_server import HookReply, ModerationServer, refuse, run_moderation_server
from tests.harness.webhook_receiver import WEBHOOK_SECRET

SECRETS = {"HOOK": WEBHOOK_SECRET}


@pytest.fixture
def server() -> Iterator[ModerationServer]:
    with run_moderation_server() as server:
        yield server


def add_hooks(installation: Installation, server: ModerationServer, fail: str = "closed") -> None:
    options = f'private: true, fail: {fail}, secrets: ["env:HOOK"]'
    before, after = (f'{name}: {{url: "{server.url}/{name}", {options}}}' for name in ("before", "after"))
    installation.change_config("gateway.yaml", "jobs:", f"moderate: {{{before}, {after}}}\njobs:")


def test_each_hook_is_asked_once(installation: Installation, server: ModerationServer) -> None:
    server.reply_to = lambda question: refuse() if question["type"] == "moderation.after" else HookReply()
    add_hooks(installation, server)
    report = installation.run(**SECRETS)
    before, after = report.get("moderation before"), report.get("moderation after")
    assert (before.status, before.message.rpartition(": ")[2]) == ("ok", "allowed")
    assert (after.status, after.message.rpartition(": ")[2]) == ("ok", "refused")
    assert sorted(question.path for question in server.questions) == ["/after", "/before"]
    assert all(question.headers["webhook-signature"] for question in server.questions)


@pytest.mark.parametrize(
    ("fail", "status", "consequence"),
    [("closed", "failed", "Requests are refused"), ("open", "warning", "Requests are not moderated")],
)
def test_hook_without_a_valid_answer_says_what_it_means(
    installation: Installation, server: ModerationServer, fail: str, status: str, consequence: str
) -> None:
    server.reply_to = lambda _: HookReply(b"{}", 500)
    add_hooks(installation, server, fail)
    finding = installation.run(**SECRETS).get("moderation before")
    assert finding.status == status
    assert f"gives no valid answer: invalid_answer, status 500. {consequence}, of chaos" in finding.message
    assert "docs/moderation.md" in finding.remedy


def test_secrets_of_hooks_and_webhooks_are_counted(installation: Installation, server: ModerationServer) -> None:
    add_hooks(installation, server)
    installation.change_config("teams.yaml", "  chaos: {", '  chaos: {webhooks: {secrets: ["env:WEBHOOKS"]}, ')
    missing = installation.run(**SECRETS).get("secrets").message.partition("not set: ")[2]
    assert missing == "env:WEBHOOKS, env:IGW_ADMIN_KEY"


def test_image_of_the_question_is_valid() -> None:
    with Image.open(io.BytesIO(IMAGE)) as image:
        image.load()
        assert (image.format, image.size) == ("PNG", (1, 1))
