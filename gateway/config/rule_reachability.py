"""Checks for rules that can never match: impossible conditions, or shadowed by earlier rules."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.config.cross_checks import POLICIES_FILE, check_name
from gateway.config.findings import Finding, to_problems
from gateway.config.loader import LoadedFiles
from gateway.config.schema import CONDITION_NAMES, Config, RuleConditions, RuleConfig
from gateway.config.yaml_nodes import Problem
from providers.image_sizes import Resolution
from providers.orders import Operation, Quality

# All requests whose value of each condition is among these.
RequestSet = Mapping[str, frozenset[Any]]
NO_TEAM = None
ALL_REQUESTS: RequestSet = {
    "operation": frozenset(Operation),
    "resolution": frozenset(Resolution),
    "quality": frozenset(Quality),
}
MAX_REQUEST_SETS = 2_000


def check_rule_reachability(loaded: LoadedFiles, config: Config) -> list[Problem]:
    return to_problems(loaded, POLICIES_FILE, _find_problems(loaded, config), "rules")


def _find_problems(loaded: LoadedFiles, config: Config) -> Iterator[Finding]:
    earlier: dict[int, RuleConfig] = {}
    for index, rule in enumerate(config.policies.rules):
        for message in check_name("policy", rule.use, loaded.known_names("policies")):
            yield Finding(message, (index, "use"))
        impossible = [
            Finding(message, (index, "when", condition))
            for message, condition in _find_impossible_conditions(rule.when, loaded, config)
        ]
        yield from impossible
        if loaded.is_reliable(POLICIES_FILE, "rules", index, "when"):
            if not impossible and (shadowed := _find_shadowing_rules(rule, earlier, loaded, config)):
                yield Finding(f"Can never match: {shadowed}", (index,), ())
            earlier[index] = rule


def _find_impossible_conditions(
    conditions: RuleConditions, loaded: LoadedFiles, config: Config
) -> Iterator[tuple[str, str]]:
    """Yields a message and the condition for each condition that no request can meet."""
    known = {"team": loaded.known_names("teams"), "model": loaded.known_names("models")}
    for name in CONDITION_NAMES:
        values = conditions.get_values(name)
        if values is not None and not values:
            yield "Can never match: the list is empty", name
        for value in values or ():
            for message in check_name(name, str(value), known.get(name)):
                yield f"Can never match: {message}", name
    if loaded.is_reliable("models.yaml"):
        model_names = conditions.get_values("model")
        models = config.models.models
        max_images = max(
            (model.max_images for name, model in models.items() if model_names is None or name in model_names),
            default=None,
        )
        for count in conditions.get_values("n") or ():
            if max_images is not None and count > max_images:
                scope = "" if model_names is None else f" for {', '.join(model_names)}"
                yield f"Can never match: requests{scope} have at most {max_images} images", "n"


def _find_shadowing_rules(
    rule: RuleConfig, earlier: Mapping[int, RuleConfig], loaded: LoadedFiles, config: Config
) -> str | None:
    """Describes the earlier rules that match everything that this rule could match, None if there are none."""
    # A rule with metadata matches only requests that have the same metadata.
    broader = {
        index: other.when
        for index, other in earlier.items()
        if other.when.metadata.items() <= rule.when.metadata.items()
    }
    request_sets = _expand_conditions(rule.when, loaded, config)
    for index, other in broader.items():
        if not _subtract_rules(request_sets, [other]):
            return f"rule {index + 1} matches all its requests first"
    if not _subtract_rules(request_sets, list(broader.values())):
        return f"rules {', '.join(str(index + 1) for index in broader)} together match all its requests first"
    return None


def _expand_conditions(conditions: RuleConditions, loaded: LoadedFiles, config: Config) -> list[RequestSet]:
    """Expands conditions to request sets, one per model since models differ in their maximum of images."""
    given = {name: frozenset(values) for name in CONDITION_NAMES if (values := conditions.get_values(name)) is not None}
    teams = frozenset({NO_TEAM, *(loaded.known_names("teams") or ())})
    is_reliable = loaded.is_reliable("models.yaml")
    max_images = (
        {name: request_set.max_images for name, request_set in config.models.models.items()} if is_reliable else {}
    )
    request_sets = []
    # If the models are not known, one model with the largest possible maximum is assumed.
    for model in given.get("model", frozenset(max_images) or {""}):
        possible = frozenset(range(1, max_images.get(model, 100) + 1))
        request_set = {
            **ALL_REQUESTS,
            "team": teams,
            **given,
            "model": frozenset({model}),
            "n": given.get("n", possible) & possible,
        }
        request_sets.append(request_set)
    return [request_set for request_set in request_sets if all(request_set.values())]


def _subtract_rules(request_sets: Sequence[RequestSet], rules: Sequence[RuleConditions]) -> Sequence[RequestSet]:
    """Returns the request sets that none of the rules matches."""
    for conditions in rules:
        request_sets = [
            remainder for request_set in request_sets for remainder in _subtract_conditions(request_set, conditions)
        ]
        if len(request_sets) > MAX_REQUEST_SETS:
            # Gives up without a finding, since the check would delay the start.
            return request_sets
    return request_sets


def _subtract_conditions(request_set: RequestSet, conditions: RuleConditions) -> Iterator[RequestSet]:
    """Splits a request set into the parts that a rule does not match."""
    remaining = request_set
    for name in CONDITION_NAMES:
        values = conditions.get_values(name)
        if values is None:
            continue
        if others := remaining[name] - set(values):
            yield {**remaining, name: others}
        remaining = {**remaining, name: remaining[name] & set(values)}
        if not remaining[name]:
            return
