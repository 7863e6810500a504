"""Asks the operator's own servers whether a request may become a job, and whether an image may be delivered.

Nothing is stored: after a crash the same question is asked again.
"""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from enum import StrEnum
from hashlib import sha256

import msgspec
from msgspec import Struct

from gateway.assets.backend import CHUNK_BYTES, ImageData
from gateway.catalogue import ModerationHook
from gateway.engine.engine_context import EngineContext
from gateway.engine.moderation_client import HookAnswer, HookQuestion
from gateway.engine.moderation_events import ModerationAnswered
from gateway.engine.seller_text_redaction import redact_seller_text
from gateway.large_body_thread import BodyThread

MAX_REASON_CHARACTERS = 200
# Hashing and encoding this much takes about a millisecond.
MAX_INLINE_BYTES = 512 << 10
_ID_DIGITS = 32
_run_off_loop = BodyThread("moderation", MAX_INLINE_BYTES).run
_encode_json = msgspec.json.Encoder().encode


class RequestRefused(Exception):
    """The hook `before` refused the request, so no job was created. `reason`: redacted, may be empty."""

    def __init__(self, reason: str) -> None:
        super().__init__("the moderation hook refused the request")
        self.reason = reason


class ModerationUnavailable(Exception):
    """The hook `before` gave no valid answer and fails closed, so no job was created."""


class InputInQuestion(Struct, frozen=True):
    """An input image of a request. `role`: `input` or `mask`."""

    role: str
    media_type: str
    data: ImageData


class RequestInQuestion(Struct, frozen=True, kw_only=True):
    """A request that is about to become a job."""

    team: str
    prompt: str
    model: str
    operation: str
    n: int
    size: str
    quality: str
    inputs: Sequence[InputInQuestion] = ()
    traceparent: str | None = None


class ImageInQuestion(Struct, frozen=True, kw_only=True):
    """An image that is about to be stored. `sha256`: of its data."""

    team: str
    job: str
    index: int
    prompt: str
    model: str
    operation: str
    media_type: str
    sha256: str
    data: bytes
    traceparent: str | None = None


class HookVerdict(StrEnum):
    """What happens to a request or an image."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    # There was no valid answer, and the hook fails closed.
    UNAVAILABLE = "unavailable"


class HookDecision(Struct, frozen=True):
    """A verdict. `reason`: the hook's own text for a refusal, redacted, may be empty."""

    verdict: HookVerdict
    reason: str = ""


_ALLOWED = HookDecision(HookVerdict.ALLOWED)


async def check_request(context: EngineContext, hook: ModerationHook, request: RequestInQuestion) -> None:
    """Asks the team's hook `before`. Raises RequestRefused or ModerationUnavailable if the request must not become a
    job."""
    size_bytes = sum(len(image.data) for image in request.inputs)
    question = await _run_off_loop(size_bytes, build_request_question, request)
    decision = _decide(hook, await ask_hook(context, hook, question), request.prompt)
    if decision.verdict is HookVerdict.REFUSED:
        raise RequestRefused(decision.reason)
    if decision.verdict is HookVerdict.UNAVAILABLE:
        raise ModerationUnavailable


async def check_image(context: EngineContext, image: ImageInQuestion) -> HookDecision:
    """Asks the team's hook `after`, if there is one, whether the image may be delivered."""
    hook = context.catalogue().find_moderation_hook("after", image.team)
    if hook is None:
        return _ALLOWED
    question = await _run_off_loop(len(image.data), build_image_question, image)
    return _decide(hook, await ask_hook(context, hook, question, image.job), image.prompt)


async def ask_hook(
    context: EngineContext, hook: ModerationHook, question: HookQuestion, job_id: str | None = None
) -> HookAnswer:
    """Asks the hook once, and emits its answer."""
    started_at = context.monotonic()
    answer = await context.moderation_client.ask(hook, question)
    context.emit(
        ModerationAnswered(
            at=context.wall_clock(),
            hook=hook.name,
            team=question.team,
            job=job_id,
            outcome=answer.outcome,
            status=answer.status,
            seconds=context.monotonic() - started_at,
            is_allowed=_select_verdict(hook, answer) is HookVerdict.ALLOWED,
        )
    )
    return answer


def _decide(hook: ModerationHook, answer: HookAnswer, prompt: str) -> HookDecision:
    verdict = _select_verdict(hook, answer)
    return HookDecision(verdict, _redact_reason(answer.reason, prompt) if verdict is HookVerdict.REFUSED else "")


def _select_verdict(hook: ModerationHook, answer: HookAnswer) -> HookVerdict:
    if answer.is_valid:
        return HookVerdict(answer.outcome)
    return HookVerdict.ALLOWED if hook.config.fail == "open" else HookVerdict.UNAVAILABLE


def _redact_reason(reason: str, prompt: str) -> str:
    """Returns the reason without the prompt's words: it becomes a part of errors, which clients log."""
    text = redact_seller_text(reason, prompt, is_refusal=True)
    return text[:MAX_REASON_CHARACTERS].rstrip()


# --- questions


def build_request_question(request: RequestInQuestion) -> HookQuestion:
    fields = {
        "team": request.team,
        "prompt": request.prompt,
        "model": request.model,
        "operation": request.operation,
        "n": request.n,
        "size": request.size,
        "quality": request.quality,
        "images": [
            {"role": image.role, "media_type": image.media_type, "sha256": sha256(image.data).hexdigest()}
            for image in request.inputs
        ],
    }
    body = _encode_json({"type": "moderation.before", **fields})
    return HookQuestion(id=_make_id(body), team=request.team, body=body, traceparent=request.traceparent)


def build_image_question(image: ImageInQuestion) -> HookQuestion:
    fields = {
        "team": image.team,
        "job": image.job,
        "index": image.index,
        "prompt": image.prompt,
        "model": image.model,
        "operation": image.operation,
        "media_type": image.media_type,
        "sha256": image.sha256,
    }
    head = _encode_json({"type": "moderation.after", **fields})
    # Base64 needs no escapes, so the image is not encoded once more as JSON.
    body = b"".join((head[:-1], b',"b64_json":"', *_encode_base64(image.data), b'"}'))
    return HookQuestion(id=_make_id(head), team=image.team, body=body, traceparent=image.traceparent)


def _encode_base64(data: bytes) -> Iterator[bytes]:
    """Yields base64 in pieces, each of which holds the interpreter for less than a millisecond."""
    view = memoryview(data)
    for start in range(0, len(view), CHUNK_BYTES):
        yield b64encode(view[start : start + CHUNK_BYTES])


def _make_id(content: bytes) -> str:
    return f"moderation_{sha256(content).hexdigest()[:_ID_DIGITS]}"
