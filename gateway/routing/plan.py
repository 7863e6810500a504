"""The plan: every offer of a model, in or out, with its quote, what it rests on, and why."""

from collections.abc import Iterator
from typing import TypeVar

from msgspec import Struct

from gateway.catalogue import Catalogue
from gateway.config.blocks import Failover, PolicyConfig, Rank, RuleConfig, TeamConfig
from gateway.config.checking import did_you_mean
from gateway.config.judging import wanted_values
from gateway.money import format_usd
from gateway.routing.fit import Fit, Misfit, fits, wants_of
from gateway.routing.policies import Candidate, order
from gateway.routing.quote import Quote, quote
from gateway.routing.signals import CellSignals, Signals, falls_short, signals_of
from providers.orders import ImageRequest

Number = TypeVar("Number", int, float)


class RoutingError(ValueError):
    """The question itself is wrong, in words for the caller; `param` names the part that is."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class Limits(Struct, frozen=True, kw_only=True):
    """How a caller, a team or a policy narrows the choice. The narrower wins."""

    max_price: int | None = None
    max_cost: int | None = None
    max_seconds: float | None = None
    only: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()


class Question(Struct, frozen=True, kw_only=True):
    """A request, who asks it, and what they ask of the routing itself."""

    request: ImageRequest
    team: str | None = None
    policy: str | None = None
    limits: Limits = Limits()


class Ranked(Struct, frozen=True):
    """One offer that may be bought, and its place, best first: what an order is made from."""

    candidate: Candidate
    place: int
    rank: Rank

    @property
    def fit(self) -> Fit:
        return self.candidate.fit

    @property
    def quote(self) -> Quote:
        return self.candidate.quote

    @property
    def seconds(self) -> float:
        return self.candidate.seconds

    @property
    def signals(self) -> CellSignals:
        return self.candidate.signals

    @property
    def reasons(self) -> tuple[str, ...]:
        """Worked out when somebody asks, which is seldom."""
        return tuple(_reasons(self.candidate, self.place, self.rank))


class Excluded(Struct, frozen=True):
    """One offer that may not be bought, why, and what it would have been, if it could have been at all."""

    seller: str
    reasons: tuple[str, ...]
    candidate: Candidate | None = None


class Plan(Struct, frozen=True, kw_only=True):
    """`rule` is the number of the rule that chose the policy, 0 for the default, None if the caller named it."""

    ranked: tuple[Ranked, ...]
    excluded: tuple[Excluded, ...]
    policy: str
    rule: int | None
    failover: Failover
    config: str


def plan(catalogue: Catalogue, question: Question, signals: Signals, draw: float = 0.0) -> Plan:
    """Pure: the same question, catalogue, signals and draw make the same plan."""
    return plan_by(catalogue, question, choose_policy(catalogue, question), signals, draw)


def plan_by(
    catalogue: Catalogue, question: Question, chosen: tuple[str, int | None], signals: Signals, draw: float = 0.0
) -> Plan:
    """The plan by a policy that has been chosen already, and the number of the rule that chose it."""
    request, (name, rule) = question.request, chosen
    policy = catalogue.policies.policies[name]
    limits = _limits(policy, catalogue.teams.get(question.team or ""), question.limits)
    narrows = _narrows(policy, limits)
    candidates: list[Candidate] = []
    excluded: list[Excluded] = []
    for found in fits(catalogue, request.model, wants_of(request)):
        seller = found.offer.seller.name
        if isinstance(found, Misfit):
            excluded.append(Excluded(seller, found.reasons))
            continue
        candidate = _candidate(found, request, signals)
        if narrows and (reasons := _out(candidate, policy, limits)):
            excluded.append(Excluded(seller, reasons, candidate))
        else:
            candidates.append(candidate)
    ordered = order(candidates, policy, draw)
    return Plan(
        ranked=tuple(Ranked(candidate, place, policy.rank) for place, candidate in enumerate(ordered)),
        excluded=tuple(excluded),
        policy=name,
        rule=rule,
        failover=policy.failover,
        config=catalogue.hash,
    )


def choose_policy(catalogue: Catalogue, question: Question) -> tuple[str, int | None]:
    """The caller's, if his team allows it; else that of the first rule that holds; else the default."""
    policies = catalogue.policies
    if question.policy is not None:
        team = catalogue.teams.get(question.team or "")
        allowed = team.policies if team else ()
        if question.policy not in policies.policies:
            meant = did_you_mean(question.policy, policies.policies)
            raise RoutingError("policy", f"there is no policy '{question.policy}'{meant}")
        if question.policy not in allowed:
            whose = f"team '{question.team}'" if question.team else "a caller without a team"
            raise RoutingError("policy", f"{whose} may not choose policy '{question.policy}'")
        return question.policy, None
    for number, rule in enumerate(policies.rules, 1):
        if holds(rule, question):
            return rule.use, number
    return policies.default, 0


def holds(rule: RuleConfig, question: Question) -> bool:
    request = question.request
    facts = (
        ("team", question.team),
        ("model", request.model),
        ("operation", request.operation),
        ("resolution", request.target.resolution),
        ("quality", request.quality),
        ("n", request.n),
    )
    for name, fact in facts:
        admitted = wanted_values(rule.when, name)
        if admitted is not None and fact not in admitted:
            return False
    return rule.when.metadata.items() <= request.metadata.items()


def _limits(policy: PolicyConfig, team: TeamConfig | None, asked: Limits) -> Limits:
    """The narrower of what policy, team and caller say."""
    team_price, team_cost = (team.max_price, team.max_cost) if team else (None, None)
    only = [set(names) for names in (policy.only, asked.only) if names is not None]
    return Limits(
        max_price=_least(policy.max_price, team_price, asked.max_price),
        max_cost=_least(policy.max_cost, team_cost, asked.max_cost),
        max_seconds=_least(policy.max_seconds, asked.max_seconds),
        only=tuple(set.intersection(*only)) if only else None,
        ignore=(*policy.ignore, *asked.ignore),
    )


def _least(*values: Number | None) -> Number | None:
    return min((value for value in values if value is not None), default=None)


def _candidate(fit: Fit, request: ImageRequest, signals: Signals) -> Candidate:
    known = signals_of(signals, fit.offer, fit.cell)
    expected = fit.offer.seconds[fit.cell.quality]
    return Candidate(
        fit=fit,
        quote=quote(fit, request),
        seconds=expected.p50 if known.p50 is None else known.p50,
        slow_seconds=expected.p90 if known.p90 is None else known.p90,
        signals=known,
    )


def _out(candidate: Candidate, policy: PolicyConfig, limits: Limits) -> tuple[str, ...]:
    """Why a fitting offer is out all the same."""
    by_name = _out_by_name(candidate.fit.offer.seller.name, policy, limits)
    return (*by_name, *_out_by_number(candidate, policy, limits))


def _narrows(policy: PolicyConfig, limits: Limits) -> bool:
    """Whether anything could put a fitting offer out; mostly nothing does."""
    return limits != Limits() or policy.fidelity == "exact" or policy.sellers is not None or policy.weights is not None


def _out_by_name(seller: str, policy: PolicyConfig, limits: Limits) -> Iterator[str]:
    if policy.sellers is not None and seller not in policy.sellers:
        yield "not among the policy's sellers"
    if policy.weights is not None and not policy.weights.get(seller):
        yield "has no weight in the policy"
    if limits.only is not None and seller not in limits.only:
        yield "not among those that are asked for ('only')"
    if seller in limits.ignore:
        yield "is to be ignored ('ignore')"


def _out_by_number(candidate: Candidate, policy: PolicyConfig, limits: Limits) -> Iterator[str]:
    quoted = candidate.quote
    if limits.max_price is not None and quoted.per_image > limits.max_price:
        yield f"${format_usd(quoted.per_image)} per image is above ${format_usd(limits.max_price)}"
    if limits.max_cost is not None and quoted.total > limits.max_cost:
        yield f"${format_usd(quoted.total)} is above ${format_usd(limits.max_cost)}"
    if limits.max_seconds is not None and candidate.slow_seconds > limits.max_seconds:
        yield f"nine in ten take up to {candidate.slow_seconds:g} s, more than {limits.max_seconds:g} s"
    if policy.fidelity == "exact":
        yield from _unfaithful(candidate)


def _unfaithful(candidate: Candidate) -> Iterator[str]:
    for substitution in candidate.fit.substitutions:
        yield f"not exact: {substitution.name}"
    if not candidate.signals.faithful:
        yield f"not exact: {candidate.signals.delivered_as_ordered}"


def _reasons(candidate: Candidate, place: int, rank: Rank) -> Iterator[str]:
    yield f"{'first' if place == 0 else f'number {place + 1}'} by {rank}"
    if candidate.signals.load >= 1:
        yield "at its limit, so after all that are not"
    yield from _about_deliveries(candidate.signals)
    if not candidate.signals.healthy:
        yield "unhealthy at present, so after all that are not"
    if candidate.fit.converts:
        yield "its pictures are converted here"


def _about_deliveries(signals: CellSignals) -> Iterator[str]:
    if not signals.faithful:
        yield f"{signals.delivered_as_ordered}, so after those that deliver what is ordered"
    elif falls_short(signals.deliveries, signals.conformance or 0.0):
        yield f"{signals.delivered_as_ordered}; a trial order is due"
