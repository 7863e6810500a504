"""Schema of the YAML files: one strict struct per mapping. `catalogue.py` holds what they resolve to.

`model_schema.py` holds the structs of models, `offer_schema.py` those of `offers/<seller>.yaml`, `policy_schema.py`
those of policies, `webhook_schema.py` those of webhooks, `retention_schema.py` those of retention.
"""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from gateway.config.account_proxy import ProxyRef
from gateway.config.budget_schema import BudgetConfig, KeyBudgetConfig
from gateway.config.model_schema import ModelConfig
from gateway.config.moderation_schema import ModerationConfig
from gateway.config.offer_schema import OfferFile
from gateway.config.policy_schema import PolicyConfig, Regions
from gateway.config.retention_schema import RetentionConfig, TeamRetentionConfig
from gateway.config.schema_base import ConfigStruct, Count, NonEmptyText, OneOrMore, PositiveSeconds, option_help
from gateway.config.timing_options import TimingConfig
from gateway.config.value_types import BaseUrl, SecretRef, Usd, WebOrigin
from gateway.config.webhook_schema import WebhooksConfig
from providers.orders import Operation

# --- gateway.yaml


class ReloadConfig(ConfigStruct, frozen=True, kw_only=True):
    """Whether changed files are applied without a restart, and the interval in seconds between checks."""

    watch: Annotated[bool, option_help("Whether changed files are applied without a restart. Default true.")] = True
    every_seconds: Annotated[
        PositiveSeconds,
        option_help("Seconds between two checks of the files. Default 1.0; a larger number delays changes."),
    ] = 1.0


class JobsConfig(ConfigStruct, frozen=True, kw_only=True):
    """Deadline of jobs, and how long a replica may be silent before other replicas claim its jobs."""

    deadline_seconds: Annotated[
        float, Meta(ge=1, le=86_400, description="Seconds after which a job expires. Default 900.")
    ] = 900.0
    lease_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=300,
            description="Seconds of silence after which other replicas claim the jobs of a paused or unreachable "
            "replica. They claim those of a process that has ended within two seconds. Default 15.",
        ),
    ] = 15.0


class StoreConfig(ConfigStruct, frozen=True, kw_only=True):
    """Whether the gateway checks that Redis is configured durably, and how many copies a commit must have."""

    durability: Annotated[
        Literal["checked", "declared"],
        option_help(
            "'checked': the gateway reads Redis's configuration; 'declared': the operator guarantees durability. "
            "Default checked."
        ),
    ] = "checked"
    wait_replicas: Annotated[
        int,
        Meta(
            ge=0,
            le=5,
            description="How many replicas of Redis must have a commit before it is acknowledged (WAIT). If fewer "
            "confirm it, the commit fails. Default 0: a failover may lose the last commits.",
        ),
    ] = 0


DEFAULT_ADMIN_KEYS = (SecretRef("env:IGW_ADMIN_KEY"),)


class AdminConfig(ConfigStruct, frozen=True, kw_only=True):
    """Keys of the admin API, besides the API keys with the scope `admin`."""

    keys: Annotated[
        tuple[SecretRef, ...],
        option_help(
            "References to the admin keys: env:NAME or file:/path. Default env:IGW_ADMIN_KEY, which need not be set."
        ),
    ] = DEFAULT_ADMIN_KEYS


class CrossOriginConfig(ConfigStruct, frozen=True, kw_only=True):
    """Web pages of which other origins may call the gateway from a browser (CORS)."""

    origins: Annotated[
        tuple[WebOrigin, ...],
        option_help("Origins like https://app.example.com, or '*' for all. Default none: browsers block such calls."),
    ] = ()


class BatchesConfig(ConfigStruct, frozen=True, kw_only=True):
    """How much batches may use beside interactive requests."""

    share: Annotated[
        float,
        Meta(
            ge=0.01,
            le=1,
            description="Share of each account's limits, and of the concurrent jobs of teams and keys, for batches; "
            "at least one. Default 0.5.",
        ),
    ] = 0.5
    open_lines: Annotated[
        int, Meta(ge=1, le=1_000, description="Lines that each replica works on at once. Default 64.")
    ] = 64
    max_open: Annotated[int, Meta(ge=1, le=1_000, description="Batches of a team that have not ended. Default 10.")] = (
        10
    )


class RoutingConfig(ConfigStruct, frozen=True, kw_only=True):
    """The base of the ranking: configured or charged prices."""

    believe_charged_prices: Annotated[
        bool,
        option_help(
            "Whether quotes, the ranking and holds use what a seller has charged for a cell, the median of the last "
            "five orders of a day, in place of the configured price. Default false."
        ),
    ] = False


class GatewayFile(ConfigStruct, frozen=True, kw_only=True):
    """The gateway's own options."""

    reload: Annotated[ReloadConfig, option_help("How changes to these files are applied.")] = ReloadConfig()
    jobs: Annotated[JobsConfig, option_help("How long jobs may take.")] = JobsConfig()
    store: Annotated[StoreConfig, option_help("Checks of the store.")] = StoreConfig()
    retention: Annotated[RetentionConfig, option_help("How long data is kept.")] = RetentionConfig()
    timing: Annotated[TimingConfig, option_help("Timeouts and intervals.")] = TimingConfig()
    routing: Annotated[RoutingConfig, option_help("Prices that the ranking is based on.")] = RoutingConfig()
    batches: Annotated[BatchesConfig, option_help("How much batches may use.")] = BatchesConfig()
    admin: Annotated[AdminConfig, option_help("Access to the admin API.")] = AdminConfig()
    cors: Annotated[CrossOriginConfig, option_help("Calls from web pages.")] = CrossOriginConfig()
    moderate: Annotated[ModerationConfig, option_help("Servers that may refuse requests and images.")] = (
        ModerationConfig()
    )


# --- models.yaml


class ModelsFile(ConfigStruct, frozen=True, kw_only=True):
    """Models that clients can request."""

    models: Annotated[dict[NonEmptyText, ModelConfig], Meta(min_length=1, description="Models, by name.")]


# --- accounts.yaml


class AccountLimits(ConfigStruct, frozen=True, kw_only=True):
    """Limits of each gateway replica for one account: concurrent orders and orders per minute."""

    concurrency: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | None,
        option_help("Concurrent orders, at least 1. Default no limit; more orders wait or go to other sellers."),
    ] = None
    per_minute: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | None,
        option_help("Orders in any 60 seconds, at least 1. Default no limit; more orders wait or go to other sellers."),
    ] = None


class AccountConfig(ConfigStruct, frozen=True, kw_only=True):
    """One account at a seller: base URL, API key, proxy, callback secrets, limits and whether idempotency keys are
    trusted."""

    EXTRA_CONSTRAINTS: ClassVar[dict[str, Any]] = {
        "if": {"not": {"properties": {"private": {"const": True}}, "required": ["private"]}},
        "then": {"properties": {"base_url": {"pattern": r"^(https:|http://([^/\[]+|\[[^\]]+\]):\d+(/|$))"}}},
    }

    base_url: Annotated[
        BaseUrl,
        option_help(
            "Base URL of the seller's API, without credentials or a query. Plain http needs private: true, or a port."
        ),
    ]
    key: Annotated[
        SecretRef,
        option_help("Reference to the API key: env:NAME or file:/path. Without a key the account is disabled."),
    ]
    replay: Annotated[
        Literal["trusted", "untrusted"],
        option_help(
            "Whether a repeated order with the same idempotency key and body is never charged twice. Default untrusted."
        ),
    ] = "untrusted"
    callback_secrets: Annotated[
        tuple[SecretRef, ...],
        option_help("References to the secrets that sign callbacks. Default none: callbacks are rejected."),
    ] = ()
    private: Annotated[
        bool, option_help("Whether the base URL may resolve to an address in a private network. Default false.")
    ] = False
    proxy: Annotated[
        ProxyRef | None,
        option_help(
            "HTTP proxy for the account's requests: http://host:port, or a reference (env:NAME, file:/path) to a "
            "proxy address with credentials. Default none."
        ),
    ] = None
    limits: Annotated[AccountLimits, option_help("Limits of each gateway replica. Default no limits.")] = (
        AccountLimits()
    )
    region: Annotated[NonEmptyText | None, option_help("Where the seller processes data, as you name it.")] = None
    low_balance_usd: Annotated[
        Usd | None, option_help("An alert fires below this balance in USD, if the seller shows it. Default no alert.")
    ] = None

    def check_consistency(self) -> str | None:
        is_refused = self.base_url.is_plain_http and not self.private
        return "base_url must be https, or have a port, unless private is true" if is_refused else None


class AccountsFile(ConfigStruct, frozen=True, kw_only=True):
    """Accounts at the sellers."""

    accounts: Annotated[dict[NonEmptyText, AccountConfig], option_help("Accounts, by name.")]


# --- policies.yaml


class RuleConditions(ConfigStruct, frozen=True, kw_only=True):
    """Conditions of a rule. All must match; a list matches if it contains the request's value."""

    team: Annotated[OneOrMore[NonEmptyText] | None, option_help("Team of the request. Default any, or none.")] = None
    model: Annotated[OneOrMore[NonEmptyText] | None, option_help("Requested model, by its own name. Default any.")] = (
        None
    )
    operation: Annotated[OneOrMore[Operation] | None, option_help("Requested operation. Default either.")] = None
    resolution: Annotated[
        OneOrMore[NonEmptyText] | None, option_help("Resolution tier of the requested size. Default any.")
    ] = None
    quality: Annotated[OneOrMore[NonEmptyText] | None, option_help("Requested quality. Default any.")] = None
    n: Annotated[OneOrMore[Count] | None, option_help("Number of images of the request. Default any.")] = None
    metadata: Annotated[
        dict[NonEmptyText, NonEmptyText], option_help("Entries that the request's metadata must contain. Default none.")
    ] = {}  # noqa: RUF012  a struct copies it

    def get_values(self, name: str) -> tuple[Any, ...] | None:
        """Returns the values that a condition matches, None without that condition."""
        value = getattr(self, name)
        return value if value is None or isinstance(value, tuple) else (value,)

    def admits(self, name: str, value: object) -> bool:
        """Returns whether the condition matches this value. A missing condition matches every value."""
        allowed = self.get_values(name)
        return allowed is None or value in allowed


# All conditions but `metadata`, which is compared entry by entry.
CONDITION_NAMES = ("team", "model", "operation", "resolution", "quality", "n")


class RuleConfig(ConfigStruct, frozen=True, kw_only=True):
    """Selects a policy for requests that match the conditions."""

    when: Annotated[RuleConditions, option_help("Conditions, all of which must match.")]
    use: Annotated[NonEmptyText, option_help("The policy to use.")]


class PoliciesFile(ConfigStruct, frozen=True, kw_only=True):
    """Policies, the rules that select one of them (the first match wins), and the default policy."""

    policies: Annotated[dict[NonEmptyText, PolicyConfig], option_help("Policies, by name.")]
    rules: Annotated[
        tuple[RuleConfig, ...], option_help("Rules that select a policy; the first match wins. Default none.")
    ] = ()
    default: Annotated[NonEmptyText, option_help("The policy to use if no rule matches.")]

    @property
    def canary_sellers(self) -> frozenset[str]:
        """The sellers that are canaries of any policy."""
        return frozenset([policy.canary.seller for policy in self.policies.values() if policy.canary])

    @property
    def metadata_names(self) -> frozenset[str]:
        """The names of metadata that any rule matches on."""
        return frozenset(name for rule in self.rules for name in rule.when.metadata)


# --- teams.yaml


Limit = Annotated[int, Meta(ge=1, le=1_000_000)]


class RateLimits(ConfigStruct, frozen=True, kw_only=True, omit_defaults=True):
    """Limits of how much a team, or an API key, may request. They count new jobs; reading is not limited."""

    requests_per_minute: Annotated[
        Limit | None, option_help("Requests for images in any 60 seconds, at least 1. Default no limit.")
    ] = None
    images_per_minute: Annotated[
        Limit | None, option_help("Requested images in any 60 seconds, at least 1. Default no limit.")
    ] = None
    concurrent_jobs: Annotated[Limit | None, option_help("Jobs that have not ended, at least 1. Default no limit.")] = (
        None
    )


class TeamConfig(ConfigStruct, frozen=True, kw_only=True):
    """A team: API keys, budget, policies it may request, and limits in USD per image and per request."""

    keys: Annotated[
        tuple[SecretRef, ...],
        option_help(
            "References to API keys of the team: env:NAME or file:/path. Default none: it has only those of "
            "`image-gateway keys`."
        ),
    ] = ()
    budget: Annotated[BudgetConfig, option_help("Maximum USD per day, week, month and lifetime. Default no limit.")] = (
        BudgetConfig()
    )
    key_budgets: Annotated[
        dict[SecretRef, KeyBudgetConfig],
        option_help("Budgets of keys of `keys`, by their references, besides that of the team. Default no limit."),
    ] = {}  # noqa: RUF012
    over_budget: Annotated[
        Literal["reject", "degrade"],
        option_help(
            "A request that exceeds a budget: reject it, or degrade it to the next lower quality, and then resolution, "
            "that fits. Default reject."
        ),
    ] = "reject"
    policies: Annotated[
        tuple[NonEmptyText, ...], option_help("Policies that the team's clients may request. Default none.")
    ] = ()
    max_price: Annotated[Usd | None, option_help("Maximum USD per image. Default no limit.")] = None
    max_cost: Annotated[Usd | None, option_help("Maximum USD per request. Default no limit.")] = None
    limits: Annotated[RateLimits, option_help("How much all keys of the team together may request.")] = RateLimits()
    regions: Annotated[Regions | None, option_help("Only sellers of accounts in these regions. Default all.")] = None
    webhooks: Annotated[WebhooksConfig, option_help("Signing secrets and targets of webhooks.")] = WebhooksConfig()
    retention: Annotated[TeamRetentionConfig, option_help("How long the team's content is kept.")] = (
        TeamRetentionConfig()
    )
    moderate: Annotated[ModerationConfig, option_help("Servers that may refuse its requests and images.")] = (
        ModerationConfig()
    )


class TeamsFile(ConfigStruct, frozen=True, kw_only=True):
    """Teams and their limits."""

    teams: Annotated[dict[NonEmptyText, TeamConfig], option_help("Teams, by name. Default none.")] = {}  # noqa: RUF012


CONFIG_FILES: dict[str, type[ConfigStruct]] = {
    "gateway.yaml": GatewayFile,
    "models.yaml": ModelsFile,
    "accounts.yaml": AccountsFile,
    "policies.yaml": PoliciesFile,
    "teams.yaml": TeamsFile,
}
OPTIONAL_FILES = {"gateway.yaml", "teams.yaml"}


class Config(Struct, frozen=True, kw_only=True):
    """All configuration files, without the parts that are invalid."""

    gateway: GatewayFile
    models: ModelsFile
    accounts: AccountsFile
    offers: dict[str, OfferFile]
    policies: PoliciesFile
    teams: TeamsFile
    hash: str
