"""A job's first commit: creates the job and holds its maximum cost."""

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from gateway.jobs.budgets import NO_BUDGET_LIMITS, BudgetLimits, KeyBudget, list_job_limits
from gateway.jobs.commit import Commit, IdempotencyRecord, build_commit
from gateway.jobs.job import DEFAULT_JOB_RETENTION, Job, JobRetention, Part, RouteEntry, find_split_index
from gateway.timeouts_and_intervals import DEFAULT_JOB_TIMING, JobTiming


class OrderCost(Struct, frozen=True):
    """Cost of an order besides its images: expected price and ceiling."""

    price: int
    ceiling: int


class NewJob(Struct, frozen=True, kw_only=True):
    """The input of a new job. `order_costs`: one for each route entry, or empty. `budget_limits`: of its team;
    `key_budget`: of its API key, None if it has none. `split_count`: the first entries of the route that get a part
    of the images each."""

    id: str
    team: str
    model: str
    n: int
    route: tuple[RouteEntry, ...]
    order_costs: tuple[OrderCost, ...] = ()
    deadline_seconds: float = 900.0
    max_attempts: int = 3
    reorder_on_unknown: bool = False
    config_hash: str = ""
    has_webhook: bool = False
    warnings: tuple[str, ...] = ()
    budget_limits: BudgetLimits = NO_BUDGET_LIMITS
    key_budget: KeyBudget | None = None
    idempotency: IdempotencyRecord | None = None
    documents: Mapping[str, bytes] = {}
    decision_record: bytes | None = None
    timing: JobTiming = DEFAULT_JOB_TIMING
    key_id: str = ""
    labels: tuple[str, ...] = ()
    batch_id: str = ""
    traceparent: str | None = None
    tracestate: str | None = None
    split_count: int = 1
    retention: JobRetention = DEFAULT_JOB_RETENTION


def build_first_commit(new_job: NewJob, now: float) -> Commit:
    """Builds the first commit. Raises ValueError for a job without images or without a route: a bug of the caller."""
    if new_job.n < 1 or not new_job.route:
        raise ValueError("a job needs at least one image and one route entry")
    record = new_job.idempotency
    job = Job(
        id=new_job.id,
        team=new_job.team,
        model=new_job.model,
        created_at=now,
        deadline=now + new_job.deadline_seconds,
        n=new_job.n,
        route=new_job.route,
        hold_per_image=max([entry.ceiling for entry in new_job.route]),
        hold_per_order=max([cost.ceiling for cost in new_job.order_costs], default=0),
        order_prices=_omit_if_all_zero(tuple([cost.price for cost in new_job.order_costs])),
        max_attempts=new_job.max_attempts,
        reorder_on_unknown=new_job.reorder_on_unknown,
        config_hash=new_job.config_hash,
        has_webhook=new_job.has_webhook,
        body_key=record.key if record and record.is_body_key else None,
        client_key=record.key if record and not record.is_body_key else None,
        parts=_split_images(new_job.n, new_job.split_count),
        split_count=new_job.split_count,
        warnings=new_job.warnings,
        timing=new_job.timing,
        key_id=new_job.key_id,
        labels=new_job.labels,
        batch_id=new_job.batch_id,
        traceparent=new_job.traceparent,
        tracestate=new_job.tracestate,
        budget_key=new_job.key_budget.key_id if new_job.key_budget else "",
        retention=new_job.retention,
    )
    commit = build_commit(None, job, now)
    return replace(
        commit,
        budget_limits=list_job_limits(job.team, new_job.budget_limits, new_job.key_budget, now),
        idempotency=new_job.idempotency,
        documents=new_job.documents,
        decision_record=new_job.decision_record,
    )


def _split_images(n: int, split_count: int) -> tuple[Part, ...]:
    images_by_index: dict[int, list[int]] = {}
    for image in range(n):
        images_by_index.setdefault(find_split_index(image, n, split_count), []).append(image)
    return tuple([Part(images=tuple(images)) for images in images_by_index.values()])


def _omit_if_all_zero(prices: tuple[int, ...]) -> tuple[int, ...]:
    return prices if any(prices) else ()
