"""Deletes the prompts, the images and the jobs whose retention has ended."""

from collections.abc import Awaitable, Callable

from gateway.assets.object_keys import make_object_prefix
from gateway.engine.engine_context import EngineContext
from gateway.jobs.document_names import list_prompt_document_names
from gateway.jobs.job import Job
from gateway.jobs.job_cleanup import CleanupStep, get_next_cleanup
from gateway.jobs.job_update_types import Fact, RetentionEnded

# Saves a fact about a job, and removes documents of these names.
FactSaver = Callable[[str, Fact, tuple[str, ...]], Awaitable[Job | None]]


async def delete_expired_content(context: EngineContext, save_fact: FactSaver) -> None:
    """Does the next step for each job that the store lists: only the store's clock says when a step is due."""
    while job_ids := await context.store.list_jobs_to_clean_up():
        for job_id in job_ids:
            await _clean_up_job(context, save_fact, job_id)


async def _clean_up_job(context: EngineContext, save_fact: FactSaver, job_id: str) -> None:
    job = await context.store.load_job(job_id)
    if job is None:
        await _delete_job(context, job_id)
    elif cleanup := get_next_cleanup(job):
        match cleanup.step:
            case CleanupStep.JOB:
                await _delete_job(context, job_id)
            case CleanupStep.PROMPT:
                await save_fact(job_id, RetentionEnded(prompt=True), list_prompt_document_names(job))
            case CleanupStep.IMAGES:
                # Before the job says so: if this fails in between, the step is repeated.
                await _delete_images(context, job_id)
                await save_fact(job_id, RetentionEnded(images=True), ())
    # A job that has just been created from an announced id is open, and is not listed any more.


async def _delete_job(context: EngineContext, job_id: str) -> None:
    """Deletes the images first: once a job is deleted, no record points to its images."""
    await _delete_images(context, job_id)
    await context.store.delete_job(job_id)


async def _delete_images(context: EngineContext, job_id: str) -> None:
    prefix = make_object_prefix(job_id)
    context.unread_images.discard(prefix)
    await context.storage.delete_prefix(prefix)
