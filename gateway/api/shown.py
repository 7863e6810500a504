"""A job as callers see it."""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.api.failures import failure_response
from gateway.assets.links import Links
from gateway.engine.records import JobRecords, Picture
from gateway.jobs.failure import may_be_asked_again
from gateway.jobs.job import Attempt, Job
from gateway.money import format_usd
from providers.orders import Quality
from providers.sizes import ratio_of, resolution_of

LINK_SECONDS = 3_600
# Clients written in Rust or C# read tokens as numbers of 32 bits.
MOST_TOKENS = 2**31 - 1
# Of the warnings: proxies take no more than a few thousand bytes of headers in all.
MAX_HEADER_LENGTH = 1_000


class JobView(Struct, frozen=True):
    """A job and what lies beside it, at a moment. `kept_seconds`: how long settled jobs and their images are kept."""

    job: Job
    records: JobRecords
    now: float
    kept_seconds: float

    @property
    def kept_until(self) -> float | None:
        """When its images are deleted; None while its money is open, since the time has not begun."""
        job = self.job
        if not job.is_settled:
            return None
        return self.kept_seconds + max(job.finished or 0.0, *(attempt.closed or 0.0 for attempt in job.attempts), 0.0)

    @property
    def links_expire_at(self) -> int:
        return int(min(self.now + LINK_SECONDS, self.kept_until or math.inf))


def job_shown(view: JobView, links: Links) -> dict[str, Any]:
    """`GET /v1/jobs/{id}`. The prompt is left out: proxies and clients log such answers."""
    job, records = view.job, view.records
    return {
        "id": job.id,
        "object": "job",
        "operation": records.request.operation,
        "status": job.state,
        "model": job.model,
        "created_at": int(job.created),
        "finished_at": int(job.finished) if job.finished else None,
        "deadline_at": int(job.deadline),
        "expires_at": view.links_expire_at if records.pictures else None,
        "kept_until": None if view.kept_until is None else int(view.kept_until),
        "n": job.n,
        "requested": msgspec.structs.asdict(records.request.requested),
        "effective": _effective(records.pictures) if records.pictures else None,
        "images": [_picture(one, links, view.links_expire_at) for one in records.pictures],
        "usage": serialize_usage(job),
        "warnings": list(job.warnings),
        "error": _error(job),
        "policy": records.plan.policy,
        "plan": _plan(records),
        "attempts": [_attempt(job, attempt) for attempt in job.attempts],
        "metadata": dict(records.request.metadata),
    }


def _effective(pictures: Sequence[Picture]) -> dict[str, Any]:
    """The parameters of the delivered images; never `auto`, and no quality where the seller offers no choice."""
    first = pictures[0]
    return {
        "size": f"{first.width}x{first.height}",
        "resolution": resolution_of(first.width, first.height),
        "aspect_ratio": ratio_of(first.width, first.height),
        "quality": _common_quality(pictures),
        "output_format": first.format,
        "background": _background(pictures),
    }


def _common_quality(pictures: Sequence[Picture]) -> Quality | None:
    """None where the seller offers no choice, or where it differs between images."""
    qualities = {picture.quality for picture in pictures}
    return qualities.pop() if len(qualities) == 1 else None


def _background(pictures: Sequence[Picture]) -> str | None:
    """None where an image could be transparent: whether it is, only all of its pixels tell."""
    return "opaque" if all(picture.is_opaque for picture in pictures) else None


def _plan(records: JobRecords) -> dict[str, Any]:
    """The planned parameters and the ranked sellers, best first."""
    request, plan = records.request, records.plan
    target = request.target
    return {
        "rule": plan.rule,
        "size": f"{target.width}x{target.height}",
        "resolution": target.resolution,
        "aspect_ratio": target.ratio,
        "quality": request.quality,
        "output_format": request.output_format,
        "sellers": [
            {
                "seller": offer.seller,
                "quote": usd(offer.quote_micros),
                "seconds": offer.seconds,
                "fidelity": offer.fidelity,
                "substitutions": list(offer.substitutions),
            }
            for offer in plan.ranked
        ],
    }


def _picture(picture: Picture, links: Links, expires_at: int) -> dict[str, Any]:
    return {
        "index": picture.index,
        "url": links.sign(picture.key, expires_at),
        "output_format": picture.format,
        "size": f"{picture.width}x{picture.height}",
        "quality": picture.quality,
        "bytes": picture.bytes,
        "sha256": picture.sha256,
        "seller": picture.seller,
    }


def _error(job: Job) -> dict[str, Any] | None:
    if not job.state.is_terminal or job.delivered:
        return None
    failure = failure_response(job)
    return {"code": failure.code, "message": failure.message}


def _attempt(job: Job, attempt: Attempt) -> dict[str, Any]:
    place = job.place_of(attempt)
    return {
        "seller": place.seller,
        "images": list(attempt.images),
        "state": attempt.state,
        "fault": attempt.fault,
        "delivered": attempt.delivered,
        "cost": usd(attempt.captured),
        "seconds": round(attempt.closed - attempt.opened, 3) if attempt.closed else None,
    }


def images_shown(
    job: Job, pictures: Sequence[Picture], contents: Mapping[int, bytes], links: Links | None, now: float
) -> Any:
    """OpenAI's answer to a generation: images as base64 where their bytes are given, as links where those are."""
    first = pictures[0]
    effective = {"quality": _common_quality(pictures), "background": _background(pictures)}
    return {
        "created": int(job.created),
        "data": [_image(picture, contents.get(picture.index), links, now) for picture in pictures],
        "size": f"{first.width}x{first.height}",
        "output_format": first.format,
        **{name: value for name, value in effective.items() if value is not None},
        "usage": serialize_usage(job),
        **({"warnings": list(job.warnings)} if job.warnings else {}),
    }


def _image(picture: Picture, content: bytes | None, links: Links | None, now: float) -> dict[str, str]:
    image = {} if content is None else {"b64_json": base64.b64encode(content).decode()}
    return image if links is None else image | {"url": links.sign(picture.key, int(now) + LINK_SECONDS)}


def headers_of(job: Job) -> dict[str, str]:
    sellers = dict.fromkeys(job.place_of(one).seller for one in job.attempts if one.delivered)
    headers = {"x-igw-job-id": job.id, "x-igw-attempts": str(len(job.attempts))}
    if sellers:
        cost = format_usd(job.captured)
        # The last is where LiteLLM looks before it reckons a price by itself.
        headers |= {"x-igw-seller": ",".join(sellers), "x-igw-cost-usd": cost, "x-litellm-response-cost": cost}
    if job.warnings:
        headers["x-igw-warnings"] = to_header_value("; ".join(job.warnings))
    if may_be_asked_again(job):
        headers["retry-after"] = str(failure_response(job).retry_after)
    return headers


def to_header_value(text: str) -> str:
    """One line of ASCII of a bounded length: an operator's words, which warnings quote, may hold anything."""
    line = "".join(letter if " " <= letter <= "~" else "?" for letter in text)
    return line if len(line) <= MAX_HEADER_LENGTH else f"{line[: MAX_HEADER_LENGTH - 3]}..."


def serialize_usage(job: Job) -> dict[str, Any]:
    """All fields that OpenAI's type requires, since strict clients reject an answer without them; 0 if unknown."""
    usage = job.usage
    text, image, output = (min(one, MOST_TOKENS) for one in (usage.input_text, usage.input_image, usage.output))
    return {
        "input_tokens": min(text + image, MOST_TOKENS),
        "input_tokens_details": {"text_tokens": text, "image_tokens": image},
        "output_tokens": output,
        "total_tokens": min(text + image + output, MOST_TOKENS),
        "cost": usd(job.captured),
    }


def usd(amount: int) -> msgspec.Raw:
    """A number in JSON that never was a float."""
    return msgspec.Raw(format_usd(amount).encode())
