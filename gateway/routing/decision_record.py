"""The record of a routing decision, from which its plan can be made again. It contains no text of a client.

A job's record is stored with the job and kept longer. Together with the configuration of its `config_hash` it
determines the plan.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.catalogue import Catalogue
from gateway.jobs.job import round_timestamp
from gateway.routing.canary import NO_CANARIES, Canaries, CanaryProgress
from gateway.routing.plan import ExcludedOffer, Plan, RankedOffer, RoutingQuery, make_plan
from gateway.routing.plan_json import format_rule
from gateway.routing.routing_request import RequestedParams, RoutingRequest
from gateway.routing.signals import UNKNOWN_SIGNALS, CellSignals, Signals
from providers.orders import Cell


class RankedSeller(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A seller of the route, its quote, and the signals that decided its rank.

    `quote`, `ceiling`: expected and highest cost of the request in micro-USD; `seconds`: expected latency.
    """

    seller: str
    quote: int
    ceiling: int
    seconds: float
    substitutions: tuple[str, ...] = ()
    signals: CellSignals = UNKNOWN_SIGNALS

    @property
    def fidelity(self) -> Literal["exact", "near"]:
        return "near" if self.substitutions else "exact"


class ExcludedSeller(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A seller that could not be used, why, and its signals."""

    seller: str
    reasons: tuple[str, ...]
    signals: CellSignals = UNKNOWN_SIGNALS


class DecisionRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The query of a request, the signals of every seller, and the chosen route.

    `query`: with the metadata that the rules can match on, and no other. `requested`: size, quality, format and
    background as the client sent them. `draw`: the random number of a weighted policy. `rule`: the rule that chose the
    policy; None if the client named it. `canaries`: the progress of the policy's canary, if it has one.
    `degraded_from`: the cell that the client asked for, if a budget did not suffice for it. `ranked`: best first.
    """

    decided_at: float
    config_hash: str
    query: RoutingQuery
    draw: float
    policy: str
    rule: str | None = None
    requested: RequestedParams = RequestedParams()
    largest_input_edge: int = 0
    canaries: dict[str, CanaryProgress] = {}
    degraded_from: Cell | None = None
    ranked: tuple[RankedSeller, ...]
    excluded: tuple[ExcludedSeller, ...] = ()


class PlannedRequest(Struct, frozen=True, kw_only=True):
    """A plan, what it was made from, and what else is recorded about the request."""

    query: RoutingQuery
    signals: Signals
    draw: float
    plan: Plan
    requested: RequestedParams = RequestedParams()
    largest_input_edge: int = 0
    canaries: Canaries = NO_CANARIES
    degraded_from: Cell | None = None


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(DecisionRecord)


def make_decision_record(catalogue: Catalogue, planned: PlannedRequest, decided_at: float) -> DecisionRecord:
    plan, model, cell = planned.plan, planned.query.request.model, get_request_cell(planned.query.request)
    return DecisionRecord(
        decided_at=round_timestamp(decided_at),
        config_hash=plan.config_hash,
        query=_remove_metadata_without_rule(catalogue, planned.query),
        draw=planned.draw,
        policy=plan.policy,
        rule=format_rule(catalogue, plan),
        requested=planned.requested,
        largest_input_edge=planned.largest_input_edge,
        canaries=_select_canary(catalogue, planned),
        degraded_from=planned.degraded_from,
        ranked=tuple(map(_make_ranked_seller, plan.ranked)),
        excluded=tuple(
            [_make_excluded_seller(offer, planned.signals, (offer.seller, model, cell)) for offer in plan.excluded]
        ),
    )


def _select_canary(catalogue: Catalogue, planned: PlannedRequest) -> dict[str, CanaryProgress]:
    canary = catalogue.policies.policies[planned.plan.policy].canary
    progress = planned.canaries.get(canary.seller) if canary else None
    return {canary.seller: progress} if canary and progress else {}


def get_request_cell(request: RoutingRequest) -> Cell:
    """Returns the cell of a request, which is the same at every seller."""
    return Cell(request.operation, request.target.resolution, request.quality)


def _make_ranked_seller(ranked: RankedOffer) -> RankedSeller:
    candidate = ranked.candidate
    return RankedSeller(
        seller=candidate.seller,
        quote=candidate.quote.total,
        ceiling=candidate.quote.ceiling,
        seconds=candidate.expected_seconds,
        substitutions=tuple([substitution.name for substitution in candidate.fit.substitutions]),
        signals=candidate.signals,
    )


def _make_excluded_seller(offer: ExcludedOffer, signals: Signals, key: tuple[str, str, Cell]) -> ExcludedSeller:
    cell_signals = offer.candidate.signals if offer.candidate else signals.get(key, UNKNOWN_SIGNALS)
    return ExcludedSeller(seller=offer.seller, reasons=offer.reasons, signals=cell_signals)


def _remove_metadata_without_rule(catalogue: Catalogue, query: RoutingQuery) -> RoutingQuery:
    """Removes the metadata that no rule can match on: names and values are the client's own text."""
    metadata: Mapping[str, str] = query.request.metadata
    if not metadata:
        return query
    names = catalogue.policies.metadata_names
    matched = {name: value for name, value in metadata.items() if name in names}
    return replace(query, request=replace(query.request, metadata=matched))


def encode_decision_record(record: DecisionRecord) -> bytes:
    return _encode(record)


def decode_decision_record(data: bytes) -> DecisionRecord:
    return _decoder.decode(data)


def replay_plan(record: DecisionRecord, catalogue: Catalogue) -> Plan:
    """Makes the plan again. With the configuration of the record's hash, it is the plan that was recorded."""
    model, cell = record.query.request.model, get_request_cell(record.query.request)
    sellers: tuple[RankedSeller | ExcludedSeller, ...] = (*record.ranked, *record.excluded)
    signals = {(entry.seller, model, cell): entry.signals for entry in sellers}
    return make_plan(catalogue, record.query, signals, record.draw, record.canaries)
