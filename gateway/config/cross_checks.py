"""Checks that span files: names used by policies, teams and aliases."""

from collections.abc import Collection, Iterator, Sequence

from gateway.config.findings import Finding, to_problems
from gateway.config.loader import LoadedFiles
from gateway.config.schema import Config, PolicyConfig
from gateway.config.yaml_nodes import Problem
from gateway.suggestions import did_you_mean

POLICIES_FILE = "policies.yaml"
SELLER_FILTERS = ("sellers", "weights", "only", "ignore")


def check_policies_and_teams(loaded: LoadedFiles, config: Config) -> list[Problem]:
    return [
        *to_problems(loaded, "models.yaml", _check_aliases(loaded, config), "models"),
        *_check_policies(loaded, config),
        *to_problems(loaded, "teams.yaml", _check_teams(loaded, config), "teams"),
    ]


def check_name(kind: str, name: str, known: Collection[str] | None) -> Iterator[str]:
    """Yields a message if the name is unknown. Yields nothing if the known names are not reliable, since that problem
    is already reported."""
    if name and known is not None and name not in known:
        yield f"Unknown {kind} '{name}'{did_you_mean(name, known)}"


def _check_aliases(loaded: LoadedFiles, config: Config) -> Iterator[Finding]:
    owners = dict.fromkeys(loaded.known_names("models") or (), "a model")
    for name, model in config.models.models.items():
        for option in ("aliases", "dalle_aliases"):
            for index, alias in enumerate(getattr(model, option)):
                if alias in owners:
                    yield Finding(f"'{alias}' is already the name of {owners[alias]}", (name, option, index))
                owners.setdefault(alias, f"an alias of {name}")


def _check_policies(loaded: LoadedFiles, config: Config) -> Iterator[Problem]:
    for name, policy in config.policies.policies.items():
        # Without any seller, only the missing sellers are reported.
        findings = _check_policy(policy, list(config.offers)) if config.offers else ()
        yield from to_problems(loaded, POLICIES_FILE, findings, "policies", name)
    messages = check_name("policy", config.policies.default, loaded.known_names("policies"))
    yield from to_problems(loaded, POLICIES_FILE, (Finding(message, ("default",)) for message in messages))


def _check_policy(policy: PolicyConfig, sellers: Sequence[str]) -> Iterator[Finding]:
    unknown_sellers = list(_check_seller_names(policy, sellers))
    yield from unknown_sellers
    yield from (
        Finding(message, (option,), tuple((used_option,) for used_option in used_options))
        for message, option, *used_options in _check_rank(policy)
    )
    yield from _check_repeated_sellers(policy.sellers or ())
    has_weight = policy.weights is None or any(policy.weights.values())
    # A misspelled seller may be the only eligible one.
    if has_weight and not unknown_sellers and not eligible_sellers(policy, sellers):
        message = "'sellers', 'weights', 'only' and 'ignore' together exclude all sellers"
        yield Finding(message, (), tuple((name,) for name in SELLER_FILTERS))


def _check_seller_names(policy: PolicyConfig, sellers: Sequence[str]) -> Iterator[Finding]:
    for field in ("sellers", "only", "ignore"):
        for index, seller in enumerate(getattr(policy, field) or ()):
            for message in check_name("seller", seller, sellers):
                yield Finding(message, (field, index))
    for seller in policy.weights or {}:
        for message in check_name("seller", seller, sellers):
            # The weight of an unknown seller may still be valid.
            yield Finding(message, ("weights", seller), ())


def _check_repeated_sellers(sellers: Sequence[str]) -> Iterator[Finding]:
    for index, seller in enumerate(sellers):
        if seller in sellers[:index]:
            yield Finding(f"'{seller}' is listed twice", ("sellers", index))


def _check_rank(policy: PolicyConfig) -> Iterator[tuple[str, ...]]:
    """Yields a message, the option it is about, and the options it depends on."""
    has_list = policy.sellers is not None
    if policy.rank == "weighted" and policy.weights is None:
        yield "Rank 'weighted' needs 'weights'", "rank", "rank", "weights"
    if policy.rank != "weighted" and policy.weights is not None:
        yield f"'weights' has no effect with rank '{policy.rank}'", "weights", "rank"
    if policy.weights is not None and not any(policy.weights.values()):
        yield "All weights are zero", "weights", "weights"
    if policy.rank == "listed" and not has_list:
        yield "Rank 'listed' needs 'sellers'", "rank", "rank", "sellers"
    if policy.within and policy.rank not in ("cost", "latency"):
        yield f"'within' has no effect with rank '{policy.rank}'", "within", "rank", "within"
    if policy.then == "weighted" or (policy.then == "listed" and not has_list):
        yield f"Invalid value '{policy.then}' for 'then' in this policy", "then", "then", "sellers"


def eligible_sellers(policy: PolicyConfig, sellers: Sequence[str]) -> list[str]:
    """Returns the sellers that the policy does not exclude, in the order of its `sellers` list if it has one."""
    eligible = list(policy.sellers) if policy.sellers is not None else list(sellers)
    if policy.weights is not None:
        eligible = [seller for seller in eligible if policy.weights.get(seller, 0) > 0]
    if policy.only is not None:
        eligible = [seller for seller in eligible if seller in policy.only]
    return [seller for seller in eligible if seller in sellers and seller not in policy.ignore]


def _check_teams(loaded: LoadedFiles, config: Config) -> Iterator[Finding]:
    for name, team in config.teams.teams.items():
        for index, policy in enumerate(team.policies):
            for message in check_name("policy", policy, loaded.known_names("policies")):
                yield Finding(message, (name, "policies", index))
