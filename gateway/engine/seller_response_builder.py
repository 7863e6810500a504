"""Builds the SellerResponse of a job, redacted: the gateway logs it, and the team can read it."""

import re
from collections.abc import Iterable

from gateway.catalogue import SellerAccount
from gateway.engine.job_context import JobContext
from gateway.engine.seller_text_redaction import redact_seller_text
from gateway.jobs.job import SellerResponse
from gateway.store.base import StoreUnavailable
from providers.faults import Fault, FaultKind
from providers.order_status import Ready

_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,80}", re.ASCII)


async def describe_fault(job_context: JobContext, fault: Fault, account: SellerAccount | None) -> SellerResponse:
    """Returns status, code and message of a fault. `account`: None if it is no longer configured.

    Without the prompt, which the message may quote, the message is omitted: the outcome of an order is recorded even if
    the request cannot be loaded.
    """
    prompt = await _load_prompt(job_context) if fault.message or fault.code else None
    if prompt is None:
        return SellerResponse(status=fault.status)
    is_refusal = fault.kind is FaultKind.CONTENT_REFUSED
    secrets = [secret.reveal() for secret in (account.api_key, *account.callback_secrets) if secret] if account else []
    code = fault.code if fault.code and _CODE.fullmatch(fault.code) else None
    return SellerResponse(
        status=fault.status,
        # A code is a fixed word of the seller, like moderation_blocked, so a refusal's words are not removed from it.
        code=redact_seller_text(code, prompt, secrets) if code else None,
        message=redact_seller_text(fault.message, prompt, secrets, is_refusal=is_refusal),
    )


def describe_success(ready: Ready, more_notes: Iterable[str] = ()) -> SellerResponse | None:
    """Returns the anomalies of a success; None if there are none. A seller's own text is not part of them.

    `more_notes`: on images that the operator's moderation withholds; they come first.
    """
    notes = (*more_notes, *ready.notes)
    return SellerResponse(notes=notes) if notes else None


async def _load_prompt(job_context: JobContext) -> str | None:
    """Returns the prompt. The worker that ordered has it; a worker that reclaimed the job loads it."""
    try:
        documents = await job_context.load_order_documents()
    except StoreUnavailable:
        return None
    return documents.request.prompt if documents else None
