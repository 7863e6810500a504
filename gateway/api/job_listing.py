"""`GET /v1/jobs`: lists the team's jobs, the newest first, with filters."""

from datetime import UTC, datetime
from math import isfinite
from typing import TypeVar

from litestar import Response, get

from gateway.api.access_control import READ
from gateway.api.api_context import ApiContext, HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.authentication import get_team
from gateway.api.json_responses import json_response
from gateway.api.query_params import parse_limit, read_query_params
from gateway.api.serializers import serialize_job_summary
from gateway.jobs.job import JobState
from gateway.store.job_pages import MAX_PAGE_JOBS, JobFilter, JobPosition

JOBS_PATH = "/v1/jobs"
MAX_LABELS = 8
_LIST_FILTERS = ("status", "label")
ResultT = TypeVar("ResultT")


@get(JOBS_PATH, opt=READ)
async def list_jobs(request: HttpRequest) -> Response[bytes]:
    """Lists the team's jobs, the newest first.

    `last_id` is the `after` of the next page. With filters, it may be a job that does not match, and a page may have
    fewer jobs than `limit` and still `has_more`: each page examines a limited number of jobs.
    """
    context, team = get_context(request), get_team(request)
    params = read_query_params(
        request, "limit", "after", "status", "model", "key", "since", "label", repeatable=("status", "label")
    )
    limit = parse_limit(params["limit"], MAX_PAGE_JOBS)
    job_filter = _parse_filter(context, params)
    after = await _find_position(context, team, params["after"][-1]) if params["after"] else None
    page = await context.store.list_jobs(team, limit, after, job_filter)
    last_position = page.next_position or (JobPosition(0, page.jobs[-1].id) if page.jobs else None)
    body = {
        "object": "list",
        "data": [serialize_job_summary(job) for job in page.jobs],
        "has_more": page.next_position is not None,
        "first_id": page.jobs[0].id if page.jobs else None,
        "last_id": last_position.job_id if last_position else None,
    }
    return json_response(body, 200, {})


def _parse_filter(context: ApiContext, params: dict[str, list[str]]) -> JobFilter:
    if len(params["label"]) > MAX_LABELS:
        raise _invalid_param_error("label", f"must have at most {MAX_LABELS} entries")
    model = params["model"][-1] if params["model"] else None
    catalogue = context.catalogue()
    return JobFilter(
        states=frozenset(_parse_state(word) for text in params["status"] for word in text.split(",")),
        model=catalogue.aliases.get(model, model) if model else None,
        key_id=params["key"][-1] if params["key"] else None,
        created_since=_parse_time(params["since"][-1]) if params["since"] else 0.0,
        labels=frozenset(params["label"]),
    )


def _parse_state(word: str) -> JobState:
    try:
        return JobState(word.strip())
    except ValueError:
        raise _invalid_param_error("status", f"must be one of {', '.join(JobState)}") from None


def _parse_time(text: str) -> float:
    """Parses seconds since 1970, or a date with or without a time. A time without an offset is UTC."""
    try:
        if text.replace(".", "", 1).isdigit():
            seconds = float(text)
        else:
            moment = datetime.fromisoformat(text)
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        seconds = -1.0
    if not (isfinite(seconds) and 0 <= seconds < 1e10):
        raise _invalid_param_error("since", "must be seconds since 1970, or a date such as 2026-11-27T08:00:00Z")
    return seconds


async def _find_position(context: ApiContext, team: str, job_id: str) -> JobPosition:
    job = await context.engine.get_job(job_id)
    if job is None or job.team != team:
        raise _invalid_param_error("after", "no such job; it may have been deleted. List again without it")
    return JobPosition(job.created_at, job.id)


def _invalid_param_error(name: str, rule: str) -> ApiError:
    return ApiError(400, "invalid_value", f"Invalid value for '{name}': {rule}.", param=name)
