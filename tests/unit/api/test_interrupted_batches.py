"""Batches whose input file, or the images of a line, were deleted before their results were written."""

import asyncio
import json

import pytest

from gateway.api.batches.batch_records import Batch, BatchStatus
from gateway.api.batches.batch_result_writer import LineSummary, ResultWriter
from gateway.store.base import DAY_SECONDS
from tests.unit.api.batch_bench import NOW, BatchBench, make_batch, make_running_batch
from tests.unit.jobs.job_scenario import JobScenario, make_new_job


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
