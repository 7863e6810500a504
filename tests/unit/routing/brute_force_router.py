"""A router by brute force: slow, with exact fractions, and without code of the real router. It reads only the
catalogue's offers, the policy and the request."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

from gateway.catalogue import Offer
from gateway.config.policy_schema import PolicyConfig
from gateway.config.schema import TeamConfig
from gateway.routing.routing_request import RoutingRequest
from gateway.routing.signals import CellSignals
from providers.orders import Cell


@dataclass(frozen=True)
class Bid:
    """An offer's price and properties for a request, computed independently."""

    offer: Offer
    request: RoutingRequest
    total: int
    shortcomings: int
    signals: CellSignals

    @property
    def p50_seconds(self) -> float:
        if self.signals.p50 is not None:
            return self.signals.p50
        return self.offer.expected_latency[self.request.quality].p50

    @property
    def p90_seconds(self) -> float:
        if self.signals.p90 is not None:
            return self.signals.p90
        return self.offer.expected_latency[self.request.quality].p90


def list_bids(offers: list[Offer], request: RoutingRequest, signals: dict[Any, CellSignals]) -> list[Bid]:
    """Lists every offer that can fulfil the request, with its exact price."""
    bids = []
    for offer in offers:
        if offer.model != request.model:
            continue
        cell = Cell(request.operation, request.target.resolution, request.quality)
        shortcomings = _count_shortcomings(offer, request)
        if shortcomings is None or cell not in offer.prices:
            continue
        price = offer.prices[cell].price
        cell_signals = signals.get((offer.seller.name, offer.model, cell), CellSignals())
        total = sum(price for _ in range(request.n)) + _price_input_tokens(offer, request) * len(
            _split_into_orders(offer, request.n)
        )
        bids.append(Bid(offer, request, total, shortcomings, cell_signals))
    return bids


def _split_into_orders(offer: Offer, n: int) -> list[int]:
    """Returns the number of images of each order."""
    if n <= offer.images_per_order:
        return [n]
    return [offer.images_per_order, *_split_into_orders(offer, n - offer.images_per_order)]


def _price_input_tokens(offer: Offer, request: RoutingRequest) -> int:
    """Returns the expected cost of one order's prompt and inputs at a seller that bills by tokens, in micro-USD."""
    if offer.token_prices is None:
        return 0
    text = ceil(Fraction(request.prompt_bytes, 4))
    images = 1_024 * request.input_count
    millionth = Fraction(1, 1_000_000)
    return ceil((text * int(offer.token_prices.input_text) + images * int(offer.token_prices.input_image)) * millionth)


def _count_shortcomings(offer: Offer, request: RoutingRequest) -> int | None:
    """Counts the differences between request and result; None if the offer cannot fulfil the request."""
    sizing = offer.size_options.get(request.operation)
    is_able = offer.seller.account.api_key is not None and sizing is not None
    is_able = is_able and request.input_count <= offer.max_inputs
    is_able = is_able and (not request.has_mask or offer.supports_mask)
    is_able = is_able and (offer.assumed_quality is not None or request.quality in offer.selectable_qualities)
    if not is_able or sizing is None:
        return None
    size_shortcoming = _count_size_shortcomings(sizing, request)
    if size_shortcoming is None:
        return None
    count = size_shortcoming + (1 if offer.unverified_note else 0)
    if offer.assumed_quality is not None and (request.has_explicit_quality or offer.assumed_quality != request.quality):
        count += 1
    return count


def _count_size_shortcomings(sizing: Any, request: RoutingRequest) -> int | None:
    width, height = request.target.width, request.target.height
    if f"{width}x{height}" in sizing.presets.values() or sizing.pixels == "exact":
        return 0
    for ratio in sizing.ratios:
        ratio_width, ratio_height = ratio.split(":")
        ratio_value, requested = Fraction(int(ratio_width), int(ratio_height)), Fraction(width, height)
        is_near = max(ratio_value / requested, requested / ratio_value) <= 1 + Fraction(2, 100)
        is_sold = sizing.resolutions is None or request.target.resolution in sizing.resolutions
        is_sold = is_sold and f"{ratio}@{request.target.resolution}" not in sizing.unsold
        if is_near and is_sold:
            is_inexact = abs(ratio_value / requested - 1) > Fraction(1, 1_000)
            return int(request.has_explicit_size) + int(is_inexact)
    return 1 if sizing.pixels == "unverified" else None


def is_admitted(bid: Bid, policy: PolicyConfig, team: TeamConfig) -> bool:
    name = bid.offer.seller.name
    total = Fraction(bid.total)
    is_allowed = policy.sellers is None or name in policy.sellers
    is_allowed = is_allowed and (policy.only is None or name in policy.only) and name not in policy.ignore
    is_allowed = is_allowed and (policy.weights is None or policy.weights.get(name, 0) > 0)
    is_allowed = is_allowed and (policy.max_cost is None or total <= policy.max_cost)
    is_allowed = is_allowed and (policy.max_price is None or total / bid.request.n <= policy.max_price)
    is_allowed = is_allowed and (team.max_cost is None or total <= team.max_cost)
    is_allowed = is_allowed and (team.max_price is None or total / bid.request.n <= team.max_price)
    is_too_slow = policy.max_seconds is not None and bid.p90_seconds > policy.max_seconds
    is_allowed = is_allowed and (policy.rank == "deadline" or not is_too_slow)
    for regions in (policy.regions, team.regions):
        is_allowed = is_allowed and (regions is None or bid.offer.seller.account.region in regions)
    if policy.fidelity == "exact":
        is_allowed = is_allowed and bid.shortcomings == 0
        is_allowed = is_allowed and bid.signals.faithful
    return is_allowed


def find_winner(bids: list[Bid], policy: PolicyConfig, team: TeamConfig) -> Bid | None:
    """Returns the seller that the policy ranks first. Not for `weighted`, which is random."""
    candidates = [bid for bid in bids if is_admitted(bid, policy, team)]
    healthy = [bid for bid in candidates if bid.signals.healthy]
    faithful = [bid for bid in healthy if bid.signals.faithful]
    candidates = faithful or healthy or candidates
    if not candidates:
        return None
    below_limit = [bid for bid in candidates if bid.signals.load < 1]
    # Sellers at their limit come last, but all sellers are ranked together.
    ranked = _rank_bids(candidates, policy)
    if policy.rank == "deadline" and policy.max_seconds is not None:
        late = [bid for bid in candidates if bid.p90_seconds > policy.max_seconds]
        in_time = [bid for bid in candidates if bid not in late]
        ranked = [*_rank_bids(in_time, policy), *_rank_late_bids(late)]
    return next(bid for bid in ranked if not below_limit or bid in below_limit)


def _rank_late_bids(bids: list[Bid]) -> list[Bid]:
    fastest = min((bid.p90_seconds for bid in bids), default=0.0)
    groups = [[bid for bid in bids if bid.p90_seconds == fastest], [bid for bid in bids if bid.p90_seconds != fastest]]
    cheapest = PolicyConfig(rank="cost")
    return [*_rank_bids(groups[0], cheapest), *(_rank_late_bids(groups[1]) if groups[1] else [])]


def _rank_bids(candidates: list[Bid], policy: PolicyConfig) -> list[Bid]:
    """Ranks by one criterion after the other; ties of one are ordered by the next."""
    slack = Fraction(policy.within, 10_000)
    criteria: list[tuple[Callable[[Bid], Any], Fraction, Fraction]] = [
        (lambda bid: _get_value(bid, policy.rank, policy), slack, Fraction(0)),
        (lambda bid: _get_value(bid, policy.then, policy), *_get_tolerance(policy.then)),
        (lambda bid: _get_value(bid, policy.rank, policy), Fraction(0), Fraction(0)),
        (lambda bid: Fraction(bid.total), Fraction(0), Fraction(0)),
        (lambda bid: Fraction(bid.p50_seconds), *_get_tolerance("latency")),
        (lambda bid: Fraction(bid.shortcomings), Fraction(0), Fraction(0)),
        (
            lambda bid: -Fraction(1 if bid.signals.conformance is None else bid.signals.conformance),
            Fraction(0),
            Fraction(0),
        ),
        (lambda bid: Fraction(bid.offer.position), Fraction(0), Fraction(0)),
    ]
    groups = [candidates]
    for value, share, absolute in criteria:
        groups = [part for group in groups for part in _split_ties(group, value, share, absolute)]
    return [bid for group in groups for bid in group]


def _get_tolerance(rank: str) -> tuple[Fraction, Fraction]:
    """Returns the relative and absolute tolerance of a criterion: 10 % or one second for latency."""
    return (Fraction(1, 10), Fraction(1)) if rank == "latency" else (Fraction(0), Fraction(0))


def _split_ties(group: list[Bid], value: Callable[[Bid], Any], share: Fraction, absolute: Fraction) -> list[list[Bid]]:
    rest, parts = list(group), []
    while rest:
        best = min(value(bid) for bid in rest)
        limit = max(best + abs(best) * share, best + absolute)
        parts.append([bid for bid in rest if value(bid) <= limit])
        rest = [bid for bid in rest if value(bid) > limit]
    return parts


def _get_value(bid: Bid, rank: str, policy: PolicyConfig) -> Fraction:
    if rank in ("cost", "deadline"):
        return Fraction(bid.total)
    if rank == "latency":
        return Fraction(bid.p50_seconds)
    sellers = list(policy.sellers or ())
    return Fraction(sellers.index(bid.offer.seller.name))
