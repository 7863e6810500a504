"""The plan as JSON, for `explain --json`."""

from typing import Any

from msgspec.structs import asdict

from gateway.catalogue import Catalogue
from gateway.config.schema import CONDITION_NAMES, RuleConditions, RuleConfig
from gateway.money import format_usd
from gateway.routing.plan import Plan, RankedOffer


def plan_to_json(catalogue: Catalogue, plan: Plan) -> dict[str, Any]:
    return {
        "ranked": [_ranked_offer_to_json(ranked) for ranked in plan.ranked],
        "excluded": [{"seller": excluded.seller, "reasons": list(excluded.reasons)} for excluded in plan.excluded],
        "split": list(plan.split_counts),
        "warnings": list(plan.warnings),
        "policy": plan.policy,
        "rule": format_rule(catalogue, plan),
        "config": plan.config_hash,
    }


def _ranked_offer_to_json(ranked: RankedOffer) -> dict[str, Any]:
    offer = ranked.fit.offer
    return {
        "seller": offer.seller.name,
        "adapter": offer.seller.adapter.name,
        "quote_micros": ranked.quote.total,
        "quote_usd": format_usd(ranked.quote.total),
        "ceiling_micros": ranked.quote.ceiling,
        "ceiling_usd": format_usd(ranked.quote.ceiling),
        "seconds": ranked.expected_seconds,
        "fidelity": ranked.fidelity,
        "substitutions": [substitution.name for substitution in ranked.fit.substitutions],
        "signals": asdict(ranked.signals),
        "reasons": [
            *ranked.reasons,
            *(f"{substitution.name}: {substitution.detail}" for substitution in ranked.fit.substitutions),
        ],
    }


def format_rule(catalogue: Catalogue, plan: Plan) -> str | None:
    """Describes the rule that chose the policy; None if the client named the policy."""
    if plan.rule_number is None:
        return None
    if plan.rule_number == 0:
        return "default"
    rule: RuleConfig = catalogue.policies.rules[plan.rule_number - 1]
    return f"rule {plan.rule_number}: {_format_conditions(rule.when)}"


def _format_conditions(conditions: RuleConditions) -> str:
    values_by_name = {name: conditions.get_values(name) for name in CONDITION_NAMES}
    parts = [f"{name} {'/'.join(map(str, values))}" for name, values in values_by_name.items() if values]
    parts += [f"{name}={value}" for name, value in conditions.metadata.items()]
    return ", ".join(parts) or "always"
