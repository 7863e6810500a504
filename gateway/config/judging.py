"""Checks that span files: policies and teams against everything they name."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from gateway.config.blocks import Config, PolicyConfig, When
from gateway.config.checking import did_you_mean
from gateway.config.findings import Finding, problems_in
from gateway.config.loading import Loaded
from gateway.config.located import Problem

POLICIES = "policies.yaml"
CONDITIONS = ("team", "model", "operation", "resolution", "quality", "n")
LIMITS_OF_SELLERS = ("sellers", "weights", "only", "ignore")


def problems_of_policies(loaded: Loaded, config: Config) -> list[Problem]:
    return [
        *problems_in(loaded, "models.yaml", _alias_findings(loaded, config), "models"),
        *_policy_problems(loaded, config),
        *problems_in(loaded, "teams.yaml", _team_findings(loaded, config), "teams"),
    ]


def unknown(kind: str, name: str, known: Collection[str] | None) -> Iterator[str]:
    """A message, unless the name is known, or there is no telling since something is wrong that is told already."""
    if name and known is not None and name not in known:
        yield f"there is no {kind} '{name}'{did_you_mean(name, known)}"


def _alias_findings(loaded: Loaded, config: Config) -> Iterator[Finding]:
    seen = dict.fromkeys(loaded.names("models") or (), "a model")
    for name, model in config.models.models.items():
        for option in ("aliases", "dalle_aliases"):
            for number, alias in enumerate(getattr(model, option)):
                if alias in seen:
                    yield Finding(f"'{alias}' is {seen[alias]} already", (name, option, number))
                seen.setdefault(alias, f"an alias of {name}")


def _policy_problems(loaded: Loaded, config: Config) -> Iterator[Problem]:
    for name, policy in config.policies.policies.items():
        # Without any seller, that alone is worth telling.
        findings = _findings_of(policy, list(config.offers)) if config.offers else ()
        yield from problems_in(loaded, POLICIES, findings, "policies", name)
    messages = unknown("policy", config.policies.default, loaded.names("policies"))
    yield from problems_in(loaded, POLICIES, (Finding(message, ("default",)) for message in messages))


def _findings_of(policy: PolicyConfig, sellers: Sequence[str]) -> Iterator[Finding]:
    strangers = list(_strangers(policy, sellers))
    yield from strangers
    yield from (Finding(message, (at,), tuple((one,) for one in uses)) for message, at, *uses in _rank_claims(policy))
    yield from _repeated(policy.sellers or ())
    has_weight = policy.weights is None or any(policy.weights.values())
    # Whoever is misspelt may be the one that is left.
    if has_weight and not strangers and not sellers_of(policy, sellers):
        message = "no seller is left by 'sellers', 'weights', 'only' and 'ignore' together"
        yield Finding(message, (), tuple((name,) for name in LIMITS_OF_SELLERS))


def _strangers(policy: PolicyConfig, sellers: Sequence[str]) -> Iterator[Finding]:
    for field in ("sellers", "only", "ignore"):
        for number, seller in enumerate(getattr(policy, field) or ()):
            for message in unknown("seller", seller, sellers):
                yield Finding(message, (field, number))
    for seller in policy.weights or {}:
        for message in unknown("seller", seller, sellers):
            # Whoever he is, his weight is another matter.
            yield Finding(message, ("weights", seller), ())


def _repeated(sellers: Sequence[str]) -> Iterator[Finding]:
    for number, seller in enumerate(sellers):
        if seller in sellers[:number]:
            yield Finding(f"'{seller}' stands in this list already", ("sellers", number))


def _rank_claims(policy: PolicyConfig) -> Iterator[tuple[str, ...]]:
    """A message, the option that it is about, and the options that it rests on."""
    has_list = policy.sellers is not None
    if policy.rank == "weighted" and policy.weights is None:
        yield "rank 'weighted' needs 'weights'", "rank", "rank", "weights"
    if policy.rank != "weighted" and policy.weights is not None:
        yield f"weights mean nothing for rank '{policy.rank}'", "weights", "rank"
    if policy.weights is not None and not any(policy.weights.values()):
        yield "all weights are zero", "weights", "weights"
    if policy.rank == "listed" and not has_list:
        yield "rank 'listed' needs 'sellers'", "rank", "rank", "sellers"
    if policy.within and policy.rank not in ("cost", "latency"):
        yield f"'within' means nothing for rank '{policy.rank}'", "within", "rank", "within"
    if policy.then == "weighted" or (policy.then == "listed" and not has_list):
        yield f"'then' cannot be '{policy.then}' here", "then", "then", "sellers"


def sellers_of(policy: PolicyConfig, sellers: Sequence[str]) -> list[str]:
    """Those that the policy itself lets in, in the order of its own list if it has one."""
    listed = list(policy.sellers) if policy.sellers is not None else list(sellers)
    if policy.weights is not None:
        listed = [seller for seller in listed if policy.weights.get(seller, 0) > 0]
    if policy.only is not None:
        listed = [seller for seller in listed if seller in policy.only]
    return [seller for seller in listed if seller in sellers and seller not in policy.ignore]


def wanted_values(when: When, name: str) -> tuple[Any, ...] | None:
    """The values that a condition admits; None where there is no condition."""
    value = getattr(when, name)
    return value if value is None or isinstance(value, tuple) else (value,)


def _team_findings(loaded: Loaded, config: Config) -> Iterator[Finding]:
    for name, team in config.teams.teams.items():
        for number, policy in enumerate(team.policies):
            for message in unknown("policy", policy, loaded.names("policies")):
                yield Finding(message, (name, "policies", number))
