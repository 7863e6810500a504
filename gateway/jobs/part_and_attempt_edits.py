"""Edits of a job's parts and attempts that all transitions use."""

from operator import attrgetter

from msgspec.structs import replace

from gateway.jobs.job import Attempt, Job, Part, PartState


def find_waiting_part(job: Job, images: tuple[int, ...]) -> Part | None:
    """Returns the waiting part that contains all of these images."""
    part = next((candidate for candidate in job.parts if images and set(images) <= set(candidate.images)), None)
    return part if part and part.state is PartState.WAITING else None


def remove_images(part: Part, images: tuple[int, ...]) -> Part:
    return replace(part, images=tuple([image for image in part.images if image not in images]))


def drop_waiting_parts(job: Job) -> Job:
    parts = (replace(part, state=PartState.DROPPED) if part.state is PartState.WAITING else part for part in job.parts)
    return replace(job, parts=tuple(parts))


def replace_attempt(job: Job, attempt: Attempt) -> Job:
    attempts = (*job.attempts[: attempt.number - 1], attempt, *job.attempts[attempt.number :])
    return replace(job, attempts=attempts)


def replace_parts(job: Job, old: Part, *new: Part) -> Job:
    """Replaces a part. Parts are sorted by image, empty parts are dropped, and parts that ended alike are merged."""
    parts: dict[object, Part] = {}
    for part in (*job.parts, *new):
        if part is old or not part.images:
            continue
        if not part.state.is_open:
            part = Part(images=part.images, state=part.state, fault=part.fault)
        merge_key = part.images if part.state.is_open else (part.state, part.fault)
        existing = parts.get(merge_key)
        parts[merge_key] = replace(part, images=tuple(sorted((*existing.images, *part.images)))) if existing else part
    return replace(job, parts=tuple(sorted(parts.values(), key=attrgetter("images"))))
