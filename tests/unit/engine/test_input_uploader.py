"""Uploads of large inputs are prepared beside the event loop: a checksum of 50 MiB takes a tenth of a second."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.engine.input_uploader import MAX_INLINE_BYTES, InputUploader, UploadedInputs
from gateway.engine.job_documents import StoredInput
from gateway.jobs.first_commit import build_first_commit
from gateway.timeouts_and_intervals import Timing
from providers.adapter import Answer, Call, Endpoint, Upload, UploadDone, UploadGrant, UploadRequest
from providers.orders import ImageBytes, ImageUrl
from tests.unit.engine.fetcher_fakes import REQUEST
from tests.unit.jobs.job_scenario import START, make_new_job

JOB = build_first_commit(make_new_job(), START).job
CALL = Call(method="POST", location="/uploads")
URL = ImageUrl("https://files.example.com/1")


class UploadingSeller:
    """A seller whose uploads succeed. `threads`: those in which uploads were prepared."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        upload = Upload(
            prepare=Endpoint(self._prepare, lambda answer: UploadGrant("1", URL.url, {})),
            put=Endpoint(_put, lambda answer: UploadDone()),
            confirm=Endpoint(lambda grant: CALL, lambda answer: URL),
            max_bytes=10 * MAX_INLINE_BYTES,
            ttl_seconds=3_600,
        )
        self.seller: Any = SimpleNamespace(name="runapi", adapter=SimpleNamespace(input_transports=(upload,)))

    def _prepare(self, image: ImageBytes) -> Call:
        self.threads.append(threading.current_thread())
        return CALL


def _put(request: UploadRequest) -> Call:
    return CALL


async def upload_input(seller: UploadingSeller, size_bytes: int) -> UploadedInputs:
    async def get(key: str) -> bytes:
        return bytes(size_bytes)

    async def send(*_: object) -> Answer:
        return Answer(status=200, headers={}, body=b"")

    context: Any = SimpleNamespace(
        timing=Timing(),
        is_traced=False,
        storage=SimpleNamespace(get=get),
        seller_client=SimpleNamespace(send=send),
    )
    stored_input = StoredInput(key="in-0", media_type="image/png", name="in-0.png", width=1024, height=1024)
    return await InputUploader(context, JOB).upload_all(seller.seller, replace(REQUEST, sources=(stored_input,)))


@pytest.mark.parametrize(
    ("size_bytes", "is_inline"), [(MAX_INLINE_BYTES, True), (MAX_INLINE_BYTES + 1, False)], ids=["small", "large"]
)
def test_large_upload_is_prepared_in_another_thread(size_bytes: int, is_inline: bool) -> None:
    seller = UploadingSeller()

    assert asyncio.run(upload_input(seller, size_bytes)).sources == (URL,)

    assert [thread is threading.main_thread() for thread in seller.threads] == [is_inline]
