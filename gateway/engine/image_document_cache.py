"""The documents of images that this process stored last. Most requests ask for them as soon as their job has ended."""

from collections.abc import Mapping, Sequence

from gateway.jobs.document_names import is_image_document_name

# Jobs, each with a few hundred bytes for each of its images.
MAX_JOBS = 1_024


class ImageDocumentCache:
    """The saved documents of the last jobs, by name. A document never changes once it is saved."""

    def __init__(self) -> None:
        self._documents: dict[str, Mapping[str, bytes]] = {}

    def add(self, job_id: str, documents: Mapping[str, bytes]) -> None:
        """Adds the documents of images among those that a commit has saved."""
        if images := {name: documents[name] for name in documents if is_image_document_name(name)}:
            self._documents[job_id] = {**self._documents.pop(job_id, {}), **images}
            if len(self._documents) > MAX_JOBS:
                del self._documents[next(iter(self._documents))]

    def get(self, job_id: str, names: Sequence[str]) -> Mapping[str, bytes] | None:
        """Returns the documents; None unless all of them are known."""
        documents = self._documents.get(job_id, {})
        return documents if all(name in documents for name in names) else None
