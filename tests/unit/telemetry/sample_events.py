"""An event of each class."""

from typing import Any

from msgspec.structs import replace

from gateway.events import (
    ApiKeyChanged,
    AttemptEnded,
    AttemptRecorded,
    BatchEnded,
    CallbackHandled,
    CallbackOutcome,
    ConfigReloaded,
    ErrorReported,
    Event,
    FailoverStarted,
    JobAccepted,
    JobEnded,
    JobReclaimed,
    LateImagesReceived,
    LedgerEntryPosted,
    OfferSkipped,
    PriceMismatch,
    RateLimitExceeded,
    RequestCompleted,
    TaskRecovered,
)
from gateway.jobs.job import JobState
from gateway.jobs.transition_tables import LedgerLine
from providers.faults import FaultKind
from providers.orders import Cell, Operation

CELL = Cell(Operation.GENERATE, "1k", "high")
JOB: dict[str, Any] = {"job": "job_1", "cell": CELL, "images": 1, "config": "c"}
TEAM_AND_MODEL: dict[str, Any] = {"team": "a", "model": "m"}
ATTEMPT: dict[str, Any] = JOB | {"attempt": 1, "seller": "s"}
OFFER: dict[str, Any] = {"job": "job_1", "seller": "s", "cell": CELL, "config": "c"}
DELIVERY: dict[str, Any] = {"delivered": 1, "seconds": 1.0, "fault": None}
ACCEPTED = JobAccepted(**JOB, **TEAM_AND_MODEL, policy="cheapest")
RECORDED = AttemptRecorded(**ATTEMPT)
ATTEMPT_ENDED = AttemptEnded(**ATTEMPT, **TEAM_AND_MODEL, **DELIVERY)
CAPTURE = LedgerEntryPosted(**ATTEMPT, **TEAM_AND_MODEL, line=LedgerLine.CAPTURE, amount=50_000, day="2026-11-27")
JOB_ENDED = JobEnded(
    **JOB, **TEAM_AND_MODEL, **DELIVERY, state=JobState.COMPLETED, sellers=("s",), captured_amount=50_000
)
REQUEST = RequestCompleted(
    id="req_1", method="POST", route="/v1/images/generations", status=200, seconds=1.0, waited_seconds=0.99
)
FAILOVER = FailoverStarted(
    job="job_1", attempt=2, from_seller="s", to_seller="t", reason=FaultKind.UNAVAILABLE, config=""
)
PRICE_MISMATCH = PriceMismatch(**OFFER, attempt=1, model="m", expected_price=50_000, charged_price=60_000)
SAMPLE_EVENTS: tuple[Event, ...] = (
    *(ACCEPTED, RECORDED, ATTEMPT_ENDED, CAPTURE, JOB_ENDED, REQUEST, FAILOVER, PRICE_MISMATCH),
    replace(ATTEMPT_ENDED, fault=FaultKind.UNAVAILABLE),
    replace(CAPTURE, amount=-50_000),
    OfferSkipped(**OFFER, fault=FaultKind.OVERLOADED),
    LateImagesReceived(job="job_1", attempt=1, seller="s", images=1),
    JobReclaimed(job="job_1", reclaims=1, config="c"),
    RateLimitExceeded(team="a", owner="key", limit="requests"),
    BatchEnded(batch="batch_1", team="a", status="completed", lines=3, completed=2, failed=1, seconds=9.0),
    ApiKeyChanged(action="created", key="k", team="a", actor="b", source="127.0.0.1"),
    ErrorReported(component="store", message="m", task="store.listen"),
    TaskRecovered(task="store.listen", failures=1, seconds=1.0),
    CallbackHandled(adapter="runapi", outcome=CallbackOutcome.ACCEPTED),
    ConfigReloaded(applied=True, config="c", problems=0),
)
