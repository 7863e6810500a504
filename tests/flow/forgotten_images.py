"""A gateway that forgets the images it has just saved. It reads them from the store, as if another gateway had finished
the job."""

from collections.abc import Mapping

from gateway.engine.image_document_cache import ImageDocumentCache
from gateway.engine.unread_images import UnreadImages
from tests.harness.child_spec import Hook


def forget_images() -> None:
    ImageDocumentCache.add = _ignore_documents
    UnreadImages.add = _ignore_content


def _ignore_documents(_images: ImageDocumentCache, _job_id: str, _documents: Mapping[str, bytes]) -> None:
    """Replaces `ImageDocumentCache.add`."""


def _ignore_content(_images: UnreadImages, _key: str, _content: bytes) -> None:
    """Replaces `UnreadImages.add`."""


FORGET_IMAGES = Hook(f"{__name__}:{forget_images.__name__}")
