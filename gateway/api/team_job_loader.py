"""Loads a team's jobs, their documents and their images."""

import asyncio
from collections.abc import Mapping

from msgspec import Struct

from gateway.api.api_context import ApiContext
from gateway.api.api_errors import ApiError
from gateway.assets.storage import ObjectNotFound
from gateway.engine.job_documents import SavedRequest, StoredImage, decode_image, decode_request
from gateway.jobs.document_names import PROMPT, REQUEST, image_document_name
from gateway.jobs.job import Job
from gateway.routing.decision_record import DecisionRecord, decode_decision_record
from providers.orders import Format


class JobDocuments(Struct, frozen=True, kw_only=True):
    """The documents that a job's team may see, besides the job. `decision`: None if its record has expired."""

    request: SavedRequest
    decision: DecisionRecord | None
    images: tuple[StoredImage, ...]


def make_job_not_found_error() -> ApiError:
    return ApiError(404, "job_not_found", f"Job not found. Check its id; {describe_retention('jobs')}")


def describe_retention(noun: str) -> str:
    """Says which jobs and responses an API key finds. The same for every reason why one is not found."""
    return f"a key finds only {noun} of its own team, until they are deleted or their retention ends."


async def get_team_job(context: ApiContext, team: str, job_id: str, timeout_seconds: float = 0.0) -> Job:
    """Returns the team's job, after waiting for its end for at most `timeout_seconds`.

    Raises ApiError (404) if the job does not exist or belongs to another team. It does not wait for such a job.
    """
    job = await find_team_job(context, team, job_id)
    if timeout_seconds > 0 and job is not None:
        job = _select_own_job(await context.engine.wait_for_job(job_id, timeout_seconds), team)
    if job is None:
        raise make_job_not_found_error()
    return job


async def find_team_job(context: ApiContext, team: str, job_id: str) -> Job | None:
    """Returns the team's job; None if it does not exist, is deleted, or belongs to another team."""
    return _select_own_job(await context.engine.get_job(job_id), team)


def _select_own_job(job: Job | None, team: str) -> Job | None:
    return None if job is None or job.team != team or job.is_deleted else job


async def load_stored_images(context: ApiContext, job: Job) -> list[StoredImage]:
    """Returns the delivered images, in order. Loads their documents from the store unless this process has just saved
    them. Raises ObjectNotFound if their retention has ended."""
    if job.has_deleted_images and job.delivered_images:
        raise ObjectNotFound(f"the retention of the images of {job.id} has ended")
    names = [image_document_name(attempt, index) for index, attempt in job.delivering_attempts.items()]
    documents = context.engine.context.image_document_cache.get(job.id, names)
    if documents is None:
        documents = await context.store.load_documents(job.id, *names)
    return [decode_image(documents[name]) for name in names if name in documents]


async def load_job_documents(context: ApiContext, job: Job) -> JobDocuments:
    """Loads everything that the job's team may see, in one turn of the store."""
    names = [image_document_name(attempt, index) for index, attempt in job.delivering_attempts.items()]
    documents, stored_decision = await asyncio.gather(
        context.store.load_documents(job.id, REQUEST, *names), context.store.load_decision_record(job.id)
    )
    return JobDocuments(
        request=_decode_saved_request(job, documents),
        decision=decode_decision_record(stored_decision.record) if stored_decision else None,
        images=tuple(decode_image(documents[name]) for name in names if name in documents),
    )


async def load_saved_request(context: ApiContext, job: Job) -> SavedRequest:
    return _decode_saved_request(job, await context.store.load_documents(job.id, REQUEST, PROMPT))


def _decode_saved_request(job: Job, documents: Mapping[str, bytes]) -> SavedRequest:
    if REQUEST not in documents:
        raise ObjectNotFound(f"{job.id} was deleted while it was read")
    return decode_request(documents)


def get_media_type(key: str) -> str:
    return Format(key.rpartition(".")[2]).media_type
