"""A job as callers see it."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.api.failures import UNAVAILABLE_SECONDS, failure_response
from gateway.assets.links import Links
from gateway.engine.records import Picture
from gateway.jobs.failure import may_be_asked_again
from gateway.jobs.job import Attempt, Job
from gateway.money import format_usd

LINK_SECONDS = 3_600
# Clients written in Rust or C# read tokens as numbers of 32 bits.
MOST_TOKENS = 2**31 - 1
# Of the warnings: proxies take no more than a few thousand bytes of headers in all.
MAX_HEADER_LENGTH = 1_000


def job_shown(job: Job, pictures: Sequence[Picture], links: Links, now: float) -> dict[str, Any]:
    """`GET /v1/jobs/{id}`."""
    return {
        "id": job.id,
        "object": "job",
        "status": job.state,
        "model": job.model,
        "created_at": int(job.created),
        "finished_at": int(job.finished) if job.finished else None,
        "expires_at": int(job.deadline),
        "n": job.n,
        "images": [_picture(one, links, now) for one in pictures],
        "usage": usage_shown(job),
        "warnings": list(job.warnings),
        "error": _error(job),
        "attempts": [_attempt(job, attempt) for attempt in job.attempts],
    }


def _picture(picture: Picture, links: Links, now: float) -> dict[str, Any]:
    return {
        "index": picture.index,
        "url": links.sign(picture.key, int(now) + LINK_SECONDS),
        "output_format": picture.format,
        "size": f"{picture.width}x{picture.height}",
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
    return {
        "created": int(job.created),
        "data": [_image(picture, contents.get(picture.index), links, now) for picture in pictures],
        "size": f"{first.width}x{first.height}",
        "output_format": first.format,
        "usage": usage_shown(job),
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
        headers["retry-after"] = str(UNAVAILABLE_SECONDS)
    return headers


def to_header_value(text: str) -> str:
    """One line of ASCII of a bounded length: an operator's words, which warnings quote, may hold anything."""
    line = "".join(letter if " " <= letter <= "~" else "?" for letter in text)
    return line if len(line) <= MAX_HEADER_LENGTH else f"{line[: MAX_HEADER_LENGTH - 3]}..."


def usage_shown(job: Job) -> dict[str, Any]:
    """All that OpenAI's type requires, which strict clients refuse an answer without; 0 is what no seller has told."""
    told = job.usage
    text, image, output = (min(one, MOST_TOKENS) for one in (told.input_text, told.input_image, told.output))
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
