"""Moderation hooks over real connections: what each kind of answer means, and what a server is asked."""

import asyncio
import json
import re
import time
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from mmap import ACCESS_READ, mmap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace
from standardwebhooks import Webhook

from gateway.config.moderation_schema import ModerationConfig, ModerationHookConfig
from gateway.config.schema import GatewayFile, TeamConfig
from gateway.config.value_types import Secret, SecretRef, WebhookUrl
from gateway.engine.moderation import (
    HookDecision,
    HookVerdict,
    ImageInQuestion,
    InputInQuestion,
    ModerationUnavailable,
    RequestInQuestion,
    RequestRefused,
    check_image,
    check_request,
)
from gateway.engine.moderation_client import ModerationClient
from gateway.engine.moderation_events import ModerationAnswered
from gateway.upstream.transport_pool import TransportPool
from gateway.upstream.webhook_client import MAX_RESPONSE_BYTES, WebhookClient
from tests.harness.gateway_runner import ROOT
from tests.harness.moderation_server import ALLOW, HookReply, ModerationServer, refuse, run_moderation_server
from tests.harness.ports import reserve_port
from tests.harness.webhook_receiver import OLD_WEBHOOK_SECRET, WEBHOOK_SECRET
from tests.unit.routing.catalogue_factory import make_catalogue

TEAM, PROMPT = "design", "a lighthouse at dawn"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
REQUEST = RequestInQuestion(
    team=TEAM,
    prompt=PROMPT,
    model="gpt-image-2",
    operation="edit",
    n=1,
    size="1024x1024",
    quality="low",
    inputs=(InputInQuestion("input", "image/png", b"abc"),),
)
IMAGE = ImageInQuestion(
    team=TEAM,
    job="job_07aaaaaaaaaaaaaaaaaaaaaaaaaa",
    index=0,
    prompt=PROMPT,
    model="gpt-image-2",
    operation="generate",
    media_type="image/png",
    sha256=sha256(b"abc").hexdigest(),
    data=b"abc",
)
# Each reply that is not a valid answer, with its outcome and status.
INVALID_REPLIES = {
    "no JSON": (HookReply(b"yes"), 200),
    "nothing": (HookReply(b""), 200),
    "another structure": (HookReply(b"[true]"), 200),
    "no decision": (HookReply(b'{"reason": "ok"}'), 200),
    "a decision of another type": (HookReply(b'{"allow": "true"}'), 200),
    "invalid UTF-8": (HookReply(b'{"allow": true, "reason": "\xff"}'), 200),
    "deep nesting": (HookReply(b'{"allow": true, "more": ' + b"[" * 50_000), 200),
    "too much": (HookReply(json.dumps({"allow": True, "reason": "x" * MAX_RESPONSE_BYTES}).encode()), 200),
    "an error": (HookReply(ALLOW.body, 500), 500),
    "another success": (HookReply(ALLOW.body, 201), 201),
    "a redirect": (HookReply(ALLOW.body, 302), 302),
}


@pytest.fixture(scope="module")
def running_server() -> Iterator[ModerationServer]:
    with run_moderation_server() as server:
        yield server


@pytest.fixture
def server(running_server: ModerationServer) -> ModerationServer:
    running_server.reset()
    return running_server


class Asker:
    """A context with one hook, and the events that it emits."""

    def __init__(self, url: str, *, secrets: tuple[str, ...] = (), **options: Any) -> None:
        references = tuple(SecretRef(f"env:SECRET_{number}") for number, _ in enumerate(secrets))
        hook = ModerationHookConfig(url=WebhookUrl(url), secrets=references, **{"private": True, **options})
        self.catalogue = replace(
            make_catalogue((), teams={TEAM: TeamConfig(moderate=ModerationConfig(before=hook, after=hook))}),
            moderation_secrets=dict(zip(references, map(Secret, secrets), strict=True)),
        )
        self.events: list[ModerationAnswered] = []

    def ask(self, question: RequestInQuestion | ImageInQuestion) -> Any:
        return asyncio.run(self._ask(question))

    async def _ask(self, question: RequestInQuestion | ImageInQuestion) -> Any:
        pool = TransportPool()
        context: Any = SimpleNamespace(
            catalogue=lambda: self.catalogue,
            moderation_client=ModerationClient(WebhookClient(pool), time.time),
            emit=self.events.append,
            wall_clock=time.time,
            monotonic=time.monotonic,
        )
        try:
            if isinstance(question, RequestInQuestion):
                hook = self.catalogue.find_moderation_hook("before", question.team)
                assert hook is not None
                return await check_request(context, hook, question)
            return await check_image(context, question)
        finally:
            await pool.aclose()

    def get_outcome(self) -> tuple[str, int | None, bool]:
        [event] = self.events
        return event.outcome, event.status, event.is_allowed


def test_allowed_request_and_image_go_on(server: ModerationServer) -> None:
    server.reply_to = lambda _: HookReply(b'{"allow": true, "reason": null, "score": 0.1}')
    asker = Asker(server.url)
    asker.ask(REQUEST)
    assert asker.ask(IMAGE) == HookDecision(HookVerdict.ALLOWED)
    assert [(event.hook, event.team, event.job, event.outcome) for event in asker.events] == [
        ("before", TEAM, None, "allowed"),
        ("after", TEAM, IMAGE.job, "allowed"),
    ]


@pytest.mark.parametrize("fail", ["open", "closed"])
def test_refusal_has_its_reason(server: ModerationServer, fail: str) -> None:
    server.reply_to = lambda _: refuse("the rules do not allow this")
    asker = Asker(server.url, fail=fail)
    with pytest.raises(RequestRefused) as refusal:
        asker.ask(REQUEST)
    assert refusal.value.reason == "the rules do not allow this"
    assert asker.ask(IMAGE) == HookDecision(HookVerdict.REFUSED, "the rules do not allow this")
    assert not any(event.is_allowed for event in asker.events)


def test_refusal_without_reason(server: ModerationServer) -> None:
    server.reply_to = lambda _: refuse()
    assert Asker(server.url).ask(IMAGE) == HookDecision(HookVerdict.REFUSED, "")


def test_reason_is_short_and_does_not_repeat_the_prompt(server: ModerationServer) -> None:
    server.reply_to = lambda _: refuse("'lighthouse'\nis forbidden, see https://rules.example.com?key=1 " + "x" * 9_000)
    decision = Asker(server.url).ask(IMAGE)
    assert decision.verdict is HookVerdict.REFUSED
    assert "is forbidden" in decision.reason
    assert len(decision.reason) <= 200
    assert not re.search(r"lighthouse|rules\.example|\n", decision.reason)


@pytest.mark.parametrize(
    "text",
    [
        "https:\\/\\/files.example\\/hunter2",
        "https%253A%252F%252Ffiles%252Fhunter2",
        "http:/hunter2",
        "auth: Token hunter2",
        "X_API_KEY=hunter2",
        "x-api-key hunter2",
        "password is hunter2",
        # The limit of what is read must not cut a key in two.
        f"https://{'x' * 1_985} hunter2",
        "word " * 399 + "hunter2",
    ],
)
@pytest.mark.parametrize("question", [REQUEST, IMAGE])
def test_reason_has_no_address_and_no_credential(server: ModerationServer, text: str, question: Any) -> None:
    server.reply_to = lambda _: refuse(text)
    asker = Asker(server.url)
    if question is REQUEST:
        with pytest.raises(RequestRefused) as refusal:
            asker.ask(question)
        reason = refusal.value.reason
    else:
        reason = asker.ask(question).reason
    assert "hunt" not in reason
    assert len(reason) <= 200


@pytest.mark.parametrize("fail", ["open", "closed"])
@pytest.mark.parametrize("name", INVALID_REPLIES)
def test_invalid_answer_is_decided_by_the_configuration(server: ModerationServer, name: str, fail: str) -> None:
    reply, status = INVALID_REPLIES[name]
    server.reply_to = lambda _: reply
    asker = Asker(server.url, fail=fail)
    expect_unanswered(asker, fail)
    assert asker.get_outcome() == ("invalid_answer", status, fail == "open")
    assert len(server.questions) == 1, "no redirect is followed, nothing is repeated"


@pytest.mark.parametrize("fail", ["open", "closed"])
@pytest.mark.parametrize("outcome", ["timeout", "connection_lost", "connect_failed", "address_blocked"])
def test_missing_answer_is_decided_by_the_configuration(server: ModerationServer, outcome: str, fail: str) -> None:
    if outcome == "timeout":
        server.released.clear()
        asker = Asker(server.url, fail=fail, timeout_seconds=0.2)
    elif outcome == "connection_lost":
        server.reply_to = lambda _: None
        asker = Asker(server.url, fail=fail)
    elif outcome == "connect_failed":
        asker = Asker(f"http://127.0.0.1:{reserve_port()}/", fail=fail)
    else:
        asker = Asker("https://127.0.0.1/", fail=fail, private=False)
    expect_unanswered(asker, fail)
    assert asker.get_outcome() == (outcome, None, fail == "open")


def expect_unanswered(asker: Asker, fail: str) -> None:
    if fail == "open":
        asker.ask(REQUEST)
    else:
        with pytest.raises(ModerationUnavailable):
            asker.ask(REQUEST)


def test_image_without_answer_is_unavailable(server: ModerationServer) -> None:
    server.reply_to = lambda _: HookReply(b"", 503)
    assert Asker(server.url).ask(IMAGE) == HookDecision(HookVerdict.UNAVAILABLE)
    assert Asker(server.url, fail="open").ask(IMAGE) == HookDecision(HookVerdict.ALLOWED)


def test_team_without_hook_is_not_asked(server: ModerationServer) -> None:
    asker = Asker(server.url)
    assert asker.catalogue.find_moderation_hook("before", "other") is None
    assert asker.ask(replace(IMAGE, team="other")) == HookDecision(HookVerdict.ALLOWED)
    asker.catalogue = replace(asker.catalogue, gateway=GatewayFile(moderate=asker.catalogue.teams[TEAM].moderate))
    asker.ask(replace(REQUEST, team="other"))
    assert [question.content["team"] for question in server.questions] == ["other"]


@pytest.mark.parametrize(("name", "question"), [("before", REQUEST), ("after", IMAGE)])
def test_question_is_as_printed(
    server: ModerationServer, name: str, question: RequestInQuestion | ImageInQuestion
) -> None:
    page = (ROOT / "docs" / "moderation.md").read_text()
    match = re.search(rf"<!-- question {name}: [^\n]*-->\n```json\n(.*?)```", page, re.DOTALL)
    assert match is not None
    Asker(server.url).ask(question)
    [asked] = server.questions
    assert asked.content == json.loads(match[1])
    assert asked.headers["content-type"] == "application/json"


def test_large_input_on_the_disk_is_asked_about_by_its_digest(server: ModerationServer, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4_000
    (tmp_path / "input").write_bytes(data)
    with (tmp_path / "input").open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
        Asker(server.url).ask(replace(REQUEST, inputs=(InputInQuestion("input", "image/png", mapped),)))
    [image] = server.questions[0].content["images"]
    assert image["sha256"] == sha256(data).hexdigest()


@pytest.mark.parametrize("size", [3, 300_000, 2_000_001])
def test_large_image_arrives_whole(server: ModerationServer, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    Asker(server.url).ask(replace(IMAGE, data=data))
    assert server.questions[0].content["b64_json"] == b64encode(data).decode()


def test_same_question_has_the_same_id_and_others_have_others(server: ModerationServer) -> None:
    asker = Asker(server.url)
    for question in (REQUEST, REQUEST, replace(REQUEST, n=2), IMAGE, IMAGE, replace(IMAGE, index=1)):
        asker.ask(question)
    ids = [question.headers["webhook-id"] for question in server.questions]
    assert (ids[0], ids[3]) == (ids[1], ids[4])
    assert len(set(ids)) == 4


def test_question_is_signed_with_each_secret(server: ModerationServer) -> None:
    Asker(server.url, secrets=(WEBHOOK_SECRET, OLD_WEBHOOK_SECRET)).ask(replace(IMAGE, traceparent=TRACEPARENT))
    [question] = server.questions
    for secret in (WEBHOOK_SECRET, OLD_WEBHOOK_SECRET):
        assert Webhook(secret).verify(question.body, dict(question.headers))["type"] == "moderation.after"
    assert question.headers["traceparent"] == TRACEPARENT


def test_question_without_secret_is_not_signed(server: ModerationServer) -> None:
    Asker(server.url).ask(REQUEST)
    [question] = server.questions
    assert "webhook-signature" not in question.headers
    assert "traceparent" not in question.headers
    assert {"webhook-id", "webhook-timestamp"} <= question.headers.keys()


def test_event_has_neither_prompt_nor_reason(server: ModerationServer) -> None:
    server.reply_to = lambda _: refuse("secret reason")
    asker = Asker(server.url)
    asker.ask(IMAGE)
    assert not re.search(f"{PROMPT}|secret reason|YWJj", repr(asker.events))
