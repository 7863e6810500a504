"""The ranks: each a small pure function that puts candidates in order."""

from collections.abc import Callable, Mapping, Sequence

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


Key = Callable[[Candidate], float]
Ordered = list[Candidate]


def order(candidates: Sequence[Candidate], policy: PolicyConfig, draw: float) -> Ordered:
    """By the policy's rank. `draw`, from 0 up to 1, is the chance that a weighted policy leaves to fate.

    Sellers that are down at the moment come last, and are no measure for the others: a bad chance is better than none.
    """
    well = [candidate for candidate in candidates if candidate.signals.healthy]
    if len(well) == len(candidates):
        return _ranked(well, policy, draw)
    down = [candidate for candidate in candidates if not candidate.signals.healthy]
    return [*_ranked(well, policy, draw), *_ranked(down, policy, draw)]


def _ranked(candidates: Ordered, policy: PolicyConfig, draw: float) -> Ordered:
    if policy.rank == "weighted":
        ordered = by_weight(candidates, policy.weights or {}, draw)
    else:
        key, then = KEYS[policy.rank](policy), KEYS[policy.then](policy)
        ordered = with_ties(sorted(candidates, key=_full(key)), key, _full(then, key), policy.within)
    # Whoever is at his limit would only make us wait: he comes after everybody who is not.
    return sorted(ordered, key=lambda candidate: candidate.signals.load >= 1)


def _cost(_: PolicyConfig) -> Key:
    return lambda candidate: candidate.quote.total


def _latency(_: PolicyConfig) -> Key:
    return lambda candidate: candidate.seconds


def _listed(policy: PolicyConfig) -> Key:
    places = {seller: place for place, seller in enumerate(policy.sellers or ())}
    return lambda candidate: places.get(candidate.seller, len(places))


KEYS: Mapping[Rank, Callable[[PolicyConfig], Key]] = {"cost": _cost, "latency": _latency, "listed": _listed}


def _full(*keys: Key) -> Callable[[Candidate], tuple[float, ...]]:
    """Ends every tie the same way: by price, speed, how faithful the offer is, how often it keeps its word, place."""

    def full(candidate: Candidate) -> tuple[float, ...]:
        kept = 1.0 if candidate.signals.conformance is None else candidate.signals.conformance
        offer, short_of = candidate.fit.offer, len(candidate.fit.substitutions)
        last = (candidate.quote.total, candidate.seconds, short_of, -kept, offer.position)
        return (*(key(candidate) for key in keys), *last)

    return full


def with_ties(ordered: Ordered, key: Key, then: Callable[[Candidate], tuple[float, ...]], within: int) -> Ordered:
    """Whoever is within a share of the best, or level with him, counts as his equal; then the same for the rest."""
    result: Ordered = []
    start = 0
    while start < len(ordered):
        limit = key(ordered[start]) * (10_000 + within)
        end = start + 1
        while end < len(ordered) and key(ordered[end]) * 10_000 <= limit:
            end += 1
        result += sorted(ordered[start:end], key=then) if end - start > 1 else ordered[start:end]
        start = end
    return result


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
