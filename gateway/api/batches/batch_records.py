"""The record of a batch: its request, its state and its progress."""

from enum import StrEnum

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from gateway.api.batches.file_content import LinePosition
from gateway.api.batches.file_records import DEFAULT_TTL_SECONDS, ChunkRun
from gateway.config.schema import RateLimits
from gateway.jobs.budgets import NO_BUDGET_LIMITS, BudgetLimits
from gateway.store.base import DAY_SECONDS
from gateway.store.team_records import RecordContent, TeamRecord

# How long a batch can be fetched after its end.
BATCH_TTL_SECONDS = 30 * DAY_SECONDS
MAX_SHOWN_ERRORS = 10


class BatchStatus(StrEnum):
    """The status of a batch, in OpenAI's words."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        return self in _ENDED


_ENDED = (BatchStatus.FAILED, BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED)


class BatchError(Struct, frozen=True, kw_only=True):
    """A reason why a batch failed. `line`: None if it concerns the whole file."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class OutputFile(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The part of an output or error file that is stored so far."""

    id: str
    size_bytes: int = 0
    lines: int = 0
    chunks: tuple[ChunkRun, ...] = ()


class BatchProgress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The lines whose results are stored: all before `position`, and those in `written`.

    `cost`: what these lines cost, in micro-USD.
    """

    position: LinePosition = LinePosition()
    written: tuple[int, ...] = ()
    completed: int = 0
    failed: int = 0
    cost: int = 0


class Estimate(Struct, frozen=True, kw_only=True):
    """The expected cost of all lines, and the highest possible one, in micro-USD."""

    cost: int = 0
    ceiling: int = 0


class Batch(RecordContent, frozen=True, kw_only=True, omit_defaults=True):
    """A batch of a team.

    `fence`: a number that grows with each claim. `policies`, `limits`, `limits_id`, `budget`: those of the API key
    when it created the batch.
    `input_ttl_seconds`, `output_ttl_seconds`: how long its files are kept at most after its end.
    `reached_at`: when the batch reached each status. `failures`: how many runs in a row ended with an internal error.
    """

    key_id: str
    expires_at: float
    endpoint: str
    input_file_id: str
    output: OutputFile
    errors_output: OutputFile
    policies: tuple[str, ...] | None = None
    limits: RateLimits = RateLimits()
    limits_id: str = ""
    budget: BudgetLimits = NO_BUDGET_LIMITS
    metadata: dict[str, str] = field(default_factory=dict)
    max_cost: int | None = None
    input_ttl_seconds: float = DEFAULT_TTL_SECONDS
    output_ttl_seconds: float = DEFAULT_TTL_SECONDS
    fence: int = 0
    status: BatchStatus = BatchStatus.VALIDATING
    reached_at: dict[str, float] = field(default_factory=dict)
    total: int = 0
    estimate: Estimate | None = None
    progress: BatchProgress = BatchProgress()
    errors: tuple[BatchError, ...] = ()
    error_count: int = 0
    failures: int = 0

    def with_status(self, status: BatchStatus, now: float) -> "Batch":
        return replace(self, status=status, reached_at={**self.reached_at, status: now})

    @property
    def line_key_ttl_seconds(self) -> float:
        """How long the job of a line is found by the line's idempotency key."""
        return 2 * (self.expires_at - self.created_at)

    @property
    def is_cancelling(self) -> bool:
        return BatchStatus.CANCELLING in self.reached_at


_decoder = msgspec.msgpack.Decoder(Batch)


def decode_batch(record: TeamRecord) -> Batch:
    return _decoder.decode(record.content)
