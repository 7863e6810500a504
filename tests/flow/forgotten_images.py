"""A gateway that forgets the images it has just saved. It reads them from the store, as if another gateway had finished
the job."""

from collections.abc import Mapping

from gateway.engine.recent_images import RecentImages
from tests.harness.child_spec import Hook


def forget_images() -> None:
    RecentImages.add = _ignore_documents


def _ignore_documents(_images: RecentImages, _job_id: str, _documents: Mapping[str, bytes]) -> None:
    """Replaces `RecentImages.add`."""


FORGET_IMAGES = Hook(f"{__name__}:{forget_images.__name__}")
