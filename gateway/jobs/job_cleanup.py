"""When the prompt and the images of a settled job are deleted, and when the job itself is. Pure."""

from enum import StrEnum

from msgspec import Struct

from gateway.jobs.job import Job


class CleanupStep(StrEnum):
    """A part of a settled job that is deleted. Deleting the job deletes all of its rest."""

    PROMPT = "prompt"
    IMAGES = "images"
    JOB = "job"


class Cleanup(Struct, frozen=True):
    """The next step for a settled job, and its time."""

    at: float
    step: CleanupStep


def get_expiry(job: Job, step: CleanupStep) -> float | None:
    """Returns when the step is due; None until the costs of the job are settled."""
    settled_at = job.settled_at
    if settled_at is None:
        return None
    retention = job.retention
    match step:
        case CleanupStep.PROMPT:
            return settled_at + retention.prompt_seconds
        case CleanupStep.IMAGES:
            return settled_at + retention.image_seconds
        case CleanupStep.JOB:
            return settled_at + retention.job_seconds


def get_next_cleanup(job: Job) -> Cleanup | None:
    """Returns the earliest step that is not done; None until the costs of the job are settled. It depends on the saved
    job alone, so that it is the same in every replica, whatever its clock and its configuration say."""
    job_expires_at = get_expiry(job, CleanupStep.JOB)
    if job_expires_at is None:
        return None
    next_cleanup = Cleanup(job_expires_at, CleanupStep.JOB)
    if job.is_deleted:
        return next_cleanup
    for step, is_done in ((CleanupStep.IMAGES, job.has_deleted_images), (CleanupStep.PROMPT, job.has_deleted_prompt)):
        expires_at = get_expiry(job, step)
        if not is_done and expires_at is not None and expires_at < next_cleanup.at:
            next_cleanup = Cleanup(expires_at, step)
    return next_cleanup
