"""The ranks: each a small pure function that puts candidates in order."""

from collections.abc import Callable, Mapping, Sequence
from operator import eq
from typing import NamedTuple

from msgspec import Struct

from gateway.config.schema import PolicyConfig, Rank
from gateway.routing.fit import Fit
from gateway.routing.quote import Quote
from gateway.routing.signals import CellSignals


class Candidate(Struct, frozen=True):
    """An offer that fits, with what it costs, how long it takes, and what is known of it."""

    fit: Fit
    quote: Quote
    expected_seconds: float
    p90_seconds: float
    signals: CellSignals

    @property
    def seller(self) -> str:
        return self.fit.offer.seller.name


Ranking = list[Candidate]
SortValue = Callable[[Candidate], float]
# Seconds are equal within a tenth of the fewest, or within one.
SIMILAR_SECONDS = 1.0


class SortKey(NamedTuple):
    """What candidates are compared by, and which values count as equal to the best one."""

    value: SortValue
    is_equal: Callable[[float, float], bool] = eq


def rank_candidates(candidates: Sequence[Candidate], policy: PolicyConfig, draw: float) -> Ranking:
    """By the policy's rank. `draw`, from 0 up to 1, is the chance that a weighted policy leaves to fate.

    Cells whose pictures are not what is ordered come after those that are well, and cells that are down come last. They
    are no measure for the others, and none is left out: a bad chance is better than none.
    """
    standings = sorted({candidate.signals.standing for candidate in candidates})
    if len(standings) < 2:
        return _rank_group(candidates, policy, draw)
    groups = (
        [candidate for candidate in candidates if candidate.signals.standing == standing] for standing in standings
    )
    return [candidate for group in groups for candidate in _rank_group(group, policy, draw)]


def _rank_group(candidates: Sequence[Candidate], policy: PolicyConfig, draw: float) -> Ranking:
    if policy.rank == "weighted":
        ranked = rank_by_weight(candidates, policy.weights or {}, draw)
    else:
        ranked = rank_with_ties(candidates, _sort_keys(policy))
    # Whoever is at his limit would only make us wait: he comes after everybody who is not.
    return sorted(ranked, key=lambda candidate: candidate.signals.load >= 1)


def rank_with_ties(candidates: Sequence[Candidate], keys: Sequence[SortKey]) -> Ranking:
    """By the first key. Candidates that are equal to the best of them are ordered by the next key; then the same for
    the rest."""
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
    """Ignores differences that no client would notice, since measured seconds are never equal."""
    return seconds * 10 <= best * 11 or seconds - best <= SIMILAR_SECONDS


def _sort_keys(policy: PolicyConfig) -> tuple[SortKey, ...]:
    """The policy's two ranks; then what ends every tie the same way."""
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


# By price, speed, how faithful the offer is, how often it keeps its word, and the file's name.
TIE_BREAK_KEYS = (
    SortKey(_expected_cost),
    SortKey(_expected_latency, _is_similar_latency),
    SortKey(lambda candidate: len(candidate.fit.substitutions)),
    SortKey(_conformance_value),
    SortKey(lambda candidate: candidate.fit.offer.position),
)


def rank_by_weight(candidates: Sequence[Candidate], weights: Mapping[str, float], draw: float) -> Ranking:
    """One draw decides the whole order: where it falls picks the first, its place within that picks the next."""
    remaining = sorted(candidates, key=lambda candidate: candidate.fit.offer.position)
    shares = [weights[candidate.seller] for candidate in remaining]
    result: Ranking = []
    while remaining:
        index, draw = _pick_share(shares, draw * sum(shares))
        result.append(remaining.pop(index))
        del shares[index]
    return result


def _pick_share(shares: Sequence[float], point: float) -> tuple[int, float]:
    """Whose stretch of the line a point falls into, and how far into it, from 0 up to 1."""
    for index, share in enumerate(shares):
        if point < share:
            return index, point / share
        point -= share
    # Rounding may carry a point past the end.
    return len(shares) - 1, 0.0
