"""The audit of jobs that their clients have deleted: the images, the documents and all text are gone.

Their costs are checked like those of all jobs.
"""

from collections.abc import Collection, Iterator

from msgspec.json import encode

from gateway.assets.object_keys import make_object_prefix
from tests.explore.replica import World
from tests.harness.memory_store.memory_state import StoredJob


def list_deletion_violations(world: World, deleted_ids: Collection[str | None]) -> Iterator[str]:
    """`deleted_ids`: the jobs whose deletion was confirmed to a client."""
    for job_id, stored in world.state.jobs.items():
        if stored.job.is_deleted:
            yield from _check_deleted_job(world, stored)
        elif job_id in deleted_ids:
            yield f"deletion lost: a client has deleted {job_id}, but it is not deleted"


def _check_deleted_job(world: World, stored: StoredJob) -> Iterator[str]:
    job = stored.job
    if stored.documents:
        yield f"content left: {job.id} was deleted, but has the documents {', '.join(sorted(stored.documents))}"
    keys = [key for key in world.images.objects if key.startswith(make_object_prefix(job.id))]
    # A process that is killed between storing a late image and discarding it leaves it until the end of the retention.
    if keys and not world.has_killed_storing_replica:
        yield f"content left: {job.id} was deleted, but the storage has {', '.join(keys)}"
    has_urls = any(attempt.image_urls for attempt in job.attempts)
    if has_urls or job.warnings or job.seller_responses or b"label of" in encode(job):
        yield f"content left: {job.id} was deleted, but has text: {job}"
