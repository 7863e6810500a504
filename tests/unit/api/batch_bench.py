"""The work on a batch, with a store and a storage in memory."""

from types import SimpleNamespace
from typing import Any

from gateway.api.batches.batch_lease import claim_batch
from gateway.api.batches.batch_records import Batch, BatchStatus, Estimate, OutputFile, decode_batch
from gateway.api.batches.batch_run import BatchRun
from gateway.api.batches.file_library import store_file
from gateway.api.batches.file_records import FileRecord
from gateway.assets.storage import ImageStorage
from gateway.engine.image_document_cache import ImageDocumentCache
from gateway.store.base import DAY_SECONDS
from gateway.store.team_records import RecordKind, encode_record
from gateway.timeouts_and_intervals import Timing
from tests.harness.manual_clock import ManualClock
from tests.harness.memory_storage import MemoryBackend
from tests.harness.memory_store.memory_state import MemoryState
from tests.harness.memory_store.store import MemoryStore

NOW, LEASE_SECONDS, TEAM = 1_000.0, 60.0, "acme"
INPUT, OUTPUT, ERRORS = (f"file-00{letter * 26}" for letter in "abc")
BATCH_ID = f"batch_00{'a' * 26}"


def make_batch(id: str = BATCH_ID, **fields: Any) -> Batch:
    return Batch(
        id=id,
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
            timing=Timing(),
            engine=SimpleNamespace(context=engine_context),
        )

    async def store_input(self, content: bytes = b'{"custom_id": "a"}\n') -> None:
        file = FileRecord(
            id=INPUT,
            team=TEAM,
            created_at=NOW,
            expires_at=NOW + 30 * DAY_SECONDS,
            filename="a.jsonl",
            purpose="batch",
        )
        await store_file(self.context, file, content)

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
