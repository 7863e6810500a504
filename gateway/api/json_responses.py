"""JSON responses and the headers that describe a job."""

from collections.abc import Iterable
from typing import Any

import msgspec
from litestar import Response

from gateway.api.failed_job_responses import build_failure_response
from gateway.jobs.failed_job_retry_safety import is_safe_to_retry
from gateway.jobs.job import Job
from gateway.money import format_usd

# The limit for x-igw-warnings: proxies limit all headers together to a few thousand bytes.
MAX_HEADER_LENGTH = 1_000
MAX_RETRY_AFTER_SECONDS, RETRY_AFTER_SHARE = 10, 0.1


def json_response(content: Any, status: int, headers: dict[str, str]) -> Response[bytes]:
    """Makes a JSON response that no cache may store, since it may contain signed URLs."""
    headers = {"cache-control": "no-store", **headers}
    return Response(msgspec.json.encode(content), media_type="application/json", status_code=status, headers=headers)


def build_replay_headers(is_replayed: bool) -> dict[str, str]:
    return {"idempotent-replayed": "true"} if is_replayed else {}


def build_job_headers(job: Job) -> dict[str, str]:
    sellers = dict.fromkeys(job.route_entry(attempt).seller for attempt in job.attempts if attempt.delivered_count)
    headers = {"x-igw-job-id": job.id, "x-igw-attempts": str(len(job.attempts))}
    if sellers:
        cost = format_usd(job.captured_amount)
        # LiteLLM reads the last one before it computes a price itself.
        headers |= {"x-igw-seller": ",".join(sellers), "x-igw-cost-usd": cost, "x-litellm-response-cost": cost}
    if job.warnings:
        headers["x-igw-warnings"] = format_warnings_header(job.warnings)
    if is_safe_to_retry(job):
        headers["retry-after"] = str(build_failure_response(job).retry_after)
    return headers


def build_poll_headers(job: Job, now: float) -> dict[str, str]:
    """Builds the headers that say when to poll again: the interval grows with the age of the job.

    Returns no headers once the job has ended.
    """
    if job.state.is_terminal:
        return {}
    seconds = min(MAX_RETRY_AFTER_SECONDS, 1 + int((now - job.created_at) * RETRY_AFTER_SHARE))
    return {"retry-after": str(seconds), "openai-poll-after-ms": str(seconds * 1000)}


def format_warnings_header(warnings: Iterable[str]) -> str:
    """Joins warnings by `; `, which then occurs within none of them: each is `code: text`."""
    return _to_header_value("; ".join(warning.replace("; ", ", ") for warning in warnings))


def _to_header_value(text: str) -> str:
    """Converts the text to one ASCII line of limited length, since warnings may quote text of the configuration."""
    line = "".join(character if " " <= character <= "~" else "?" for character in text)
    return line if len(line) <= MAX_HEADER_LENGTH else f"{line[: MAX_HEADER_LENGTH - 3]}..."
