"""The same question answered by brute force: slowly, with exact fractions, and sharing no code with the router.

It reads only data: offers as they are in the catalogue, the policy's words, the request.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

from gateway.catalogue import Cell, Offer
from gateway.config.blocks import PolicyConfig, TeamConfig
from gateway.routing.signals import CellSignals
from providers.orders import ImageRequest


@dataclass(frozen=True)
class Bid:
    """What an offer would take, as far as an outsider can tell."""

    offer: Offer
    request: ImageRequest
    total: int
    shortcomings: int
    signals: CellSignals

    @property
    def seconds(self) -> float:
        if self.signals.p50 is not None:
            return self.signals.p50
        return self.offer.seconds[self.request.quality].p50

    @property
    def slow(self) -> float:
        if self.signals.p90 is not None:
            return self.signals.p90
        return self.offer.seconds[self.request.quality].p90


def bids(offers: list[Offer], request: ImageRequest, signals: dict[Any, CellSignals]) -> list[Bid]:
    """Every offer that can do it, with its price to the micro-dollar."""
    found = []
    for offer in offers:
        if offer.model != request.model:
            continue
        cell = Cell(request.operation, request.target.resolution, request.quality)
        short = _shortcomings(offer, request)
        if short is None or cell not in offer.prices:
            continue
        price = offer.prices[cell].price
        known = signals.get((offer.seller.name, offer.model, cell), CellSignals())
        total = sum(price for _ in range(request.n)) + _goes_in(offer, request) * len(_orders(offer, request.n))
        found.append(Bid(offer, request, total, short, known))
    return found


def _orders(offer: Offer, n: int) -> list[int]:
    """How many images each order is for."""
    if n <= offer.images_per_order:
        return [n]
    return [offer.images_per_order, *_orders(offer, n - offer.images_per_order)]


def _goes_in(offer: Offer, request: ImageRequest) -> int:
    """What a seller who bills by tokens is expected to bill for prompt and inputs of one order, in micro-USD."""
    if offer.tokens is None:
        return 0
    text = ceil(Fraction(len(request.prompt.encode("utf-8")), 4))
    images = sum(1_024 for _ in request.sources)
    millionth = Fraction(1, 1_000_000)
    return ceil((text * int(offer.tokens.input_text) + images * int(offer.tokens.input_image)) * millionth)


def _shortcomings(offer: Offer, request: ImageRequest) -> int | None:
    """How many things would come out otherwise than asked; None if it cannot be done at all."""
    sizing = offer.sizings.get(request.operation)
    able = offer.seller.account.secret is not None and sizing is not None
    able = able and len(request.sources) <= offer.inputs
    able = able and (request.mask is None or offer.mask)
    able = able and (offer.assumes is not None or request.quality in offer.selectable)
    if not able or sizing is None:
        return None
    by_size = _size_shortcoming(sizing, request)
    if by_size is None:
        return None
    short = by_size + (1 if offer.unverified else 0)
    if offer.assumes is not None and (request.quality_asked or offer.assumes != request.quality):
        short += 1
    return short


def _size_shortcoming(sizing: Any, request: ImageRequest) -> int | None:
    width, height = request.target.width, request.target.height
    if f"{width}x{height}" in sizing.presets.values() or sizing.pixels == "exact":
        return 0
    for ratio in sizing.ratios:
        wide, high = ratio.split(":")
        wanted, given = Fraction(int(wide), int(high)), Fraction(width, height)
        near = max(wanted / given, given / wanted) <= 1 + Fraction(2, 100)
        sold = request.target.resolution in sizing.resolutions
        sold = sold and f"{ratio}@{request.target.resolution}" not in sizing.unsold
        if near and sold:
            bent = abs(wanted / given - 1) > Fraction(1, 1_000)
            return int(request.pixels_asked) + int(bent)
    return 1 if sizing.pixels == "unverified" else None


def admitted(bid: Bid, policy: PolicyConfig, team: TeamConfig) -> bool:
    name = bid.offer.seller.name
    each = Fraction(bid.total)
    ok = policy.sellers is None or name in policy.sellers
    ok = ok and (policy.only is None or name in policy.only) and name not in policy.ignore
    ok = ok and (policy.weights is None or policy.weights.get(name, 0) > 0)
    ok = ok and (policy.max_cost is None or each <= policy.max_cost)
    ok = ok and (policy.max_price is None or each / bid.request.n <= policy.max_price)
    ok = ok and (team.max_cost is None or each <= team.max_cost)
    ok = ok and (team.max_price is None or each / bid.request.n <= team.max_price)
    ok = ok and (policy.max_seconds is None or bid.slow <= policy.max_seconds)
    if policy.fidelity == "exact":
        ok = ok and bid.shortcomings == 0
        ok = ok and bid.signals.faithful
    return ok


def winner(found: list[Bid], policy: PolicyConfig, team: TeamConfig) -> Bid | None:
    """Whom the policy's words name first. Not for `weighted`, where chance has a say."""
    left = [bid for bid in found if admitted(bid, policy, team)]
    healthy = [bid for bid in left if bid.signals.healthy]
    faithful = [bid for bid in healthy if bid.signals.faithful]
    left = faithful or healthy or left
    if not left:
        return None
    free = [bid for bid in left if bid.signals.load < 1]
    # Those at their limit come after everybody else, but the ranking is made among all.
    ranked = _ranked(left, policy)
    return next(bid for bid in ranked if not free or bid in free)


def _ranked(left: list[Bid], policy: PolicyConfig) -> list[Bid]:
    """Ranks by one word after the other: bids that are nearly equal by one are ordered by the next."""
    slack = Fraction(policy.within, 10_000)
    words: list[tuple[Callable[[Bid], Any], Fraction, Fraction]] = [
        (lambda bid: _value(bid, policy.rank, policy), slack, Fraction(0)),
        (lambda bid: _value(bid, policy.then, policy), *_slack_of(policy.then)),
        (lambda bid: _value(bid, policy.rank, policy), Fraction(0), Fraction(0)),
        (lambda bid: Fraction(bid.total), Fraction(0), Fraction(0)),
        (lambda bid: Fraction(bid.seconds), *_slack_of("latency")),
        (lambda bid: Fraction(bid.shortcomings), Fraction(0), Fraction(0)),
        (
            lambda bid: -Fraction(1 if bid.signals.conformance is None else bid.signals.conformance),
            Fraction(0),
            Fraction(0),
        ),
        (lambda bid: Fraction(bid.offer.position), Fraction(0), Fraction(0)),
    ]
    groups = [left]
    for value, share, more in words:
        groups = [part for group in groups for part in _parted(group, value, share, more)]
    return [bid for group in groups for bid in group]


def _slack_of(rank: str) -> tuple[Fraction, Fraction]:
    """How much of the best, and how much besides, counts for nothing: a tenth of the seconds, or one of them."""
    return (Fraction(1, 10), Fraction(1)) if rank == "latency" else (Fraction(0), Fraction(0))


def _parted(group: list[Bid], value: Callable[[Bid], Any], share: Fraction, more: Fraction) -> list[list[Bid]]:
    rest, parts = list(group), []
    while rest:
        best = min(value(bid) for bid in rest)
        limit = max(best + abs(best) * share, best + more)
        parts.append([bid for bid in rest if value(bid) <= limit])
        rest = [bid for bid in rest if value(bid) > limit]
    return parts


def _value(bid: Bid, rank: str, policy: PolicyConfig) -> Fraction:
    if rank == "cost":
        return Fraction(bid.total)
    if rank == "latency":
        return Fraction(bid.seconds)
    listed = list(policy.sellers or ())
    return Fraction(listed.index(bid.offer.seller.name))
