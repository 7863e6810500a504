"""An event of each class."""

from typing import Any

from msgspec.structs import replace

from gateway.access.budget_events import BudgetOverrideChanged, BudgetThresholdReached
from gateway.engine.account_events import AccountRefused, AccountRestored
from gateway.engine.canary_events import CanaryPassed
from gateway.engine.moderation_events import ModerationAnswered
from gateway.events import (
    ApiKeyChanged,
    AttemptEnded,
    AttemptRecorded,
    BatchEnded,
    CallbackHandled,
    CallbackOutcome,
    CommitResult,
    ConfigReloaded,
    ErrorReported,
    Event,
    FailoverStarted,
    ImageStored,
    JobAccepted,
    JobEnded,
    JobReclaimed,
    LateImagesReceived,
    LedgerEntryPosted,
    OfferSkipped,
    OrderAccepted,
    OrderObserved,
    OrderSlotGranted,
    PriceMismatch,
    RateLimitExceeded,
    RequestCompleted,
    SellerCallEnded,
    SellerCallStep,
    StoreCommitted,
    TaskRecovered,
)
from gateway.jobs.job import JobState
from gateway.jobs.transition_tables import LedgerLine
from gateway.webhooks.webhook_events import WebhookAttempted, WebhookTargetChanged
from providers.faults import FaultKind
from providers.orders import Cell, Operation

CELL = Cell(Operation.GENERATE, "1k", "high")
JOB: dict[str, Any] = {"job": "job_1", "cell": CELL, "images": 1, "config": "c", "at": 1_790_000_000.0}
TEAM_AND_MODEL: dict[str, Any] = {"team": "a", "model": "m"}
ATTEMPT: dict[str, Any] = JOB | {"attempt": 1, "seller": "s"}
OFFER: dict[str, Any] = {"job": "job_1", "seller": "s", "cell": CELL, "config": "c", "at": 1_790_000_000.0}
DELIVERY: dict[str, Any] = {"delivered": 1, "seconds": 1.0, "fault": None}
ACCEPTED = JobAccepted(**JOB, **TEAM_AND_MODEL, policy="cheapest")
RECORDED = AttemptRecorded(**ATTEMPT)
ATTEMPT_ENDED = AttemptEnded(**ATTEMPT, **TEAM_AND_MODEL, **DELIVERY, expected_seconds=0.4)
CAPTURE = LedgerEntryPosted(**ATTEMPT, **TEAM_AND_MODEL, line=LedgerLine.CAPTURE, amount=50_000, day="2026-11-27")
JOB_ENDED = JobEnded(
    **JOB,
    **TEAM_AND_MODEL,
    **DELIVERY,
    queued_seconds=0.1,
    state=JobState.COMPLETED,
    sellers=("s",),
    captured_amount=50_000,
)
REQUEST = RequestCompleted(
    at=1_790_000_000.0,
    id="req_1",
    method="POST",
    route="/v1/images/generations",
    status=200,
    seconds=1.0,
    waited_seconds=0.99,
)
FAILOVER = FailoverStarted(
    at=1_790_000_000.0, job="job_1", attempt=2, from_seller="s", to_seller="t", reason=FaultKind.UNAVAILABLE, config=""
)
PRICE_MISMATCH = PriceMismatch(
    **OFFER, attempt=1, model="m", expected_price=50_000, charged_price=60_000, difference=10_000
)
IMAGE_STORED = ImageStored(
    **OFFER, attempt=1, model="m", bytes=9, download_seconds=0.2, store_seconds=0.1, is_as_ordered=False
)
SELLER_CALL = SellerCallEnded(
    at=1_790_000_000.0,
    job="job_1",
    config="c",
    seller="s",
    attempt=1,
    step=SellerCallStep.POLL,
    seconds=0.1,
    status=200,
)
WEBHOOK_DELIVERED = WebhookAttempted(
    at=1_790_000_000.0,
    delivery="delivery_1",
    name="job.completed",
    team="a",
    job="job_1",
    target=None,
    outcome="delivered",
    status=204,
    attempt=1,
    seconds=0.1,
    delivery_status="delivered",
    age_seconds=1.2,
)
MODERATION_ANSWERED = ModerationAnswered(
    at=1_790_000_000.0,
    hook="before",
    team="a",
    job=None,
    outcome="allowed",
    status=200,
    seconds=0.1,
    is_allowed=True,
)
SAMPLE_EVENTS: tuple[Event, ...] = (
    *(ACCEPTED, RECORDED, ATTEMPT_ENDED, CAPTURE, JOB_ENDED, REQUEST, FAILOVER, PRICE_MISMATCH),
    replace(ATTEMPT_ENDED, fault=FaultKind.UNAVAILABLE),
    replace(JOB_ENDED, state=JobState.FAILED, fault=FaultKind.UNAVAILABLE),
    replace(CAPTURE, amount=-50_000),
    AccountRefused(account="a", seller="s", fault=FaultKind.NO_CREDIT, remedy="Add credit."),
    AccountRestored(account="a", fault=FaultKind.NO_CREDIT, balance=20_000_000),
    OrderSlotGranted(**OFFER, account="a", seconds=0.0),
    OrderAccepted(**OFFER, attempt=1, seconds=0.5),
    OrderObserved(**OFFER, attempt=1, polls=2, lag_seconds=0.5, saved_seconds=1.5),
    IMAGE_STORED,
    MODERATION_ANSWERED,
    OfferSkipped(**OFFER, fault=FaultKind.OVERLOADED),
    LateImagesReceived(at=1_790_000_000.0, job="job_1", config="c", attempt=1, seller="s", images=1),
    StoreCommitted(outcome=CommitResult.APPLIED, seconds=0.002),
    SELLER_CALL,
    JobReclaimed(at=1_790_000_000.0, job="job_1", reclaims=1, config="c"),
    RateLimitExceeded(team="a", owner="key", limit="requests"),
    CanaryPassed(policy="cheapest", seller="runapi", images=500),
    BatchEnded(batch="batch_1", team="a", status="completed", lines=3, completed=2, failed=1, seconds=9.0),
    WEBHOOK_DELIVERED,
    replace(WEBHOOK_DELIVERED, outcome="refused", status=500, delivery_status="failed"),
    ApiKeyChanged(action="created", key="k", team="a", actor="b", source="127.0.0.1"),
    BudgetOverrideChanged(
        action="budget_raised",
        override="override_1",
        team="a",
        key=None,
        window="day",
        configured=1_000_000,
        limit=2_000_000,
        until=1_790_000_000.0,
        actor="b",
        source="127.0.0.1",
    ),
    BudgetThresholdReached(
        at=1_790_000_000.0,
        team="a",
        key="k",
        window="day",
        period="2026-11-28",
        threshold=80,
        limit=1_000_000,
        spent=810_000,
    ),
    WebhookTargetChanged(action="webhook_target_added", team="a", target="orders", actor="b", source="127.0.0.1"),
    ErrorReported(component="store", message="m", task="store.listen"),
    TaskRecovered(task="store.listen", failures=1, seconds=1.0),
    CallbackHandled(adapter="runapi", outcome=CallbackOutcome.ACCEPTED),
    ConfigReloaded(applied=True, config="c", problems=0),
)
