"""Checks that span options and files: names used by policies, rules, teams, aliases and offers."""

from collections.abc import Collection, Iterator, Mapping

from gateway.config.findings import Finding, check_name
from gateway.config.loader import LoadedFiles, sort_problems
from gateway.config.model_checks import check_models
from gateway.config.offer_checks import check_offers
from gateway.config.policy_schema import PolicyConfig
from gateway.config.retention_schema import RetentionConfig, TeamRetentionConfig
from gateway.config.schema import Config, RuleConditions
from gateway.config.yaml_nodes import Problem
from providers.adapter import Adapter


def find_problems(loaded: LoadedFiles, config: Config, adapters: Mapping[str, Adapter]) -> tuple[Problem, ...]:
    findings_by_file = {
        "gateway.yaml": _check_gateway(config),
        "models.yaml": check_models(config),
        "policies.yaml": _check_policies(config),
        "teams.yaml": _check_teams(config),
        **{f"offers/{seller}.yaml": check_offers(config, file, adapters) for seller, file in config.offers.items()},
    }
    return sort_problems(
        loaded.make_problem(finding.message, file, finding.path)
        for file, findings in findings_by_file.items()
        for finding in findings
    )


def _check_gateway(config: Config) -> Iterator[Finding]:
    retention = config.gateway.retention
    for message in _find_retention_problems(retention, None):
        yield Finding(message, ("retention",))


def _find_retention_problems(config: RetentionConfig, team: TeamRetentionConfig | None) -> Iterator[str]:
    """Finds what would be kept shorter or longer than the jobs that show it."""
    jobs_days = config.jobs_days if team is None or team.jobs_days is None else team.jobs_days
    decisions_days = config.decisions_days if team is None or team.decisions_days is None else team.decisions_days
    if decisions_days > config.decisions_days:
        days = f"decisions_days ({decisions_days:g}) exceeds that of gateway.yaml ({config.decisions_days:g})"
        yield f"{days}, after which the records of all teams are deleted"
    if team is not None and team.ledger_days is not None and team.ledger_days > config.ledger_days:
        days = f"ledger_days ({team.ledger_days:g}) exceeds that of gateway.yaml ({config.ledger_days:g})"
        yield f"{days}, after which the entries of all teams are deleted"
    if decisions_days < jobs_days:
        days = f"decisions_days ({decisions_days:g}) is less than jobs_days ({jobs_days:g})"
        yield f"{days}, but jobs show their plan from their decision records"
    own = config if team is None else team
    for name, own_days in (("images_days", own.images_days), ("prompts_days", own.prompts_days)):
        if own_days is not None and own_days > jobs_days:
            yield f"{name} ({own_days:g}) exceeds jobs_days ({jobs_days:g}), but nothing is kept longer than its job"


def _check_policies(config: Config) -> Iterator[Finding]:
    policies, seller_regions = config.policies.policies, _list_seller_regions(config)
    for name, policy in policies.items():
        for finding in _check_policy(policy, seller_regions):
            yield Finding(finding.message, ("policies", name, *finding.path))
    for index, rule in enumerate(config.policies.rules):
        yield from check_name("policy", rule.use, policies, "rules", index, "use")
        for kind, known in (("team", config.teams.teams), ("model", config.models.models)):
            for value in rule.when.get_values(kind) or ():
                yield from check_name(kind, value, known, "rules", index, "when", kind)
        for finding in _check_words(config, rule.when):
            yield Finding(finding.message, ("rules", index, "when", *finding.path))
    yield from check_name("policy", config.policies.default, policies, "default")


def _check_words(config: Config, when: RuleConditions) -> Iterator[Finding]:
    """Checks that a model of the rule has the qualities and resolutions of its conditions."""
    names = when.get_values("model")
    models = [model for name, model in config.models.models.items() if names is None or name in names]
    qualities = dict.fromkeys(str(quality) for model in models for quality in model.qualities)
    resolutions = dict.fromkeys(str(tier) for model in models for tier in model.sizes.tiers)
    for kind, known in (("quality", qualities), ("resolution", resolutions)):
        # An unknown model is reported by itself.
        for index, value in enumerate((when.get_values(kind) or ()) if models else ()):
            path = (kind, index) if isinstance(getattr(when, kind), tuple) else (kind,)
            yield from check_name(kind, value, known, *path)


def _list_seller_regions(config: Config) -> dict[str, str | None]:
    accounts = config.accounts.accounts
    return {
        seller: accounts[file.account].region if file.account in accounts else None
        for seller, file in config.offers.items()
    }


def _check_regions(regions: tuple[str, ...] | None, sellers: Mapping[str, str | None], *path: str) -> Iterator[Finding]:
    """Checks that a seller is in each region. A misspelled region would exclude every seller."""
    known = dict.fromkeys(region for region in sellers.values() if region)
    if regions and not known:
        yield Finding("No seller is in a region: give accounts of accounts.yaml a 'region'", path)
    for index, region in enumerate((regions or ()) if known else ()):
        yield from check_name("region", region, known, *path, index)


def _check_policy(policy: PolicyConfig, sellers: Mapping[str, str | None]) -> Iterator[Finding]:
    """`sellers`: their names, and the regions of their accounts."""
    unknown_names = [*_check_seller_names(policy, sellers), *_check_regions(policy.regions, sellers, "regions")]
    yield from unknown_names
    yield from (Finding(message, (option,)) for message, option in _check_rank(policy))
    for index, seller in enumerate(policy.sellers or ()):
        if seller in (policy.sellers or ())[:index]:
            yield Finding(f"'{seller}' is listed twice", ("sellers", index))
    has_weight = policy.weights is None or any(policy.weights.values())
    # A misspelled seller may be the only eligible one.
    eligible_count = len(_list_eligible_sellers(policy, sellers))
    if has_weight and not unknown_names and 0 < eligible_count < (policy.split.sellers if policy.split else 0):
        yield Finding(f"The policy has fewer sellers than these: {eligible_count}", ("split", "sellers"))
    if has_weight and not unknown_names:
        yield from _check_canary(policy, _list_eligible_sellers(policy, sellers))
    if has_weight and not unknown_names and not eligible_count:
        yield Finding("'sellers', 'weights', 'only', 'ignore' and 'regions' together exclude all sellers", ())


def _check_canary(policy: PolicyConfig, eligible: Collection[str]) -> Iterator[Finding]:
    if policy.canary is None or not eligible:
        return
    if policy.canary.seller not in eligible:
        yield Finding(f"The policy does not admit the canary '{policy.canary.seller}'", ("canary", "seller"))
    elif len(eligible) == 1:
        yield Finding("The canary is the policy's only seller", ("canary", "seller"))


def _check_seller_names(policy: PolicyConfig, sellers: Collection[str]) -> Iterator[Finding]:
    for field in ("sellers", "only", "ignore"):
        for index, seller in enumerate(getattr(policy, field) or ()):
            yield from check_name("seller", seller, sellers, field, index)
    if policy.canary is not None:
        yield from check_name("seller", policy.canary.seller, sellers, "canary", "seller")
    for seller in policy.weights or {}:
        yield from check_name("seller", seller, sellers, "weights", seller)


def _check_rank(policy: PolicyConfig) -> Iterator[tuple[str, str]]:
    """Yields a message and its option."""
    has_list = policy.sellers is not None
    if policy.rank == "weighted" and policy.weights is None:
        yield "Rank 'weighted' needs 'weights'", "rank"
    if policy.rank != "weighted" and policy.weights is not None:
        yield f"'weights' has no effect with rank '{policy.rank}'", "weights"
    if policy.weights is not None and not any(policy.weights.values()):
        yield "All weights are zero", "weights"
    if policy.rank == "listed" and not has_list:
        yield "Rank 'listed' needs 'sellers'", "rank"
    if policy.rank == "deadline" and policy.max_seconds is None:
        yield "Rank 'deadline' needs 'max_seconds'", "rank"
    if policy.within and policy.rank not in ("cost", "latency", "deadline"):
        yield f"'within' has no effect with rank '{policy.rank}'", "within"
    if policy.then in ("weighted", "deadline") or (policy.then == "listed" and not has_list):
        yield f"Invalid value '{policy.then}' for 'then' in this policy", "then"


def _list_eligible_sellers(policy: PolicyConfig, sellers: Mapping[str, str | None]) -> list[str]:
    return [
        seller
        for seller, region in sellers.items()
        if (policy.sellers is None or seller in policy.sellers)
        and (policy.weights is None or policy.weights.get(seller, 0) > 0)
        and (policy.only is None or seller in policy.only)
        and seller not in policy.ignore
        and (policy.regions is None or region in policy.regions)
    ]


def _check_teams(config: Config) -> Iterator[Finding]:
    sellers = _list_seller_regions(config)
    for name, team in config.teams.teams.items():
        for index, policy in enumerate(team.policies):
            yield from check_name("policy", policy, config.policies.policies, "teams", name, "policies", index)
        for reference in team.key_budgets:
            yield from check_name("key", reference, team.keys, "teams", name, "key_budgets", reference)
        yield from _check_regions(team.regions, sellers, "teams", name, "regions")
        if team.retention != TeamRetentionConfig():
            for message in _find_retention_problems(config.gateway.retention, team.retention):
                yield Finding(message, ("teams", name, "retention"))
