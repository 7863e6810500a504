"""Sends questions to moderation hooks: signs them, and reads the answers."""

from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct

from gateway.catalogue import ModerationHook
from gateway.upstream.webhook_client import WebhookAnswer, WebhookClient, WebhookRequest
from gateway.webhooks.signature import build_signed_headers

ALLOWED, REFUSED, INVALID_ANSWER = "allowed", "refused", "invalid_answer"
CONNECTION_LOST = "connection_lost"
OK = 200


class HookQuestion(Struct, frozen=True, kw_only=True):
    """A question to a hook. `id`: the same whenever the same question is asked."""

    id: str
    team: str
    body: bytes
    traceparent: str | None = None


class HookAnswer(Struct, frozen=True, kw_only=True):
    """The answer of a hook. `outcome`: ALLOWED, REFUSED, or why there is no valid answer. `reason`: the hook's own text
    for a refusal."""

    outcome: str
    status: int | None = None
    reason: str = ""

    @property
    def is_valid(self) -> bool:
        return self.outcome in (ALLOWED, REFUSED)


class _AnswerBody(Struct, frozen=True):
    """The JSON of an answer. Other members are ignored."""

    allow: bool
    reason: str | None = None


_decode_answer = msgspec.json.Decoder(_AnswerBody).decode


class ModerationClient:
    """Asks hooks, over the same guarded connections as webhooks. `clock`: of the system, since receivers compare the
    time of a signature with their own clock."""

    def __init__(self, webhook_client: WebhookClient, clock: Callable[[], float]) -> None:
        self._webhook_client, self._clock = webhook_client, clock

    async def ask(self, hook: ModerationHook, question: HookQuestion) -> HookAnswer:
        """Asks the hook once. Raises only CancelledError."""
        request = WebhookRequest(
            url=hook.config.url,
            is_private=hook.config.private,
            tenant=question.team,
            headers=self._build_headers(hook, question),
            body=question.body,
        )
        return _read_answer(await self._webhook_client.send(request, hook.config.timeout_seconds))

    def _build_headers(self, hook: ModerationHook, question: HookQuestion) -> Mapping[str, str]:
        headers = build_signed_headers(question.id, self._clock(), question.body, hook.secrets)
        if not hook.secrets:
            del headers["webhook-signature"]
        if question.traceparent is not None:
            headers["traceparent"] = question.traceparent
        return headers


def _read_answer(answer: WebhookAnswer) -> HookAnswer:
    """Only a 200 with the expected JSON is an answer. Redirects are not followed."""
    if answer.status is None:
        return HookAnswer(outcome=answer.failure or CONNECTION_LOST)
    try:
        body = _decode_answer(answer.body) if answer.status == OK else None
    # Invalid JSON, another structure, invalid UTF-8, or too deep.
    except (msgspec.MsgspecError, ValueError, RecursionError):
        body = None
    if body is None:
        return HookAnswer(outcome=INVALID_ANSWER, status=answer.status)
    outcome = ALLOWED if body.allow else REFUSED
    return HookAnswer(outcome=outcome, status=answer.status, reason=body.reason or "")
