"""Our own surface: jobs that can be waited for, or asked about later."""

from typing import Any

from litestar import Response, get, post
from msgspec.structs import replace

from gateway.api import counter
from gateway.api.asking import (
    Asked,
    answer,
    asked,
    confirm_job,
    mark_answered,
    preferred_wait,
    replayed,
    take_once,
    tools_of,
    wait_of,
    waited,
)
from gateway.api.counter import Taken, Tools
from gateway.api.input_images import load_input_images
from gateway.api.shown import JobView, headers_of, job_shown
from gateway.api.wishes import InputWish, JobWishes, input_wishes
from gateway.jobs.job import Job
from gateway.store.base import DAY

JOBS = "/v1/jobs"
MOST_PAUSE, PAUSE_SHARE = 10, 0.1


@post(JOBS, status_code=202)
async def new_job(request: Asked) -> Response[bytes]:
    """Accept a job, and answer at once, or after waiting as `Prefer: wait=N` says."""
    tools = tools_of(request)
    taken = await _taken(request)
    preferred = preferred_wait(request.headers.get("prefer"))
    job = await confirm_job(request, await waited(request, taken.job, preferred or 0.0))
    headers = headers_of(job) | replayed(taken.replayed) | {"location": f"{JOBS}/{job.id}", "vary": "Prefer"}
    if preferred is not None:
        headers["preference-applied"] = f"wait={preferred:.0f}"
    headers |= _when_to_ask_again(job, tools.now())
    shown = await _shown(tools, job)
    mark_answered(request)
    return answer(shown, 200 if job.state.is_terminal else 202, headers)


async def _taken(request: Asked) -> Taken:
    """What was sent ends with this, before anybody waits: it may be large."""
    tools = tools_of(request)
    wanted, wishes = await asked(request, JobWishes)
    if earlier := await counter.taken_before(tools, wanted):
        return await take_once(request, wanted, earlier)
    mask = InputWish(image_url=wishes.mask) if isinstance(wishes.mask, str) else wishes.mask
    named = input_wishes(wishes)
    with tools.inputs.request(wanted.team) as inputs:
        pictures = await load_input_images(inputs, named, mask)
        sent = [given for (_, wish), given in zip(named, pictures.inputs, strict=True) if not wish.is_address]
        await request.state["receiving"].hold(sum(len(given.image.data) for given in sent))
        return await take_once(request, replace(wanted, pictures=pictures))


@get(f"{JOBS}/{{job_id:str}}")
async def one_job(request: Asked, job_id: str) -> Response[bytes]:
    """A job as it is, or, with `?wait=N`, as it is when it has ended or after so many seconds."""
    job = await waited(request, job_id, wait_of(request.query_params.get("wait")))
    tools = tools_of(request)
    return answer(await _shown(tools, job), 200, headers_of(job) | _when_to_ask_again(job, tools.now()))


def _when_to_ask_again(job: Job, now: float) -> dict[str, str]:
    """Ever more seldom the longer it takes, unless there is nothing more to come."""
    if job.state.is_terminal:
        return {}
    seconds = min(MOST_PAUSE, 1 + int((now - job.created) * PAUSE_SHARE))
    return {"retry-after": str(seconds), "openai-poll-after-ms": str(seconds * 1000)}


async def _shown(tools: Tools, job: Job) -> dict[str, Any]:
    kept_seconds = tools.catalogue().gateway.retention.jobs_days * DAY
    view = JobView(job, await counter.load_records(tools, job), tools.now(), kept_seconds)
    return job_shown(view, tools.links)
