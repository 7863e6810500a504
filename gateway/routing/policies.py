"""The ranks: each a small pure function that puts candidates in order."""

from collections.abc import Callable, Mapping, Sequence
from operator import eq
from typing import NamedTuple

from msgspec import Struct

from gateway.config.blocks import PolicyConfig, Rank
from gateway.routing.fit import Fit
from gateway.routing.quote import Quote
from gateway.routing.signals import CellSignals


class Candidate(Struct, frozen=True):
    """An offer that fits, with what it costs, how long it takes, and what is known of it."""

    fit: Fit
    quote: Quote
    seconds: float
    slow_seconds: float
    signals: CellSignals

    @property
    def seller(self) -> str:
        return self.fit.offer.seller.name


Ordered = list[Candidate]
Value = Callable[[Candidate], float]
# Seconds are equal within a tenth of the fewest, or within one.
SECONDS_ALIKE = 1.0


class Key(NamedTuple):
    """What candidates are compared by, and which values count as equal to the best one."""

    value: Value
    is_equal: Callable[[float, float], bool] = eq


def order(candidates: Sequence[Candidate], policy: PolicyConfig, draw: float) -> Ordered:
    """By the policy's rank. `draw`, from 0 up to 1, is the chance that a weighted policy leaves to fate.

    Cells whose pictures are not what is ordered come after those that are well, and cells that are down come last. They
    are no measure for the others, and none is left out: a bad chance is better than none.
    """
    standings = sorted({candidate.signals.standing for candidate in candidates})
    if len(standings) < 2:
        return _ranked(candidates, policy, draw)
    groups = ([one for one in candidates if one.signals.standing == standing] for standing in standings)
    return [candidate for group in groups for candidate in _ranked(group, policy, draw)]


def _ranked(candidates: Sequence[Candidate], policy: PolicyConfig, draw: float) -> Ordered:
    if policy.rank == "weighted":
        ordered = by_weight(candidates, policy.weights or {}, draw)
    else:
        ordered = by_keys(candidates, _keys(policy))
    # Whoever is at his limit would only make us wait: he comes after everybody who is not.
    return sorted(ordered, key=lambda candidate: candidate.signals.load >= 1)


def by_keys(candidates: Sequence[Candidate], keys: Sequence[Key]) -> Ordered:
    """By the first key. Candidates that are equal to the best of them are ordered by the next key; then the same for
    the rest."""
    if len(candidates) < 2 or not keys:
        return list(candidates)
    (value, is_equal), rest = keys[0], keys[1:]
    left = sorted(candidates, key=value)
    result: Ordered = []
    start = 0
    while start < len(left):
        best, end = value(left[start]), start + 1
        while end < len(left) and is_equal(value(left[end]), best):
            end += 1
        result += by_keys(left[start:end], rest) if end - start > 1 else left[start:end]
        start = end
    return result


def _cost(candidate: Candidate) -> float:
    return candidate.quote.total


def _latency(candidate: Candidate) -> float:
    return candidate.seconds


def _listed(policy: PolicyConfig) -> Value:
    places = {seller: place for place, seller in enumerate(policy.sellers or ())}
    return lambda candidate: places.get(candidate.seller, len(places))


def _value(rank: Rank, policy: PolicyConfig) -> Value:
    if rank == "listed":
        return _listed(policy)
    return _latency if rank == "latency" else _cost


def _within(policy: PolicyConfig) -> Callable[[float, float], bool]:
    share = 10_000 + policy.within
    return lambda value, best: value * 10_000 <= best * share


def _takes_as_long(seconds: float, fewest: float) -> bool:
    """Ignores differences that no client would notice, since measured seconds are never equal."""
    return seconds * 10 <= fewest * 11 or seconds - fewest <= SECONDS_ALIKE


def _keys(policy: PolicyConfig) -> tuple[Key, ...]:
    """The policy's two ranks; then what ends every tie the same way."""
    first = _value(policy.rank, policy)
    then = Key(_latency, _takes_as_long) if policy.then == "latency" else Key(_value(policy.then, policy))
    return (Key(first, _within(policy)), then, Key(first), *LAST)


def _conformance(candidate: Candidate) -> float:
    known = candidate.signals.conformance
    return -1.0 if known is None else -known


# By price, speed, how faithful the offer is, how often it keeps its word, and the file's name.
LAST = (
    Key(_cost),
    Key(_latency, _takes_as_long),
    Key(lambda candidate: len(candidate.fit.substitutions)),
    Key(_conformance),
    Key(lambda candidate: candidate.fit.offer.position),
)


def by_weight(candidates: Sequence[Candidate], weights: Mapping[str, float], draw: float) -> Ordered:
    """One draw decides the whole order: where it falls picks the first, its place within that picks the next."""
    left = sorted(candidates, key=lambda candidate: candidate.fit.offer.position)
    shares = [weights[candidate.seller] for candidate in left]
    result: Ordered = []
    while left:
        place, draw = _picked(shares, draw * sum(shares))
        result.append(left.pop(place))
        del shares[place]
    return result


def _picked(shares: Sequence[float], point: float) -> tuple[int, float]:
    """Whose stretch of the line a point falls into, and how far into it, from 0 up to 1."""
    for place, share in enumerate(shares):
        if point < share:
            return place, point / share
        point -= share
    # Rounding may carry a point past the end.
    return len(shares) - 1, 0.0
