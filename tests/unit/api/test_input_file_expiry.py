"""The input file of a batch is kept after its end for as long as prompts are."""

import asyncio
from math import inf
from typing import Any

import pytest

from gateway.api.batches.batch_records import Batch, BatchError, BatchStatus, Estimate
from gateway.api.batches.file_library import find_team_file
from gateway.api.batches.file_records import FileRecord
from gateway.api.batches.input_file_expiry import expire_input_file
from gateway.config.retention_schema import FileRetention, RetentionConfig, TeamRetentionConfig, make_file_retention
from gateway.store.base import DAY_SECONDS
from gateway.store.team_records import RecordKind, encode_record
from tests.unit.api.batch_bench import BATCH_ID, INPUT, NOW, TEAM, BatchBench, make_batch

OTHER_BATCH_ID = BATCH_ID[:-1] + "b"
LATER = 1_000.0


def make_finalizing_batch(**fields: Any) -> Batch:
    batch = make_batch(total=1, estimate=Estimate(), **fields)
    return batch.with_status(BatchStatus.FINALIZING, NOW)


async def find_input(bench: BatchBench) -> FileRecord | None:
    return await find_team_file(bench.context, TEAM, INPUT)


async def open_bench(other: Batch | None = None) -> BatchBench:
    bench = BatchBench()
    await bench.store.open()
    await bench.store_input()
    if other is not None:
        assert await bench.store.team_records.save(encode_record(RecordKind.BATCH, other), 100 * DAY_SECONDS)
    bench.clock.now += LATER
    return bench


@pytest.mark.parametrize(("ttl_days", "kept_days"), [(3.0, 3.0), (29.0, 29.0), (30.0, None)])
def test_input_file_expires_after_the_end_of_its_batch(ttl_days: float, kept_days: float | None) -> None:
    """It never expires later than before."""

    async def scenario() -> None:
        bench = await open_bench()
        batch = await bench.run(make_finalizing_batch(input_ttl_seconds=ttl_days * DAY_SECONDS))
        file = await find_input(bench)
        assert batch.status is BatchStatus.COMPLETED
        assert file is not None
        assert file.expires_at == (
            NOW + 30 * DAY_SECONDS if kept_days is None else NOW + LATER + kept_days * DAY_SECONDS
        )

    asyncio.run(scenario())


def test_input_file_is_deleted_at_once_if_no_prompt_is_kept() -> None:
    async def scenario() -> None:
        bench = await open_bench()
        assert bench.backend.objects
        assert (await bench.run(make_finalizing_batch(input_ttl_seconds=0.0))).status is BatchStatus.COMPLETED
        assert await bench.store.team_records.load(INPUT) is None
        assert bench.backend.objects == {}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("status", "is_kept"),
    [(BatchStatus.VALIDATING, True), (BatchStatus.IN_PROGRESS, True), (BatchStatus.FINALIZING, False)],
)
def test_input_file_is_kept_while_another_batch_reads_it(status: BatchStatus, is_kept: bool) -> None:
    async def scenario() -> None:
        other = make_batch(id=OTHER_BATCH_ID, input_ttl_seconds=0.0).with_status(status, NOW)
        bench = await open_bench(other)
        await bench.run(make_finalizing_batch(input_ttl_seconds=0.0))
        assert (await find_input(bench) is not None) == is_kept
        await bench.store.team_records.delete(OTHER_BATCH_ID)
        for _ in range(2):
            await expire_input_file(bench.context, make_finalizing_batch(input_ttl_seconds=0.0))
        assert await find_input(bench) is None

    asyncio.run(scenario())


def test_failed_validation_keeps_its_errors_though_the_file_is_gone() -> None:
    """The process crashed after the file was deleted, and before the end of the batch was saved."""

    async def scenario() -> None:
        bench = BatchBench()
        await bench.store.open()
        error = BatchError(code="invalid_json", message="not JSON", line=1)
        batch = await bench.run(make_batch(total=1, errors=(error,), error_count=1, input_ttl_seconds=0.0))
        assert (batch.status, batch.errors) == (BatchStatus.FAILED, (error,))

    asyncio.run(scenario())


def test_files_have_the_retention_of_their_content_where_one_is_configured() -> None:
    """The retention of jobs alone does not limit them: results outlive their jobs."""
    days = RetentionConfig(jobs_days=1.0, images_days=0.5)
    assert make_file_retention(RetentionConfig(jobs_days=1.0), None) == FileRetention()
    assert make_file_retention(days, None) == FileRetention(image_seconds=0.5 * DAY_SECONDS)
    team = make_file_retention(days, TeamRetentionConfig(images_days=0.25, prompts_days=0.0))
    assert (team.image_seconds, team.prompt_seconds) == (0.25 * DAY_SECONDS, 0.0)
    assert make_file_retention(days, TeamRetentionConfig(jobs_days=0.1)).prompt_seconds == inf
