"""The result fetcher: no failure around it loses an image that can be fetched."""

import asyncio

import pytest
from msgspec.structs import replace

from gateway.assets.storage import StorageFull, StorageUnavailable
from gateway.engine import result_fetcher
from gateway.engine.job_documents import (
    StoredImage,
    encode_document,
)
from gateway.engine.result_fetcher import ResultFetcher
from gateway.events import ErrorReported, ImageStored
from gateway.jobs.job_update_types import ImagesReady, ImagesStored
from gateway.store.base import StoreUnavailable
from gateway.timeouts_and_intervals import DEFAULT_JOB_TIMING
from gateway.upstream.download import DownloadError
from providers.faults import FaultKind
from providers.order_status import Ready
from providers.orders import Format, ImageBytes, ImageUrl
from tests.harness.image_bytes import HEIGHT, WIDTH
from tests.unit.engine.fetcher_fakes import (
    IMAGE_BYTES,
    MAX_FETCH_TRIES,
    OFFER,
    DownloadOutcome,
    fail_url,
    make_fakes,
    make_image_url,
    make_inline_image,
)
from tests.unit.jobs.job_scenario import START


def test_unavailable_store_loses_no_inline_image() -> None:
    fakes = make_fakes(n=3)
    fakes.store_errors = [StoreUnavailable("away") for _ in range(20)]
    assert fakes.fetch_and_store(make_inline_image(), make_inline_image(), make_inline_image())
    assert fakes.stored_update == ImagesStored(attempt=1, images=(0, 1, 2), made_count=3, cost=7)
    assert sorted(fakes.documents) == ["image.1.0", "image.1.1", "image.1.2"]
    assert fakes.list_ready_updates()[0] == ImagesReady(attempt=1, cost=7, made_count=3)


@pytest.mark.parametrize("is_pollable", [True, False])
def test_unavailable_storage_is_retried_without_downloading_again(is_pollable: bool) -> None:
    fakes = make_fakes(n=2, is_pollable=is_pollable)
    fakes.storage_errors = [StorageFull("full"), *(StorageUnavailable("away") for _ in range(20))]
    assert fakes.fetch_and_store(make_image_url(0), make_image_url(1))
    assert fakes.stored_update.images == (0, 1)
    assert sorted(fakes.downloaded_urls) == [make_image_url(0).url, make_image_url(1).url]
    assert fakes.list_ready_updates()[0].cost == 7


def test_success_records_stored_images_only() -> None:
    fakes = make_fakes(n=2)
    assert fakes.fetch_and_store(make_inline_image(), make_inline_image())
    assert fakes.posted == [fakes.stored_update]
    assert [type(event) for event in fakes.events] == [ImageStored] * 2


def test_internal_error_with_one_image_keeps_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = make_fakes(n=3)

    async def put_or_fail(key: str, data: bytes, media_type: str) -> None:
        if "image-1-1" in key:
            raise ZeroDivisionError

    monkeypatch.setattr(fakes.job_context.engine_context.storage, "put", put_or_fail)
    assert fakes.fetch_and_store(make_inline_image(), make_inline_image(), make_inline_image())
    assert (fakes.stored_update.images, fakes.stored_update.made_count, fakes.stored_update.missing_fault) == (
        (0, 2),
        3,
        FaultKind.IMAGES_EXPIRED,
    )
    errors = [event for event in fakes.events if isinstance(event, ErrorReported)]
    assert ["ZeroDivisionError" in error.message for error in errors] == [True] * MAX_FETCH_TRIES


def test_invalid_inline_image_is_tried_once() -> None:
    fakes = make_fakes(n=2)
    assert fakes.fetch_and_store(make_inline_image(), ImageBytes(b"<html>", "image/png", ""))
    assert (fakes.stored_update.images, fakes.stored_update.missing_fault) == ((0,), FaultKind.IMAGES_EXPIRED)
    assert fakes.list_ready_updates() == []


@pytest.mark.parametrize(
    "answer",
    [DownloadError("status 404", is_permanent=True), b"<html>", IMAGE_BYTES[:-20]],
    ids=["gone", "a page", "truncated"],
)
def test_missing_or_invalid_image_is_given_up_after_max_tries(answer: DownloadOutcome) -> None:
    fakes = make_fakes(n=2)
    fakes.answer_download = lambda url: answer if url == make_image_url(1).url else IMAGE_BYTES
    assert fakes.fetch_and_store(make_image_url(0), make_image_url(1))
    assert (fakes.stored_update.images, fakes.stored_update.missing_fault) == ((0,), FaultKind.IMAGES_EXPIRED)
    assert (fakes.downloaded_urls.count(make_image_url(0).url), fakes.downloaded_urls.count(make_image_url(1).url)) == (
        1,
        MAX_FETCH_TRIES,
    )


def test_unavailable_host_is_retried_until_it_answers() -> None:
    fakes = make_fakes(n=2)
    fakes.answer_download = fail_url(
        make_image_url(1), *(DownloadError("status 503") for _ in range(10 * MAX_FETCH_TRIES))
    )
    assert fakes.fetch_and_store(make_image_url(0), make_image_url(1))
    assert fakes.stored_update.images == (0, 1)


def test_pollable_order_asks_for_new_urls_and_keeps_fetched_images() -> None:
    """Images that are stored already are not fetched again."""
    fakes = make_fakes(n=2, is_pollable=True)
    fakes.answer_download = fail_url(
        make_image_url(1), *(DownloadError("status 503") for _ in range(10 * MAX_FETCH_TRIES))
    )
    fetcher = ResultFetcher(fakes.job_context)

    def fetch_and_store(*images: ImageUrl) -> bool:
        return asyncio.run(fetcher.fetch_and_store(1, Ready(images=images), OFFER))

    assert [fetch_and_store(make_image_url(0), make_image_url(1)) for _ in range(2 * MAX_FETCH_TRIES)] == [
        False
    ] * 2 * MAX_FETCH_TRIES
    assert [update for update in fakes.posted if isinstance(update, ImagesStored)] == []
    assert fakes.job_context.get_attempt(1).images_ready
    assert fetch_and_store(make_image_url(2), make_image_url(3))
    assert fakes.stored_update.images == (0, 1)
    assert (fakes.downloaded_urls.count(make_image_url(0).url), fakes.downloaded_urls.count(make_image_url(2).url)) == (
        1,
        0,
    )


def test_missing_request_document_ends_order(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = make_fakes(n=1)

    async def load_documents(job_id: str, *names: str) -> dict[str, bytes]:
        return {}

    monkeypatch.setattr(fakes.job_context.engine_context.store, "load_documents", load_documents)
    assert fakes.fetch_and_store(make_inline_image())
    assert (fakes.stored_update.images, fakes.stored_update.missing_fault) == ((), FaultKind.IMAGES_EXPIRED)
    assert len(fakes.events) == MAX_FETCH_TRIES


@pytest.mark.parametrize("is_pollable", [True, False])
def test_expired_images_end_order_with_the_images_fetched(is_pollable: bool) -> None:
    fakes = make_fakes(n=2, is_pollable=is_pollable)
    fakes.now = START + DEFAULT_JOB_TIMING.image_ttl_seconds - 1e-6
    fakes.job_context.job = replace(fakes.job_context.job, deadline=fakes.now + 900)
    fakes.answer_download = fail_url(make_image_url(1), *(DownloadError("status 503") for _ in range(100)))
    assert fakes.fetch_and_store(make_image_url(0), make_image_url(1))
    assert (fakes.stored_update.images, fakes.stored_update.missing_fault) == ((0,), FaultKind.IMAGES_EXPIRED)


def test_images_of_expired_job_are_not_retried() -> None:
    fakes = make_fakes(n=1)
    fakes.now = fakes.job_context.job.deadline + 1
    [part] = fakes.job_context.job.parts
    fakes.job_context.job = replace(fakes.job_context.job, is_overdue=True, parts=(replace(part, attempt=None),))
    fakes.answer_download = lambda url: DownloadError("status 503")
    assert fakes.fetch_and_store(make_image_url(0))
    assert not fakes.job_context.get_attempt(1).state.is_open
    assert fakes.job_context.get_attempt(1).orphaned_amount == 7


def test_deleted_job_keeps_no_image_although_another_one_cannot_be_fetched() -> None:
    """The replica was paused. Meanwhile another one ended the job, and its client deleted it."""
    fakes = make_fakes(n=2)
    fakes.now = fakes.job_context.job.deadline + 1
    deleted_parts = tuple(replace(part, attempt=None) for part in fakes.job_context.job.parts)
    fakes.job_context.job = replace(fakes.job_context.job, is_overdue=True, is_deleted=True, parts=deleted_parts)
    fakes.answer_download = fail_url(make_image_url(1), DownloadError("status 503"))
    assert fakes.fetch_and_store(make_image_url(0), make_image_url(1))
    assert len(fakes.downloaded_urls) == 2
    assert not fakes.stored_keys


def test_stored_image_describes_its_bytes() -> None:
    fakes = make_fakes(n=1)
    assert fakes.fetch_and_store(make_inline_image())
    [key] = fakes.stored_keys
    saved = fakes.documents["image.1.0"]
    assert (
        encode_document(
            StoredImage(
                index=0,
                key=key,
                format=Format.PNG,
                width=WIDTH,
                height=HEIGHT,
                bytes=len(IMAGE_BYTES),
                sha256=result_fetcher.sha256(IMAGE_BYTES).hexdigest(),
                seller="runapi",
                attempt=1,
                is_opaque=True,
            )
        )
        == saved
    )
