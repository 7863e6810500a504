"""What the YAML may say: one strict struct per block. What it means is worked out in `catalogue.py`."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.config.gateway_schema import GatewayFile
from gateway.config.proxy import ProxyRef
from gateway.config.schema_base import NON_EMPTY, ConfigStruct, Count, NonEmptyText, PositiveSeconds
from gateway.config.values import BaseUrl, Day, Percent, Ratio, SecretRef, SizeValue, Usd
from providers.image_sizes import Resolution
from providers.order_status import TokenUsage
from providers.orders import Format, Operation, Quality

# --- models.yaml


class ModelDefaults(ConfigStruct, frozen=True, kw_only=True):
    """What `auto`, or nothing, means."""

    size: SizeValue = SizeValue("1024x1024")
    quality: Quality = Quality.HIGH
    output_format: Format = Format.PNG


class ModelConfig(ConfigStruct, frozen=True, kw_only=True):
    """A name that callers ask for: its other names, its defaults, the most images of one request."""

    defaults: ModelDefaults = ModelDefaults()
    aliases: tuple[NonEmptyText, ...] = ()
    dalle_aliases: tuple[NonEmptyText, ...] = ()
    most_images: Annotated[int, Meta(ge=1, le=10)] = 10


class ModelsFile(ConfigStruct, frozen=True, kw_only=True):
    """The names that callers ask for."""

    models: Annotated[dict[NonEmptyText, ModelConfig], Meta(min_length=1)]


# --- accounts.yaml


class AccountLimits(ConfigStruct, frozen=True, kw_only=True):
    """How much an account takes from each replica of the gateway: orders at once, and orders in a minute."""

    concurrency: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    per_minute: Annotated[int, Meta(ge=1, le=10_000)] | None = None


class AccountConfig(ConfigStruct, frozen=True, kw_only=True):
    """Ours, at a seller: where it is and the way there, what it is paid with, how it treats repeats, what it takes."""

    base_url: BaseUrl
    key: SecretRef
    replay: Literal["trusted", "untrusted"] = "untrusted"
    callback_secrets: tuple[SecretRef, ...] = ()
    private: bool = False
    proxy: ProxyRef | None = None
    limits: AccountLimits = AccountLimits()


class AccountsFile(ConfigStruct, frozen=True, kw_only=True):
    """Our accounts at the sellers."""

    accounts: dict[NonEmptyText, AccountConfig]


# --- offers/<seller>.yaml


class QualityOptions(ConfigStruct, frozen=True, kw_only=True):
    """Either the qualities that can be ordered, or the one that we believe comes."""

    selectable: tuple[Quality, ...] = ()
    assumes: Quality | None = None

    def check_consistency(self) -> str | None:
        if bool(self.selectable) == (self.assumes is not None):
            return "must have either 'selectable' with at least one quality, or 'assumes'"
        return None


class SizeOptions(ConfigStruct, frozen=True, kw_only=True):
    """How a size is addressed. Pixels and presets are exact; a ratio and a tier leave the pixels to the seller."""

    pixels: Literal["exact", "unverified", "none"] = "none"
    presets: dict[NonEmptyText, SizeValue] = {}  # noqa: RUF012  a struct copies it
    ratios: tuple[Ratio, ...] = ()
    resolutions: tuple[Resolution, ...] = tuple(Resolution)
    unsold: tuple[NonEmptyText, ...] = ()


QualityOrAny = Literal["any", "low", "medium", "high"]


class ExpectedLatency(ConfigStruct, frozen=True, kw_only=True):
    """Seconds until the pictures are there: half of them by `p50`, nine in ten by `p90`."""

    p50: PositiveSeconds
    p90: PositiveSeconds

    def check_consistency(self) -> str | None:
        return "p90 cannot be less than p50" if self.p90 < self.p50 else None


class PriceRow(ConfigStruct, frozen=True, kw_only=True):
    """USD per image for every cell of these operations, resolutions and qualities; left out means all.

    `ceiling` is the most that is conceivable: it is set aside until the bill is known.
    """

    price: Usd
    ceiling: Usd | None = None
    operations: tuple[Operation, ...] = tuple(Operation)
    resolutions: tuple[Resolution, ...] = tuple(Resolution)
    qualities: tuple[Quality, ...] = tuple(Quality)
    source: NonEmptyText
    date: Day

    def check_consistency(self) -> str | None:
        is_below_price = self.ceiling is not None and self.ceiling < self.price
        return "the ceiling cannot be below the price" if is_below_price else None


class TokenPrices(ConfigStruct, frozen=True, kw_only=True):
    """USD per million tokens, for sellers that bill by what they count: the prices of cells are then estimates of the
    pictures alone, and what goes in is added for every order.

    `image_tokens` is the most that one input image, or a mask, counts as.
    """

    input_text: Usd
    input_image: Usd
    output: Usd
    image_tokens: Count = 7_000

    def compute_cost(self, usage: TokenUsage) -> int:
        """In micro-USD, rounded up: a budget must not be passed by halves."""
        costs = (
            usage.input_text * self.input_text,
            usage.input_image * self.input_image,
            usage.output * self.output,
        )
        return -(-sum(costs) // 1_000_000)


class OfferConfig(ConfigStruct, frozen=True, kw_only=True):
    """What one seller sells under one of our models' names, as far as he can be told to."""

    model: NonEmptyText
    images_per_order: Count
    quality: QualityOptions
    generate: SizeOptions | None = None
    edit: SizeOptions | None = None
    formats: tuple[Format, ...] = ()
    unverified: NonEmptyText | None = None
    mask: bool = False
    inputs: Annotated[int, Meta(ge=0, le=16)] = 0
    seconds: dict[QualityOrAny, ExpectedLatency]
    prices: tuple[PriceRow, ...]
    tokens: TokenPrices | None = None


class OfferFile(ConfigStruct, frozen=True, kw_only=True):
    """One seller: an account reached through one dialect, and what he offers. The file has his name."""

    account: NonEmptyText
    adapter: NonEmptyText
    offers: Annotated[dict[NonEmptyText, OfferConfig], Meta(min_length=1)]


# --- policies.yaml

Rank = Literal["cost", "latency", "listed", "weighted"]


class FailoverConfig(ConfigStruct, frozen=True, kw_only=True):
    """How many orders are tried per image, and whether to buy again where the first may have been taken."""

    attempts: Annotated[int, Meta(ge=1, le=10)] = 3
    on_unknown: Literal["fail", "reorder"] = "fail"


class PolicyConfig(ConfigStruct, frozen=True, kw_only=True):
    """A way to rank sellers, and limits that narrow whom it ranks."""

    rank: Rank
    sellers: tuple[NonEmptyText, ...] | None = None
    weights: dict[NonEmptyText, Annotated[float, Meta(ge=0, le=1_000_000)]] | None = None
    within: Percent = Percent(0)
    then: Rank = "latency"
    fidelity: Literal["nearest", "exact"] = "nearest"
    failover: FailoverConfig = FailoverConfig()
    max_price: Usd | None = None
    max_cost: Usd | None = None
    max_seconds: PositiveSeconds | None = None
    only: tuple[NonEmptyText, ...] | None = None
    ignore: tuple[NonEmptyText, ...] = ()


class RuleConditions(ConfigStruct, frozen=True, kw_only=True):
    """All of these must hold; each is one value or a list of which one must be met."""

    team: NonEmptyText | Annotated[tuple[NonEmptyText, ...], NON_EMPTY] | None = None
    model: NonEmptyText | Annotated[tuple[NonEmptyText, ...], NON_EMPTY] | None = None
    operation: Operation | Annotated[tuple[Operation, ...], NON_EMPTY] | None = None
    resolution: Resolution | Annotated[tuple[Resolution, ...], NON_EMPTY] | None = None
    quality: Quality | Annotated[tuple[Quality, ...], NON_EMPTY] | None = None
    n: Count | Annotated[tuple[Count, ...], NON_EMPTY] | None = None
    metadata: dict[NonEmptyText, NonEmptyText] = {}  # noqa: RUF012  a struct copies it


class RuleConfig(ConfigStruct, frozen=True, kw_only=True):
    """Which policy to use when."""

    when: RuleConditions
    use: NonEmptyText


class PoliciesFile(ConfigStruct, frozen=True, kw_only=True):
    """The policies, the rules that choose among them (the first that holds decides), and what else is used."""

    policies: dict[NonEmptyText, PolicyConfig]
    rules: tuple[RuleConfig, ...] = ()
    default: NonEmptyText


# --- teams.yaml


class BudgetConfig(ConfigStruct, frozen=True, kw_only=True):
    """What a team may spend, in USD, in a day and in a month (UTC). What is set aside for running jobs counts."""

    day: Usd | None = None
    month: Usd | None = None


class TeamConfig(ConfigStruct, frozen=True, kw_only=True):
    """A team's keys, its budget, which policies it may name, and its limits in USD, per image and per request."""

    keys: tuple[SecretRef, ...] = ()
    budget: BudgetConfig = BudgetConfig()
    policies: tuple[NonEmptyText, ...] = ()
    max_price: Usd | None = None
    max_cost: Usd | None = None


class TeamsFile(ConfigStruct, frozen=True, kw_only=True):
    """Who calls, and what they may choose."""

    teams: dict[NonEmptyText, TeamConfig] = {}  # noqa: RUF012  a struct copies it


CONFIG_FILES: dict[str, type[ConfigStruct]] = {
    "gateway.yaml": GatewayFile,
    "models.yaml": ModelsFile,
    "accounts.yaml": AccountsFile,
    "policies.yaml": PoliciesFile,
    "teams.yaml": TeamsFile,
}
OPTIONAL_FILES = {"gateway.yaml", "teams.yaml"}


class Config(Struct, frozen=True, kw_only=True):
    """All files, as far as each is right by itself. What is wrong is left out of it."""

    gateway: GatewayFile
    models: ModelsFile
    accounts: AccountsFile
    offers: dict[str, OfferFile]
    policies: PoliciesFile
    teams: TeamsFile
    hash: str
