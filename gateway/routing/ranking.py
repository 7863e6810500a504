"""Ranks candidates by a policy: cost, latency, cost within a deadline, list order or weight."""

from collections.abc import Callable, Mapping, Sequence
from operator import eq
from typing import NamedTuple

from msgspec import Struct

from gateway.config.policy_schema import PolicyConfig, Rank
from gateway.routing.fit import Fit
from gateway.routing.quote import Quote
from gateway.routing.signals import CellSignals


class Candidate(Struct, frozen=True):
    """An offer that fits, with its quote, expected latency and signals."""

    fit: Fit
    quote: Quote
    expected_seconds: float
    p90_seconds: float
    signals: CellSignals

    @property
    def seller(self) -> str:
        return self.fit.offer.seller.name

    @property
    def is_available(self) -> bool:
        """Whether it is not ranked behind others because of its signals."""
        return self.signals.health_rank == 0 and self.signals.load < 1


Ranking = list[Candidate]
SortValue = Callable[[Candidate], float]
# Latencies tie if they differ by at most 10 % or by at most one second.
SIMILAR_SECONDS = 1.0


class SortKey(NamedTuple):
    """The value that candidates are sorted by. Candidates tie with the best one if `is_equal` accepts both values."""

    value: SortValue
    is_equal: Callable[[float, float], bool] = eq


def rank_candidates(
    candidates: Sequence[Candidate], policy: PolicyConfig, draw: float, deadline: float | None = None
) -> Ranking:
    """Ranks candidates by the policy's rank. `draw` in [0, 1) is the random value for a weighted policy. `deadline`: in
    seconds, for a policy of rank deadline.

    Cells that deliver something else than ordered come after those that do not, unhealthy cells last. Each group is
    ranked by itself, and no candidate is excluded.
    """
    if len(candidates) < 2:
        return list(candidates)
    health_ranks = sorted({candidate.signals.health_rank for candidate in candidates})
    if len(health_ranks) < 2:
        return _rank_group(candidates, policy, draw, deadline)
    groups = (
        [candidate for candidate in candidates if candidate.signals.health_rank == health_rank]
        for health_rank in health_ranks
    )
    return [candidate for group in groups for candidate in _rank_group(group, policy, draw, deadline)]


def _rank_group(candidates: Sequence[Candidate], policy: PolicyConfig, draw: float, deadline: float | None) -> Ranking:
    if policy.rank == "weighted":
        ranked = rank_by_weight(candidates, policy.weights or {}, draw)
    elif policy.rank == "deadline" and deadline is not None:
        in_time = [candidate for candidate in candidates if candidate.p90_seconds <= deadline]
        late = [candidate for candidate in candidates if candidate.p90_seconds > deadline]
        ranked = [*rank_with_ties(in_time, _sort_keys(policy)), *rank_with_ties(late, LATE_KEYS)]
    else:
        ranked = rank_with_ties(candidates, _sort_keys(policy))
    # An order at a seller at its limit would have to wait, so these sellers come last.
    return sorted(ranked, key=lambda candidate: candidate.signals.load >= 1)


def move_to_front(ranking: Ranking, seller: str) -> Ranking:
    """Moves a seller to the front, unless its signals rank it behind others."""
    front = [candidate for candidate in ranking if candidate.seller == seller and candidate.is_available]
    return [*front, *[candidate for candidate in ranking if candidate not in front]]


def rank_with_ties(candidates: Sequence[Candidate], keys: Sequence[SortKey]) -> Ranking:
    """Sorts by the first key; candidates that tie with the best are sorted by the next key, and so on."""
    if len(candidates) < 2 or not keys:
        return list(candidates)
    (value, is_equal), other_keys = keys[0], keys[1:]
    remaining = sorted(candidates, key=value)
    result: Ranking = []
    start = 0
    while start < len(remaining):
        best, end = value(remaining[start]), start + 1
        while end < len(remaining) and is_equal(value(remaining[end]), best):
            end += 1
        result += rank_with_ties(remaining[start:end], other_keys) if end - start > 1 else remaining[start:end]
        start = end
    return result


def _expected_cost(candidate: Candidate) -> float:
    return candidate.quote.total


def _expected_latency(candidate: Candidate) -> float:
    return candidate.expected_seconds


def _list_position(policy: PolicyConfig) -> SortValue:
    positions = {seller: position for position, seller in enumerate(policy.sellers or ())}
    return lambda candidate: positions.get(candidate.seller, len(positions))


def _sort_value(rank: Rank, policy: PolicyConfig) -> SortValue:
    if rank == "listed":
        return _list_position(policy)
    return _expected_latency if rank == "latency" else _expected_cost


def _make_tolerance_check(policy: PolicyConfig) -> Callable[[float, float], bool]:
    max_ratio = 10_000 + policy.within
    return lambda value, best: value * 10_000 <= best * max_ratio


def _is_similar_latency(seconds: float, best: float) -> bool:
    """Returns whether two latencies count as equal: repeated measurements of one seller differ as much."""
    return seconds * 10 <= best * 11 or seconds - best <= SIMILAR_SECONDS


def _sort_keys(policy: PolicyConfig) -> tuple[SortKey, ...]:
    """Returns the policy's two ranks, then the keys that break every remaining tie."""
    first = _sort_value(policy.rank, policy)
    second = (
        SortKey(_expected_latency, _is_similar_latency)
        if policy.then == "latency"
        else SortKey(_sort_value(policy.then, policy))
    )
    return (SortKey(first, _make_tolerance_check(policy)), second, SortKey(first), *TIE_BREAK_KEYS)


def _conformance_value(candidate: Candidate) -> float:
    conformance = candidate.signals.conformance
    return -1.0 if conformance is None else -conformance


# Price, latency, number of substitutions, measured conformance and order of the files.
TIE_BREAK_KEYS = (
    SortKey(_expected_cost),
    SortKey(_expected_latency, _is_similar_latency),
    SortKey(lambda candidate: len(candidate.fit.substitutions)),
    SortKey(_conformance_value),
    SortKey(lambda candidate: candidate.fit.offer.position),
)
# Of sellers that are not ready within the deadline, the fastest first.
LATE_KEYS = (SortKey(lambda candidate: candidate.p90_seconds), *TIE_BREAK_KEYS)


def rank_by_weight(candidates: Sequence[Candidate], weights: Mapping[str, float], draw: float) -> Ranking:
    """Ranks by weighted random choice from a single draw."""
    remaining = sorted(candidates, key=lambda candidate: candidate.fit.offer.position)
    shares = [weights[candidate.seller] for candidate in remaining]
    result: Ranking = []
    while remaining:
        index, draw = _pick_share(shares, draw * sum(shares))
        result.append(remaining.pop(index))
        del shares[index]
    return result


def _pick_share(shares: Sequence[float], point: float) -> tuple[int, float]:
    """Returns the index of the share that contains the point, and the relative position within it."""
    for index, share in enumerate(shares):
        if point < share:
            return index, point / share
        point -= share
    # Rounding may move the point past the end.
    return len(shares) - 1, 0.0
