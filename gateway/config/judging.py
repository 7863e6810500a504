"""Checks that span files: claims of offers against their dialects, policies and rules against everything they name."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from gateway.config.blocks import Config, OfferConfig, PolicyConfig, RuleConfig, Sizing, When
from gateway.config.checking import did_you_mean
from gateway.config.loading import Loaded
from gateway.config.located import Problem
from providers.orders import Feature, Operation
from providers.sizes import RATIOS, Resolution
from providers.spec import Adapter

Claim = tuple[Any, ...]
POLICIES = "policies.yaml"
CONDITIONS = ("team", "model", "operation", "resolution", "quality", "n")


# --- offers


def claims_beyond(offer: OfferConfig, adapter: Adapter) -> Iterator[Claim]:
    """What an offer claims and its dialect has no words for: a message, and the steps to where it stands."""
    speaks, name = adapter.speaks, adapter.name
    beyond = [
        (
            offer.images_per_order > speaks.most_images,
            f"can ask for {speaks.most_images} per order at most",
            "images_per_order",
        ),
        (offer.inputs > speaks.most_sources, f"can send {speaks.most_sources} at most", "inputs"),
        (offer.mask and Feature.MASK not in speaks.edit, "has no words for a mask", "mask"),
        (
            offer.quality.selectable and Feature.QUALITY not in speaks.generate,
            "has no words for a quality: say 'assumes' instead",
            "quality",
        ),
        (
            offer.formats and Feature.OUTPUT_FORMAT not in speaks.generate,
            "has no words for an output format",
            "formats",
        ),
    ]
    yield from ((f"{name} {message}", step) for is_beyond, message, step in beyond if is_beyond)
    if offer.edit is not None and offer.inputs < 1:
        yield "edits need 'inputs' of at least 1", "inputs"
    for operation in Operation:
        sizing: Sizing | None = getattr(offer, operation)
        if sizing is not None:
            yield from _sizing_claims(sizing, operation, adapter)


def _sizing_claims(sizing: Sizing, operation: Operation, adapter: Adapter) -> Iterator[Claim]:
    spoken = adapter.speaks.features(operation)
    claims = {
        "pixels": (sizing.pixels != "none", Feature.PIXELS),
        "presets": (bool(sizing.presets), Feature.PRESET),
        "ratios": (bool(sizing.ratios), Feature.SHAPE),
    }
    for name, (claimed, feature) in claims.items():
        if claimed and feature not in spoken:
            yield f"{adapter.name} has no words for {feature}", operation.value, name
    if not any(claimed for claimed, _ in claims.values()):
        yield "no size can be ordered this way: say 'pixels', 'presets' or 'ratios'", operation.value
    for number, ratio in enumerate(sizing.ratios):
        if ratio not in RATIOS:
            message = f"'{ratio}' is no ratio that sellers have words for; there is {', '.join(RATIOS)}"
            yield message, operation.value, "ratios", number
    known = {f"{ratio}@{resolution}" for ratio in sizing.ratios for resolution in Resolution}
    for number, shape in enumerate(sizing.unsold):
        if shape not in known:
            yield f"'{shape}' is no shape of this offer: write it like 1:1@4k", operation.value, "unsold", number


# --- policies and rules


def problems_of_policies(loaded: Loaded, config: Config) -> list[Problem]:
    found = [
        *_alias_problems(loaded, config),
        *_policy_problems(loaded, config),
        *_rule_problems(loaded, config),
        *_team_problems(loaded, config),
    ]
    return [Problem(loaded.place(file, *steps), message) for message, file, *steps in found]


def unknown(kind: str, name: str, known: Collection[str] | None) -> Iterator[str]:
    """A message, unless the name is known, or there is no telling since something is wrong that is told already."""
    if name and known is not None and name not in known:
        yield f"there is no {kind} '{name}'{did_you_mean(name, known)}"


def _alias_problems(loaded: Loaded, config: Config) -> Iterator[Claim]:
    seen = dict.fromkeys(loaded.names("models") or (), "a model")
    for name, model in config.models.models.items():
        for number, alias in enumerate(model.aliases):
            if alias in seen:
                yield f"'{alias}' is {seen[alias]} already", "models.yaml", "models", name, "aliases", number
            seen.setdefault(alias, f"an alias of {name}")


def _policy_problems(loaded: Loaded, config: Config) -> Iterator[Claim]:
    for name, policy in config.policies.policies.items():
        # Without any seller, that alone is worth telling.
        for message, *steps in _problems_of(policy, list(config.offers)) if config.offers else ():
            yield message, POLICIES, "policies", name, *steps
    for message in unknown("policy", config.policies.default, loaded.names("policies")):
        yield message, POLICIES, "default"


def _problems_of(policy: PolicyConfig, sellers: Sequence[str]) -> Iterator[Claim]:
    for field in ("sellers", "only", "ignore"):
        for number, seller in enumerate(getattr(policy, field) or ()):
            for message in unknown("seller", seller, sellers):
                yield message, field, number
    for seller in policy.weights or {}:
        for message in unknown("seller", seller, sellers):
            yield message, "weights", seller
    yield from _rank_problems(policy)
    yield from _repeated(policy.sellers or ())
    has_weight = policy.weights is None or any(policy.weights.values())
    if has_weight and not sellers_of(policy, sellers):
        yield ("no seller is left by 'sellers', 'weights', 'only' and 'ignore' together",)


def _repeated(sellers: Sequence[str]) -> Iterator[Claim]:
    for number, seller in enumerate(sellers):
        if seller in sellers[:number]:
            yield f"'{seller}' stands in this list already", "sellers", number


def _rank_problems(policy: PolicyConfig) -> Iterator[Claim]:
    if policy.rank == "weighted" and policy.weights is None:
        yield "rank 'weighted' needs 'weights'", "rank"
    if policy.rank != "weighted" and policy.weights is not None:
        yield f"weights mean nothing for rank '{policy.rank}'", "weights"
    if policy.weights is not None and not any(policy.weights.values()):
        yield "all weights are zero", "weights"
    if policy.rank == "listed" and policy.sellers is None:
        yield "rank 'listed' needs 'sellers'", "rank"
    if policy.within and policy.rank not in ("cost", "latency"):
        yield f"'within' means nothing for rank '{policy.rank}'", "within"
    if policy.then == "weighted" or (policy.then == "listed" and policy.sellers is None):
        yield f"'then' cannot be '{policy.then}' here", "then"


def sellers_of(policy: PolicyConfig, sellers: Sequence[str]) -> list[str]:
    """Those that the policy itself lets in, in the order of its own list if it has one."""
    listed = list(policy.sellers) if policy.sellers is not None else list(sellers)
    if policy.weights is not None:
        listed = [seller for seller in listed if policy.weights.get(seller, 0) > 0]
    if policy.only is not None:
        listed = [seller for seller in listed if seller in policy.only]
    return [seller for seller in listed if seller in sellers and seller not in policy.ignore]


def _rule_problems(loaded: Loaded, config: Config) -> Iterator[Claim]:
    earlier: list[RuleConfig] = []
    for number, rule in enumerate(config.policies.rules):
        for message in unknown("policy", rule.use, loaded.names("policies")):
            yield message, POLICIES, "rules", number, "use"
        for message, *steps in _unmeetable(rule.when, loaded, config):
            yield message, POLICIES, "rules", number, "when", *steps
        for before, other in enumerate(earlier):
            if covers(other.when, rule.when):
                yield f"can never match: rule {before + 1} takes everything before it", POLICIES, "rules", number
                break
        earlier.append(rule)


def _unmeetable(when: When, loaded: Loaded, config: Config) -> Iterator[Claim]:
    """Conditions that no request can ever meet."""
    known = {"team": loaded.names("teams"), "model": loaded.names("models")}
    for name in CONDITIONS:
        wanted = wanted_values(when, name)
        if wanted is not None and not wanted:
            yield "can never match: the list is empty", name
        for value in wanted or ():
            for message in unknown(name, str(value), known.get(name)):
                yield f"can never match: {message}", name
    models = config.models.models
    if len(models) == len(known["model"] or ()):
        most = max((model.most_images for model in models.values()), default=0)
        for count in wanted_values(when, "n") or ():
            if count > most:
                yield f"can never match: no request has more than {most} images", "n"


def wanted_values(when: When, name: str) -> tuple[Any, ...] | None:
    """The values that a condition admits; None where there is no condition."""
    value = getattr(when, name)
    return value if value is None or isinstance(value, tuple) else (value,)


def covers(one: When, other: When) -> bool:
    """Whether every request that meets `other` meets `one` as well."""
    for name in CONDITIONS:
        admitted, needed = wanted_values(one, name), wanted_values(other, name)
        if admitted is not None and (needed is None or not set(needed) <= set(admitted)):
            return False
    return one.metadata.items() <= other.metadata.items()


def _team_problems(loaded: Loaded, config: Config) -> Iterator[Claim]:
    for name, team in config.teams.teams.items():
        for number, policy in enumerate(team.policies):
            for message in unknown("policy", policy, loaded.names("policies")):
                yield message, "teams.yaml", "teams", name, "policies", number
