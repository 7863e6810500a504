"""The documents of the last stored images are kept, and no others."""

from gateway.engine.image_document_cache import MAX_JOBS, ImageDocumentCache
from gateway.jobs.document_names import call_document_name, image_document_name

FIRST, SECOND, CALL = image_document_name(1, 0), image_document_name(2, 1), call_document_name(1)


def test_documents_of_several_commits_are_returned_together() -> None:
    images = ImageDocumentCache()
    images.add("job", {FIRST: b"first", CALL: b"call"})
    assert images.get("job", [FIRST, SECOND]) is None
    images.add("job", {SECOND: b"second"})
    assert images.get("job", [FIRST, SECOND]) == {FIRST: b"first", SECOND: b"second"}


def test_other_documents_and_other_jobs_are_unknown() -> None:
    images = ImageDocumentCache()
    images.add("job", {CALL: b"call"})
    assert images.get("job", [CALL]) is None
    images.add("job", {FIRST: b"first"})
    assert images.get("other", [FIRST]) is None
    assert images.get("job", [CALL]) is None


def test_oldest_job_is_dropped_when_there_are_too_many() -> None:
    images = ImageDocumentCache()
    for number in range(MAX_JOBS + 1):
        images.add(f"job {number}", {FIRST: b"image"})
        images.add("job 1", {SECOND: b"newer"})
    assert images.get("job 0", [FIRST]) is None
    assert images.get("job 1", [FIRST, SECOND]) is not None
    assert images.get(f"job {MAX_JOBS}", [FIRST]) is not None
