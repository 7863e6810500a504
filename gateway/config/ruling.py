"""Rules that no request can ever meet: what they ask for is not there, or rules before them take all of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.config.blocks import Config, RuleConfig, When
from gateway.config.findings import Finding, problems_in
from gateway.config.judging import CONDITIONS, POLICIES, unknown, wanted_values
from gateway.config.loading import Loaded
from gateway.config.located import Problem
from providers.orders import Operation, Quality
from providers.sizes import Resolution

# Requests that have, for each condition, any of these values.
Requests = Mapping[str, frozenset[Any]]
NO_TEAM = None
EVERY: Requests = {
    "operation": frozenset(Operation),
    "resolution": frozenset(Resolution),
    "quality": frozenset(Quality),
}
MOST_PIECES = 2_000


def problems_of_rules(loaded: Loaded, config: Config) -> list[Problem]:
    return problems_in(loaded, POLICIES, _findings(loaded, config), "rules")


def _findings(loaded: Loaded, config: Config) -> Iterator[Finding]:
    earlier: dict[int, RuleConfig] = {}
    for number, rule in enumerate(config.policies.rules):
        for message in unknown("policy", rule.use, loaded.names("policies")):
            yield Finding(message, (number, "use"))
        unmeetable = [
            Finding(message, (number, "when", step)) for message, step in _unmeetable(rule.when, loaded, config)
        ]
        yield from unmeetable
        if loaded.is_sure(POLICIES, "rules", number, "when"):
            if not unmeetable and (taken := _taken(rule, earlier, loaded, config)):
                yield Finding(f"can never match: {taken}", (number,), ())
            earlier[number] = rule


def _unmeetable(when: When, loaded: Loaded, config: Config) -> Iterator[tuple[str, str]]:
    """Conditions that no request can ever meet."""
    known = {"team": loaded.names("teams"), "model": loaded.names("models")}
    for name in CONDITIONS:
        wanted = wanted_values(when, name)
        if wanted is not None and not wanted:
            yield "can never match: the list is empty", name
        for value in wanted or ():
            for message in unknown(name, str(value), known.get(name)):
                yield f"can never match: {message}", name
    if loaded.is_sure("models.yaml"):
        named = wanted_values(when, "model")
        models = config.models.models
        most = max((one.most_images for name, one in models.items() if named is None or name in named), default=None)
        for count in wanted_values(when, "n") or ():
            if most is not None and count > most:
                whose = "" if named is None else f" for {', '.join(named)}"
                yield f"can never match: no request{whose} has more than {most} images", "n"


def _taken(rule: RuleConfig, earlier: Mapping[int, RuleConfig], loaded: Loaded, config: Config) -> str | None:
    """Which rules before this one leave nothing to it."""
    # What asks for metadata takes only requests that have it.
    wider = {at: one.when for at, one in earlier.items() if one.when.metadata.items() <= rule.when.metadata.items()}
    meant = _meant(rule.when, loaded, config)
    for at, one in wider.items():
        if not _left(meant, [one]):
            return f"rule {at + 1} takes everything before it"
    if not _left(meant, list(wider.values())):
        return f"rules {', '.join(str(at + 1) for at in wider)} together take everything before it"
    return None


def _meant(when: When, loaded: Loaded, config: Config) -> list[Requests]:
    """All requests that meet these conditions: for each model, since models differ in how many images they make."""
    named = {name: frozenset(values) for name in CONDITIONS if (values := wanted_values(when, name)) is not None}
    teams = frozenset({NO_TEAM, *(loaded.names("teams") or ())})
    is_sure = loaded.is_sure("models.yaml")
    counts = {name: one.most_images for name, one in config.models.models.items()} if is_sure else {}
    meant = []
    # Where the models are not known, there is at least one, and nobody can say how many images it makes.
    for model in named.get("model", frozenset(counts) or {""}):
        possible = frozenset(range(1, counts.get(model, 100) + 1))
        one = {**EVERY, "team": teams, **named, "model": frozenset({model}), "n": named.get("n", possible) & possible}
        meant.append(one)
    return [one for one in meant if all(one.values())]


def _left(meant: Sequence[Requests], rules: Sequence[When]) -> Sequence[Requests]:
    """What of these requests none of the rules takes."""
    for when in rules:
        meant = [piece for requests in meant for piece in _without(requests, when)]
        if len(meant) > MOST_PIECES:
            # Too many to go on with. Better no word about a rule than a start that takes for ever.
            return meant
    return meant


def _without(requests: Requests, when: When) -> Iterator[Requests]:
    """What a rule leaves of them: for each condition, those that meet all before it, and not this one."""
    rest = requests
    for name in CONDITIONS:
        wanted = wanted_values(when, name)
        if wanted is None:
            continue
        if others := rest[name] - set(wanted):
            yield {**rest, name: others}
        rest = {**rest, name: rest[name] & set(wanted)}
        if not rest[name]:
            return
