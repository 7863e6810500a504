"""Generated answers of moderation hooks: only an explicit decision is one, and no answer raises another error."""

import asyncio
import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.catalogue import ModerationHook
from gateway.config.moderation_schema import ModerationHookConfig
from gateway.config.value_types import WebhookUrl
from gateway.engine.moderation import _redact_reason
from gateway.engine.moderation_client import (
    ALLOWED,
    INVALID_ANSWER,
    REFUSED,
    HookAnswer,
    HookQuestion,
    ModerationClient,
)
from gateway.upstream.webhook_client import WebhookAnswer, WebhookRequest

HOOK = ModerationHook("before", ModerationHookConfig(url=WebhookUrl("https://example.com/")), ())
PROMPT = "a lighthouse at dawn"
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
DECISIONS = st.fixed_dictionaries({}, optional={"allow": VALUES, "reason": VALUES, "more": VALUES})
BODIES = st.binary(max_size=60) | (DECISIONS | VALUES).map(lambda value: json.dumps(value).encode())
STATUSES = st.just(200) | st.integers(100, 599)


class AnsweringClient:
    """Answers each request with the same answer."""

    def __init__(self, answer: WebhookAnswer) -> None:
        self.answer = answer

    async def send(self, request: WebhookRequest, timeout_seconds: float) -> WebhookAnswer:
        return self.answer


def ask(status: int, body: bytes) -> HookAnswer:
    webhook_client: Any = AnsweringClient(WebhookAnswer(status=status, body=body))
    question = HookQuestion(id="1", team="design", body=b"{}")
    return asyncio.run(ModerationClient(webhook_client, lambda: 0.0).ask(HOOK, question))


def read_decision(body: bytes) -> bool | None:
    """Returns what the answer decides by the documentation, or None."""
    try:
        value = json.loads(body)
    except ValueError:
        return None
    is_decision = isinstance(value, dict) and isinstance(value.get("allow"), bool)
    return value["allow"] if is_decision and isinstance(value.get("reason"), str | None) else None


@given(STATUSES, BODIES)
@example(200, b'{"allow": true}')
@example(200, b'{"allow": false, "reason": "a lighthouse at \\u0000 dawn\\n"}')
@example(200, b'{"allow": 1}')
@example(200, b'{"allow": true, "allow": false}')
@example(200, b'{"allow": true, "reason": "\\ud800"}')
@example(200, b'{"allow": NaN}')
def test_only_an_explicit_decision_counts(status: int, body: bytes) -> None:
    answer = ask(status, body)
    decision = read_decision(body)
    expected = {True: ALLOWED, False: REFUSED, None: INVALID_ANSWER}[decision if status == 200 else None]
    # Some JSON that Python reads is not valid, and no decision for the gateway.
    assert answer.outcome in (expected, INVALID_ANSWER)
    reason = _redact_reason(answer.reason, PROMPT)
    json.dumps(reason).encode()
    reason.encode()
    assert reason.isprintable()


@given(st.booleans(), st.none() | st.text(alphabet=st.characters(codec="utf-8")))
def test_each_valid_decision_is_read(is_allowed: bool, reason: str | None) -> None:
    answer = ask(200, json.dumps({"allow": is_allowed, "reason": reason}).encode())
    assert answer == HookAnswer(outcome=ALLOWED if is_allowed else REFUSED, status=200, reason=reason or "")
