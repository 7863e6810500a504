"""Batches whose input file, or the images of a line, were deleted before their results were written."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.api.batches.batch_lease import claim_batch
from gateway.api.batches.batch_records import Batch, BatchStatus, Estimate, OutputFile, decode_batch
from gateway.api.batches.batch_result_writer import LineSummary, ResultWriter
from gateway.api.batches.batch_run import BatchRun
from gateway.api.batches.file_library import store_file
from gateway.api.batches.file_records import FileRecord
from gateway.assets.storage import ImageStorage
from gateway.engine.image_document_cache import ImageDocumentCache
from gateway.store.base import DAY_SECONDS
from gateway.store.team_records import RecordKind, encode_record
from tests.harness.manual_clock import ManualClock
from tests.harness.memory_storage import MemoryBackend
from tests.harness.memory_store.memory_state import MemoryState
from tests.harness.memory_store.store import MemoryStore
from tests.unit.jobs.job_scenario import JobScenario, make_new_job

NOW, LEASE_SECONDS, TEAM = 1_000.0, 60.0, "acme"
INPUT, OUTPUT, ERRORS = (f"file-00{letter * 26}" for letter in "abc")
BATCH_ID = f"batch_00{'a' * 26}"


def make_batch(**fields: Any) -> Batch:
    return Batch(
        id=BATCH_ID,
        team=TEAM,
        key_id="key",
        created_at=NOW,
        expires_at=NOW + DAY_SECONDS,
        endpoint="/v1/images/generations",
        input_file_id=INPUT,
        output=OutputFile(id=OUTPUT),
        errors_output=OutputFile(id=ERRORS),
        **fields,
    )


class BatchBench:
    """A store and a storage in memory, and the context that the work on a batch needs."""

    def __init__(self) -> None:
        self.clock, self.events = ManualClock(NOW), list[object]()
        self.backend = MemoryBackend()
        self.store = MemoryStore(MemoryState(), clock=self.clock)
        engine_context = SimpleNamespace(
            monotonic=self.clock, emit=self.events.append, image_document_cache=ImageDocumentCache()
        )
        self.context: Any = SimpleNamespace(
            store=self.store,
            storage=ImageStorage(self.backend),
            wall_clock=self.clock,
            engine=SimpleNamespace(context=engine_context),
        )

    async def store_input(self) -> None:
        file = FileRecord(
            id=INPUT,
            team=TEAM,
            created_at=NOW,
            expires_at=NOW + 30 * DAY_SECONDS,
            filename="a.jsonl",
            purpose="batch",
        )
        await store_file(self.context, file, b'{"custom_id": "a"}\n')

    async def run(self, batch: Batch) -> Batch:
        """Works on the batch, and returns it as it is stored afterwards."""
        records = self.store.team_records
        assert await records.save(encode_record(RecordKind.BATCH, batch), 0.0)
        [record] = await records.list_due(RecordKind.BATCH)
        lease = await claim_batch(records, decode_batch(record), LEASE_SECONDS)
        assert lease is not None
        await BatchRun(self.context, lease, LEASE_SECONDS, lambda: 1).run()
        stored = await records.load(batch.id)
        assert stored is not None
        return decode_batch(stored)


def make_running_batch(**fields: Any) -> Batch:
    return make_batch(status=BatchStatus.IN_PROGRESS, total=1, estimate=Estimate(), **fields)


def run_interrupted_batch(batch: Batch, has_input: bool, days_later: float) -> Batch:
    async def scenario() -> Batch:
        bench = BatchBench()
        await bench.store.open()
        if has_input:
            await bench.store_input()
        bench.clock.now += days_later * DAY_SECONDS
        return await bench.run(batch)

    return asyncio.run(scenario())


def expect_interrupted(batch: Batch) -> None:
    assert (batch.status, [error.code for error in batch.errors]) == (BatchStatus.FAILED, ["batch_interrupted"])


@pytest.mark.parametrize("batch", [make_batch(), make_running_batch()], ids=["validating", "running"])
def test_batch_without_its_input_file_fails_at_once(batch: Batch) -> None:
    expect_interrupted(run_interrupted_batch(batch, has_input=False, days_later=0))


def test_batch_that_stood_still_until_its_lines_are_unknown_orders_nothing() -> None:
    """By then, the keys that show which lines were ordered have expired."""
    expect_interrupted(run_interrupted_batch(make_running_batch(fence=1), has_input=True, days_later=2))


def test_batch_cancelled_before_its_validation_needs_no_input_file() -> None:
    batch = make_batch().with_status(BatchStatus.CANCELLING, NOW)
    assert run_interrupted_batch(batch, has_input=False, days_later=0).status is BatchStatus.CANCELLED


@pytest.mark.parametrize("wants_url", [False, True])
def test_line_whose_images_were_deleted_says_so(wants_url: bool) -> None:
    """The job was delivered, and the documents of its images are gone."""
    scenario = JobScenario(make_new_job())
    scenario.start_attempt()
    scenario.store_images()
    assert scenario.job.delivered_images

    async def write() -> bytes:
        bench = BatchBench()
        await bench.store.open()
        writer = ResultWriter(bench.context, make_batch(fence=1))
        is_completed = await writer.write_job(LineSummary(number=1, custom_id="a", wants_url=wants_url), scenario.job)
        assert not is_completed
        await writer.flush()
        [data] = bench.backend.objects.values()
        return data

    line = json.loads(asyncio.run(write()))
    assert (line["custom_id"], line["response"], line["error"]["code"]) == ("a", None, "images_deleted")
