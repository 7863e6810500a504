"""A job's first commit: accepted, paid for in advance, and owned by whoever accepted it."""

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from gateway.jobs.commit import BudgetMove, Commit, IdempotencyRecord, Limits, difference, windows_of
from gateway.jobs.job import Job, Part, Place


class OrderCost(Struct, frozen=True):
    """What an order costs besides its images: `price` is expected, `ceiling` the most that is conceivable."""

    price: int
    ceiling: int


class Acceptance(Struct, frozen=True, kw_only=True):
    """What a request becomes a job with. `order_costs`: one for each place of the route, or none at all."""

    id: str
    team: str
    model: str
    n: int
    route: tuple[Place, ...]
    order_costs: tuple[OrderCost, ...] = ()
    seconds: float = 900.0
    tries: int = 3
    reorder: bool = False
    config: str = ""
    webhook: bool = False
    warnings: tuple[str, ...] = ()
    limits: Limits = Limits()
    idempotency: IdempotencyRecord | None = None
    documents: Mapping[str, bytes] = {}


def accept(asked: Acceptance, now: float) -> Commit:
    """ValueError if there is nothing to buy, or nobody to buy it from: a mistake of ours, not the caller's."""
    if asked.n < 1 or not asked.route:
        raise ValueError("a job needs an image to buy and somebody to buy it from")
    record = asked.idempotency
    job = Job(
        id=asked.id,
        team=asked.team,
        model=asked.model,
        created=now,
        deadline=now + asked.seconds,
        n=asked.n,
        route=asked.route,
        unit=max(place.ceiling for place in asked.route),
        order_hold=max((cost.ceiling for cost in asked.order_costs), default=0),
        order_prices=_unless_all_zero(tuple(cost.price for cost in asked.order_costs)),
        tries=asked.tries,
        reorder=asked.reorder,
        config=asked.config,
        webhook=asked.webhook,
        soft_key=record.key if record and record.soft else None,
        hard_key=record.key if record and not record.soft else None,
        parts=(Part(images=tuple(range(asked.n))),),
        warnings=asked.warnings,
    )
    commit = difference(None, replace(job, version=1), now)
    return replace(
        commit,
        budget=tuple(_with_limit(move, asked.limits, now) for move in commit.budget),
        idempotency=asked.idempotency,
        documents=asked.documents,
    )


def _unless_all_zero(prices: tuple[int, ...]) -> tuple[int, ...]:
    return prices if any(prices) else ()


def _with_limit(move: BudgetMove, limits: Limits, now: float) -> BudgetMove:
    day, _ = windows_of(now)
    return replace(move, limit=limits.day if move.window == day else limits.month)
