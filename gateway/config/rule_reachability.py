"""Warns of rules that never match: an earlier rule matches all their requests, or no request has so many images."""

from collections.abc import Collection, Iterator, Sequence

from gateway.config.loader import LoadedFiles
from gateway.config.model_schema import ModelConfig
from gateway.config.schema import CONDITION_NAMES, Config, RuleConditions
from gateway.config.yaml_nodes import Problem
from providers.orders import Operation


def find_unreachable_rules(loaded: LoadedFiles, config: Config) -> Iterator[Problem]:
    conditions = [rule.when for rule in config.policies.rules]
    for index, when in enumerate(conditions):
        models = _select_models(when, config)
        reason = _find_image_limit(when, models) or _find_covering_rule(when, conditions[:index], models)
        if reason is not None:
            yield loaded.make_problem(f"Never matches: {reason}", "policies.yaml", ("rules", index))


def _select_models(when: RuleConditions, config: Config) -> dict[str, ModelConfig]:
    """Returns the models whose requests the rule can match."""
    names = when.get_values("model")
    return {name: model for name, model in config.models.models.items() if names is None or name in names}


def _find_covering_rule(
    when: RuleConditions, earlier: Sequence[RuleConditions], models: dict[str, ModelConfig]
) -> str | None:
    """Compares with one earlier rule at a time: rules that only together match all requests are not found."""
    numbers = (number for number, other in enumerate(earlier, 1) if _covers(other, when, models))
    return next((f"rule {number} matches all its requests first" for number in numbers), None)


def _covers(other: RuleConditions, when: RuleConditions, models: dict[str, ModelConfig]) -> bool:
    """Returns whether the other rule has no condition that is narrower than this rule's."""
    return other.metadata.items() <= when.metadata.items() and all(
        (allowed := other.get_values(name)) is None
        or set(when.get_values(name) or _list_possible_values(name, models)) <= set(allowed)
        for name in CONDITION_NAMES
    )


def _list_possible_values(name: str, models: dict[str, ModelConfig]) -> Collection[object]:
    """Lists the values of a request to one of these models. None: a request has no value, or one that is not listed."""
    match name:
        case "operation":
            return tuple(Operation)
        case "model":
            return tuple(models)
        case "quality":
            return {quality for model in models.values() for quality in model.qualities}
        case "resolution":
            return {tier for model in models.values() for tier in model.sizes.tiers}
        case "n":
            return range(1, _find_max_images(models) + 1)
        case _:
            return (None,)


def _find_image_limit(when: RuleConditions, models: dict[str, ModelConfig]) -> str | None:
    max_images = _find_max_images(models)
    if min(when.get_values("n") or (1,)) <= max_images:
        return None
    names = when.get_values("model")
    scope = f" for {', '.join(names)}" if names else ""
    return f"requests{scope} have at most {max_images} images"


def _find_max_images(models: dict[str, ModelConfig]) -> int:
    return max(model.max_images for model in models.values())
