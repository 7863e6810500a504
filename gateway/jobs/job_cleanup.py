"""When the prompt and the images of a settled job are deleted, and when the job itself is. Pure."""

from enum import StrEnum

from msgspec import Struct

from gateway.jobs.job import Job, JobRetention


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
    return None if settled_at is None else settled_at + _get_seconds(job.retention, step)


def _get_seconds(retention: JobRetention, step: CleanupStep) -> float:
    match step:
        case CleanupStep.PROMPT:
            return retention.prompt_seconds
        case CleanupStep.IMAGES:
            return retention.image_seconds
        case CleanupStep.JOB:
            return retention.job_seconds


def get_next_cleanup(job: Job) -> Cleanup | None:
    """Returns the earliest step that is not done; None until the costs of the job are settled. It depends on the saved
    job alone, so that it is the same in every replica, whatever its clock and its configuration say."""
    settled_at, retention = job.settled_at, job.retention
    if settled_at is None:
        return None
    seconds, step = retention.job_seconds, CleanupStep.JOB
    if not job.is_deleted:
        if not job.has_deleted_images and retention.image_seconds < seconds:
            seconds, step = retention.image_seconds, CleanupStep.IMAGES
        if not job.has_deleted_prompt and retention.prompt_seconds < seconds:
            seconds, step = retention.prompt_seconds, CleanupStep.PROMPT
    return Cleanup(settled_at + seconds, step)
