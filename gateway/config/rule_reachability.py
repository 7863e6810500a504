"""Warns of rules that never match: an earlier rule matches all their requests, or no request has so many images."""

from collections.abc import Iterator, Sequence

from gateway.config.loader import LoadedFiles
from gateway.config.schema import CONDITION_NAMES, Config, RuleConditions
from gateway.config.yaml_nodes import Problem


def find_unreachable_rules(loaded: LoadedFiles, config: Config) -> Iterator[Problem]:
    conditions = [rule.when for rule in config.policies.rules]
    for index, when in enumerate(conditions):
        reason = _find_image_limit(when, config) or _find_covering_rule(when, conditions[:index])
        if reason is not None:
            yield loaded.make_problem(f"Never matches: {reason}", "policies.yaml", ("rules", index))


def _find_covering_rule(when: RuleConditions, earlier: Sequence[RuleConditions]) -> str | None:
    """Compares with one earlier rule at a time: rules that only together match all requests are not found."""
    numbers = (number for number, other in enumerate(earlier, 1) if _covers(other, when))
    return next((f"rule {number} matches all its requests first" for number in numbers), None)


def _covers(other: RuleConditions, when: RuleConditions) -> bool:
    """Returns whether the other rule has no condition that is narrower than this rule's."""
    return other.metadata.items() <= when.metadata.items() and all(
        (allowed := other.get_values(name)) is None or set(when.get_values(name) or (None,)) <= set(allowed)
        for name in CONDITION_NAMES
    )


def _find_image_limit(when: RuleConditions, config: Config) -> str | None:
    models, names = config.models.models, when.get_values("model")
    max_images = max(model.max_images for name, model in models.items() if names is None or name in names)
    if min(when.get_values("n") or (1,)) <= max_images:
        return None
    scope = f" for {', '.join(names)}" if names else ""
    return f"requests{scope} have at most {max_images} images"
