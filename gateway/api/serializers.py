"""Serializes jobs and images for API responses, in the types of `response_types.py`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
from msgspec import Struct

from gateway.api.failed_job_responses import build_failure_response
from gateway.api.response_types import (
    AttemptBody,
    EffectiveBody,
    JobBody,
    JobErrorBody,
    JobImageBody,
    PlanBody,
    RequestedBody,
    UsageBody,
)
from gateway.api.team_job_loader import JobDocuments
from gateway.assets.signed_urls import UrlSigner
from gateway.engine.job_documents import StoredImage
from gateway.jobs.job import Attempt, Job, SellerResponse
from gateway.jobs.job_cleanup import CleanupStep, get_expiry
from gateway.money import format_usd
from gateway.routing.decision_record import DecisionRecord
from providers.image_sizes import SizeLaw, ratio_from_pixels

URL_TTL_SECONDS = 3_600
# Clients in Rust or C# parse token counts as 32-bit integers.
MAX_TOKENS = 2**31 - 1


class JobView(Struct, frozen=True):
    """A job with its documents at one moment.

    `size_law`: that of the job's model, None if the model is no longer configured.
    """

    job: Job
    documents: JobDocuments
    now: float
    size_law: SizeLaw | None

    @property
    def urls_expire_at(self) -> int:
        return int(min(self.now + URL_TTL_SECONDS, get_expiry(self.job, CleanupStep.IMAGES) or math.inf))


def serialize_job(view: JobView, url_signer: UrlSigner) -> JobBody:
    """Serializes the job for `GET /v1/jobs/{id}`, without the prompt: proxies and clients log such responses."""
    job, documents = view.job, view.documents
    return {
        "id": job.id,
        "object": "job",
        "operation": documents.request.routing.operation,
        "status": job.state,
        "model": job.model,
        "created_at": int(job.created_at),
        "finished_at": int(job.finished_at) if job.finished_at else None,
        "deadline_at": int(job.deadline),
        "expires_at": view.urls_expire_at if documents.images else None,
        "kept_until": _serialize_expiry(job, CleanupStep.JOB),
        "images_kept_until": _serialize_expiry(job, CleanupStep.IMAGES),
        "prompt_kept_until": _serialize_expiry(job, CleanupStep.PROMPT),
        "has_images": bool(documents.images) and not job.has_deleted_images,
        "has_prompt": not job.has_deleted_prompt,
        "n": job.n,
        "requested": cast(RequestedBody, msgspec.structs.asdict(documents.request.requested_params)),
        "effective": _serialize_effective_params(view) if documents.images else None,
        "images": [_serialize_job_image(view, image, url_signer) for image in documents.images],
        "usage": serialize_usage(job),
        "cancel_requested": job.is_cancel_requested,
        "max_remaining_cost": encode_usd(job.hold),
        "warnings": list(job.warnings),
        "error": _serialize_error(job),
        "policy": documents.decision.policy if documents.decision else None,
        "plan": _serialize_plan(documents.decision) if documents.decision else None,
        "attempts": [_serialize_attempt(job, attempt) for attempt in job.attempts],
        "metadata": dict(documents.request.routing.metadata),
        "key": job.key_id or None,
        "labels": list(job.labels),
        "batch": job.batch_id or None,
        "webhook": job.has_webhook,
    }


def serialize_job_summary(job: Job) -> dict[str, Any]:
    """Serializes the job for the list of jobs: what is stored in the job itself."""
    return {
        "id": job.id,
        "object": "job",
        "operation": job.route[0].cell.operation,
        "status": job.state,
        "model": job.model,
        "created_at": int(job.created_at),
        "finished_at": int(job.finished_at) if job.finished_at else None,
        "n": job.n,
        "delivered": len(job.delivered_images),
        "cost": encode_usd(job.captured_amount),
        "warnings": list(job.warnings),
        "error": _serialize_error(job),
        "key": job.key_id or None,
        "labels": list(job.labels),
        "batch": job.batch_id or None,
    }


def _serialize_effective_params(view: JobView) -> EffectiveBody:
    """Serializes the parameters of the delivered images: never `auto`, and no quality where the seller offers no choice
    of it."""
    images, law = view.documents.images, view.size_law
    first_image = images[0]
    return {
        "size": f"{first_image.width}x{first_image.height}",
        "resolution": law.resolution_from_pixels(first_image.width, first_image.height) if law else None,
        "aspect_ratio": ratio_from_pixels(first_image.width, first_image.height),
        "quality": _get_common_quality(images),
        "output_format": first_image.format,
        "background": get_common_background(images),
    }


def _get_common_quality(images: Sequence[StoredImage]) -> str | None:
    """Returns the quality of all images. None if the seller offers no choice of it, or if the images differ."""
    qualities = {image.quality for image in images}
    return qualities.pop() if len(qualities) == 1 else None


def get_common_background(images: Sequence[StoredImage]) -> str | None:
    """Returns the background of all images. None if an image has an alpha channel: only its pixels show whether it is
    transparent."""
    return "opaque" if all(image.is_opaque for image in images) else None


def _serialize_plan(decision: DecisionRecord) -> PlanBody:
    """Serializes the planned parameters and the ranked sellers, best first."""
    request = decision.query.request
    target = request.target
    return {
        "rule": decision.rule,
        "size": f"{target.width}x{target.height}",
        "resolution": target.resolution,
        "aspect_ratio": target.ratio,
        "quality": request.quality,
        "output_format": request.output_format,
        "sellers": [
            {
                "seller": ranked.seller,
                "quote": encode_usd(ranked.quote),
                "seconds": ranked.seconds,
                "fidelity": ranked.fidelity,
                "substitutions": list(ranked.substitutions),
            }
            for ranked in decision.ranked
        ],
    }


def _serialize_expiry(job: Job, step: CleanupStep) -> int | None:
    expires_at = get_expiry(job, step)
    return None if expires_at is None else int(expires_at)


def _serialize_job_image(view: JobView, image: StoredImage, url_signer: UrlSigner) -> JobImageBody:
    return {
        "index": image.index,
        "url": None if view.job.has_deleted_images else url_signer.sign(image.key, view.urls_expire_at),
        "output_format": image.format,
        "size": f"{image.width}x{image.height}",
        "quality": image.quality,
        "bytes": image.bytes,
        "sha256": image.sha256,
        "seller": image.seller,
    }


def _serialize_error(job: Job) -> JobErrorBody | None:
    if not job.state.is_terminal or job.delivered_images:
        return None
    failure = build_failure_response(job)
    return {"code": failure.code, "message": failure.message, "charge": failure.charge_status}


def _serialize_attempt(job: Job, attempt: Attempt) -> AttemptBody:
    route_entry = job.route_entry(attempt)
    response = job.get_seller_response(attempt.number) or SellerResponse()
    return {
        "seller": route_entry.seller,
        "images": list(attempt.images),
        "state": attempt.state,
        "fault": attempt.fault,
        "seller_status": response.status,
        "seller_code": response.code,
        "seller_message": response.message or None,
        "seller_notes": list(response.notes),
        "delivered": attempt.delivered_count,
        "cost": encode_usd(attempt.captured_amount),
        "seconds": round(attempt.closed_at - attempt.started_at, 3) if attempt.closed_at else None,
    }


class ImagesView(Struct, frozen=True, kw_only=True):
    """Delivered images of a job for a response of OpenAI's API.

    `contents`: the JSON values of the images that are sent as base64, by index. `url_signer`: given if URLs are sent.
    """

    job: Job
    images: Sequence[StoredImage]
    contents: Mapping[int, str | msgspec.Raw]
    url_signer: UrlSigner | None
    now: float
    safety_identifier: str | None = None
    url_ttl_seconds: float = URL_TTL_SECONDS

    @property
    def optional_fields(self) -> dict[str, Any]:
        """The fields that a response has only if they have a value."""
        warnings = {"warnings": list(self.job.warnings)} if self.job.warnings else {}
        return warnings | ({"safety_identifier": self.safety_identifier} if self.safety_identifier else {})


def serialize_images(view: ImagesView) -> dict[str, Any]:
    """Serializes OpenAI's response to a generation or an edit."""
    first_image = view.images[0]
    effective = {"quality": _get_common_quality(view.images), "background": get_common_background(view.images)}
    return {
        "created": int(view.job.created_at),
        "data": [_serialize_openai_image(view, image) for image in view.images],
        "size": f"{first_image.width}x{first_image.height}",
        "output_format": first_image.format,
        **{name: value for name, value in effective.items() if value is not None},
        "usage": serialize_usage(view.job),
        **view.optional_fields,
    }


def serialize_image_events(view: ImagesView, event_type: str) -> list[dict[str, Any]]:
    """Serializes one of OpenAI's `completed` events for each image. Its usage is its share: the sum is the job's.

    All fields of OpenAI's type are present, as strict clients require. `auto` stands for a value that cannot be known.
    """
    count = len(view.images)
    return [
        {
            "type": event_type,
            **_serialize_openai_image(view, image),
            "created_at": int(view.job.created_at),
            "size": f"{image.width}x{image.height}",
            "quality": image.quality or "auto",
            "background": get_common_background([image]) or "auto",
            "output_format": image.format,
            "usage": _serialize_usage_share(view.job, position, count),
            **view.optional_fields,
        }
        for position, image in enumerate(view.images)
    ]


def _serialize_openai_image(view: ImagesView, image: StoredImage) -> dict[str, Any]:
    content = view.contents.get(image.index)
    fields = {} if content is None else {"b64_json": content}
    if view.url_signer is None:
        return fields
    return fields | {"url": view.url_signer.sign(image.key, int(view.now + view.url_ttl_seconds))}


def serialize_usage(job: Job) -> UsageBody:
    """Serializes the usage with all fields of OpenAI's type, as strict clients require. Unknown numbers are 0."""
    return _serialize_usage_share(job, 0, 1)


def _serialize_usage_share(job: Job, position: int, count: int) -> UsageBody:
    """Serializes the usage of one of `count` images, which share that of the job evenly."""

    def take_share(amount: int) -> int:
        return amount * (position + 1) // count - amount * position // count

    usage = job.usage
    amounts = (usage.input_text, usage.input_image, usage.output)
    text, image, output = (min(take_share(tokens), MAX_TOKENS) for tokens in amounts)
    return {
        "input_tokens": min(text + image, MAX_TOKENS),
        "input_tokens_details": {"text_tokens": text, "image_tokens": image},
        "output_tokens": output,
        "total_tokens": min(text + image + output, MAX_TOKENS),
        "cost": encode_usd(take_share(job.captured_amount)),
    }


def encode_usd(amount: int) -> msgspec.Raw:
    """Encodes micro-USD as a JSON number, without rounding to a float in between."""
    return msgspec.Raw(format_usd(amount).encode())
