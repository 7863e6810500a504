"""Plans: every offer of a model, ranked or excluded, with quote, signals and reasons."""

from collections.abc import Iterator
from itertools import takewhile
from typing import TypeVar

from msgspec import Struct

from gateway.catalogue import Catalogue, Seller
from gateway.config.policy_schema import FailoverConfig, PolicyConfig, Rank
from gateway.config.schema import RuleConfig, TeamConfig
from gateway.jobs.job import find_split_index
from gateway.money import format_usd
from gateway.routing.canary import NO_CANARIES, Canaries, find_canary
from gateway.routing.fit import Fit, Misfit, fit_requirements, match_offers
from gateway.routing.quote import Quote, make_quote
from gateway.routing.ranking import Candidate, move_to_front, rank_candidates
from gateway.routing.routing_request import RoutingRequest
from gateway.routing.signals import CellSignals, Signals, get_signals, is_below_conformance
from gateway.suggestions import did_you_mean
from providers.faults import FaultKind

Number = TypeVar("Number", int, float)
REFUSAL_REASONS = {
    FaultKind.INVALID_KEY: "replace the key of its account, or allow it again at the seller",
    FaultKind.NO_CREDIT: "add credit to its account at the seller",
}


class RoutingError(ValueError):
    """The routing query is invalid. The message is for the client; `param` is the invalid parameter."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class RoutingLimits(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Limits of a client, team or policy. The narrowest wins. Only teams and policies limit regions."""

    max_price: int | None = None
    max_cost: int | None = None
    max_seconds: float | None = None
    only: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    regions: tuple[str, ...] | None = None


class RoutingQuery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request, its team, and the policy and limits that the client asks for."""

    request: RoutingRequest
    team: str | None = None
    policy: str | None = None
    limits: RoutingLimits = RoutingLimits()


class RankedOffer(Struct, frozen=True):
    """An offer that can be ordered, and its position in the plan, best first. `deadline`: in seconds, of a policy of
    rank deadline. `canary_text`: of a canary that gets this request, why it is one."""

    candidate: Candidate
    position: int
    rank: Rank
    deadline: float | None = None
    canary_text: str = ""

    @property
    def fit(self) -> Fit:
        return self.candidate.fit

    @property
    def fidelity(self) -> str:
        return "exact" if self.fit.is_exact else "near"

    @property
    def quote(self) -> Quote:
        return self.candidate.quote

    @property
    def expected_seconds(self) -> float:
        return self.candidate.expected_seconds

    @property
    def signals(self) -> CellSignals:
        return self.candidate.signals

    @property
    def is_available(self) -> bool:
        """Whether it is not ranked behind others because of its signals."""
        return self.candidate.is_available

    @property
    def is_late(self) -> bool:
        """Whether less than nine tenths of the orders are ready within the deadline."""
        return self.deadline is not None and self.candidate.p90_seconds > self.deadline

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the offer has this position. Computed on access, since reasons are rarely needed."""
        return tuple(_ranking_reasons(self))


class ExcludedOffer(Struct, frozen=True):
    """An offer that cannot be ordered, and why. `candidate` is None if the offer does not fit the request."""

    seller: str
    reasons: tuple[str, ...]
    candidate: Candidate | None = None


class Plan(Struct, frozen=True, kw_only=True):
    """The ranked and excluded offers of a request.

    `rule_number` is the number of the rule that selected the policy, 0 for the default, None if the client named the
    policy. `split_counts`: how many images the first sellers get, if the request is split; otherwise empty.
    """

    ranked: tuple[RankedOffer, ...]
    excluded: tuple[ExcludedOffer, ...]
    policy: str
    rule_number: int | None
    failover: FailoverConfig
    config_hash: str
    split_counts: tuple[int, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the client, before anything is ordered."""
        if not self.ranked or not (first := self.ranked[0]).is_late:
            return ()
        seconds = first.candidate.p90_seconds
        return (
            f"deadline_unlikely: no available seller is ready within {first.deadline:g} s in nine of ten orders; the "
            f"first needs {seconds:g} s",
        )


class PlanInputs(Struct, frozen=True):
    """The inputs of a plan besides the configuration and the query. `draw`: the random number of the request;
    `canaries`: the progress of canaries, by seller."""

    signals: Signals = {}
    draw: float = 0.0
    canaries: Canaries = NO_CANARIES


NO_INPUTS = PlanInputs()


def make_plan(
    catalogue: Catalogue,
    query: RoutingQuery,
    signals: Signals,
    draw: float = 0.0,
    canaries: Canaries = NO_CANARIES,
) -> Plan:
    """Makes the plan for a request. Pure: the same arguments make the same plan."""
    return make_plan_with_policy(catalogue, query, choose_policy(catalogue, query), PlanInputs(signals, draw, canaries))


def make_plan_with_policy(
    catalogue: Catalogue,
    query: RoutingQuery,
    chosen_policy: tuple[str, int | None],
    inputs: PlanInputs = NO_INPUTS,
) -> Plan:
    """Makes the plan for a policy that is already chosen, given with the number of its rule."""
    request, (name, rule_number) = query.request, chosen_policy
    policy = catalogue.policies.policies[name]
    limits = combine_limits(policy, catalogue.teams.get(query.team or ""), query.limits)
    can_exclude = _can_exclude(policy, limits)
    canary = find_canary(name, policy, inputs.canaries, inputs.draw)
    # Of the canary, if it gets this request.
    canary_texts: dict[str, str] = {}
    candidates: list[Candidate] = []
    excluded: list[ExcludedOffer] = []
    for result in match_offers(catalogue, request.model, fit_requirements(request)):
        seller = result.offer.seller.name
        if isinstance(result, Misfit):
            excluded.append(ExcludedOffer(seller, result.reasons))
            continue
        candidate = _make_candidate(result, request, inputs.signals)
        if can_exclude and (reasons := _exclusion_reasons(candidate, policy, limits)):
            excluded.append(ExcludedOffer(seller, reasons, candidate))
            continue
        if canary and seller == canary.config.seller and (text := canary.describe(candidate.signals)):
            if not canary.is_chosen:
                excluded.append(ExcludedOffer(seller, (text,), candidate))
                continue
            canary_texts[seller] = text
        candidates.append(candidate)
    deadline = limits.max_seconds if policy.rank == "deadline" else None
    ranking = rank_candidates(candidates, policy, inputs.draw, deadline)
    for seller in canary_texts:
        ranking = move_to_front(ranking, seller)
    ranked = tuple(
        RankedOffer(candidate, position, policy.rank, deadline, canary_texts.get(candidate.seller, ""))
        for position, candidate in enumerate(ranking)
    )
    return Plan(
        ranked=ranked,
        excluded=tuple(excluded),
        policy=name,
        rule_number=rule_number,
        failover=policy.failover,
        config_hash=catalogue.hash,
        split_counts=_split_request(request.n, policy, ranked),
    )


def _split_request(n: int, policy: PolicyConfig, ranked: tuple[RankedOffer, ...]) -> tuple[int, ...]:
    """Splits the images over the first sellers. Only sellers are used that are as available as the best one can be:
    healthy, as ordered, below their limit, and in time if the first one is."""
    if policy.split is None or n <= policy.split.over:
        return ()
    usable = takewhile(lambda offer: offer.is_available and offer.is_late == ranked[0].is_late, ranked)
    split_count = min(n, policy.split.sellers, len(list(usable)))
    if split_count < 2:
        return ()
    indexes = [find_split_index(image, n, split_count) for image in range(n)]
    return tuple([indexes.count(index) for index in range(split_count)])


def choose_policy(catalogue: Catalogue, query: RoutingQuery) -> tuple[str, int | None]:
    """Chooses the requested policy if the team may use it, otherwise the policy of the first matching rule, otherwise
    the default."""
    policies = catalogue.policies
    if query.policy is not None:
        team = catalogue.teams.get(query.team or "")
        allowed = team.policies if team else ()
        if query.policy not in policies.policies:
            suggestion = did_you_mean(query.policy, policies.policies)
            raise RoutingError("policy", f"policy '{query.policy}' not found{suggestion}")
        if query.policy not in allowed:
            caller = f"team '{query.team}'" if query.team else "a client without a team"
            raise RoutingError("policy", f"{caller} may not request policy '{query.policy}'")
        return query.policy, None
    for number, rule in enumerate(policies.rules, 1):
        if rule_matches(rule, query):
            return rule.use, number
    return policies.default, 0


def rule_matches(rule: RuleConfig, query: RoutingQuery) -> bool:
    """Returns whether a request meets all conditions of a rule."""
    request = query.request
    actual_values = (
        ("team", query.team),
        ("model", request.model),
        ("operation", request.operation),
        ("resolution", request.target.resolution),
        ("quality", request.quality),
        ("n", request.n),
    )
    has_metadata = rule.when.metadata.items() <= request.metadata.items()
    return has_metadata and all(rule.when.admits(name, actual) for name, actual in actual_values)


def combine_limits(policy: PolicyConfig, team: TeamConfig | None, requested: RoutingLimits) -> RoutingLimits:
    """Returns the narrowest limits of policy, team and client."""
    team_price, team_cost = (team.max_price, team.max_cost) if team else (None, None)
    return RoutingLimits(
        max_price=_find_minimum(policy.max_price, team_price, requested.max_price),
        max_cost=_find_minimum(policy.max_cost, team_cost, requested.max_cost),
        max_seconds=_find_minimum(policy.max_seconds, requested.max_seconds),
        only=_intersect(policy.only, requested.only),
        ignore=(*policy.ignore, *requested.ignore),
        regions=_intersect(policy.regions, team.regions if team else None),
    )


def _intersect(*choices: tuple[str, ...] | None) -> tuple[str, ...] | None:
    limiting = [set(names) for names in choices if names is not None]
    return tuple(sorted(set.intersection(*limiting))) if limiting else None


def _find_minimum(*values: Number | None) -> Number | None:
    minimum = None
    for value in values:
        if value is not None and (minimum is None or value < minimum):
            minimum = value
    return minimum


def _make_candidate(fit: Fit, request: RoutingRequest, signals: Signals) -> Candidate:
    cell_signals = get_signals(signals, fit.offer, fit.cell)
    expected = fit.offer.expected_latency[fit.cell.quality]
    return Candidate(
        fit=fit,
        quote=make_quote(fit, request, cell_signals.charged_price),
        expected_seconds=expected.p50 if cell_signals.p50 is None else cell_signals.p50,
        p90_seconds=expected.p90 if cell_signals.p90 is None else cell_signals.p90,
        signals=cell_signals,
    )


def _exclusion_reasons(candidate: Candidate, policy: PolicyConfig, limits: RoutingLimits) -> tuple[str, ...]:
    """Returns why an offer that fits is excluded."""
    seller_reasons = seller_exclusion_reasons(candidate.fit.offer.seller, policy, limits)
    return (*seller_reasons, *_limit_exclusion_reasons(candidate, policy, limits))


def _can_exclude(policy: PolicyConfig, limits: RoutingLimits) -> bool:
    """Returns whether any limit could exclude an offer that fits."""
    return (
        limits != RoutingLimits()
        or policy.fidelity == "exact"
        or policy.sellers is not None
        or policy.weights is not None
    )


def seller_exclusion_reasons(seller: Seller, policy: PolicyConfig, limits: RoutingLimits) -> Iterator[str]:
    if policy.sellers is not None and seller.name not in policy.sellers:
        yield "not listed in the policy's 'sellers'"
    if policy.weights is not None and not policy.weights.get(seller.name):
        yield "has no weight in the policy"
    if limits.only is not None and seller.name not in limits.only:
        yield "not listed in 'only'"
    if seller.name in limits.ignore:
        yield "excluded by 'ignore'"
    if limits.regions is not None and seller.account.region not in limits.regions:
        allowed = " or ".join(limits.regions) or "none"
        yield f"in region {seller.account.region or 'unknown'}, allowed is {allowed}"


def _limit_exclusion_reasons(candidate: Candidate, policy: PolicyConfig, limits: RoutingLimits) -> Iterator[str]:
    quote = candidate.quote
    if limits.max_price is not None and quote.per_image > limits.max_price:
        yield f"${format_usd(quote.per_image)} per image is above ${format_usd(limits.max_price)}"
    if limits.max_cost is not None and quote.total > limits.max_cost:
        yield f"${format_usd(quote.total)} is above ${format_usd(limits.max_cost)}"
    max_seconds = limits.max_seconds if policy.rank != "deadline" else None
    if max_seconds is not None and candidate.p90_seconds > max_seconds:
        yield f"p90 of {candidate.p90_seconds:g} s exceeds max_seconds of {max_seconds:g} s"
    if policy.fidelity == "exact":
        yield from _inexact_reasons(candidate)


def _inexact_reasons(candidate: Candidate) -> Iterator[str]:
    for substitution in candidate.fit.substitutions:
        yield f"not exact: {substitution.name}"
    if not candidate.signals.faithful:
        yield f"not exact: {candidate.signals.conformance_text}"


def _ranking_reasons(ranked: RankedOffer) -> Iterator[str]:
    candidate, position = ranked.candidate, ranked.position
    yield f"{'first' if position == 0 else f'number {position + 1}'} by {ranked.rank}"
    if ranked.canary_text:
        yield ranked.canary_text
    if ranked.deadline is not None:
        yield _format_deadline_reason(ranked)
    if candidate.signals.load >= 1:
        yield "at its concurrency limit, ranked after sellers that are not"
    yield from _conformance_reasons(candidate.signals)
    charged, configured = candidate.signals.charged_price, candidate.fit.offer.prices[candidate.fit.cell].price
    if charged is not None and charged != configured:
        yield f"charges ${format_usd(charged)} per image, configured are ${format_usd(configured)}"
    if (refusal := candidate.signals.refusal) is not None:
        yield f"refused, ranked after healthy sellers until a free check passes: {REFUSAL_REASONS[refusal]}"
    elif not candidate.signals.healthy:
        yield "unhealthy, ranked after healthy sellers"
    if candidate.fit.needs_conversion:
        yield "images are converted by the gateway"


def _format_deadline_reason(ranked: RankedOffer) -> str:
    source = "configured" if ranked.signals.p90 is None else "measured"
    p90 = f"{source} p90 of {ranked.candidate.p90_seconds:g} s"
    if ranked.is_late:
        return f"{p90} exceeds the deadline of {ranked.deadline:g} s, ranked after sellers in time, fastest first"
    return f"{p90} is within the deadline of {ranked.deadline:g} s"


def _conformance_reasons(signals: CellSignals) -> Iterator[str]:
    if not signals.faithful:
        yield f"{signals.conformance_text}, ranked after sellers that deliver as ordered"
    elif is_below_conformance(signals.deliveries, signals.conformance or 0.0):
        yield f"{signals.conformance_text}; a probe order is due"
