"""What the YAML may say: one strict struct per block. What it means is worked out in `catalogue.py`."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.config.block import SOME, Block, Count, PositiveSeconds, Text
from gateway.config.gateway_blocks import GatewayFile
from gateway.config.proxies import ProxyRef
from gateway.config.values import BaseUrl, Day, Percent, Ratio, SecretRef, SizeText, Usd
from providers.orders import Format, Operation, Quality
from providers.progress import TokenUsage
from providers.sizes import Resolution

# --- models.yaml


class ModelDefaults(Block, frozen=True, kw_only=True):
    """What `auto`, or nothing, means."""

    size: SizeText = SizeText("1024x1024")
    quality: Quality = Quality.HIGH
    output_format: Format = Format.PNG


class ModelConfig(Block, frozen=True, kw_only=True):
    """A name that callers ask for: its other names, its defaults, the most images of one request."""

    defaults: ModelDefaults = ModelDefaults()
    aliases: tuple[Text, ...] = ()
    dalle_aliases: tuple[Text, ...] = ()
    most_images: Annotated[int, Meta(ge=1, le=10)] = 10


class ModelsFile(Block, frozen=True, kw_only=True):
    """The names that callers ask for."""

    models: Annotated[dict[Text, ModelConfig], Meta(min_length=1)]


# --- accounts.yaml


class AccountLimits(Block, frozen=True, kw_only=True):
    """How much an account takes from each replica of the gateway: orders at once, and orders in a minute."""

    concurrency: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    per_minute: Annotated[int, Meta(ge=1, le=10_000)] | None = None


class AccountConfig(Block, frozen=True, kw_only=True):
    """Ours, at a seller: where it is and the way there, what it is paid with, how it treats repeats, what it takes."""

    base_url: BaseUrl
    key: SecretRef
    replay: Literal["trusted", "untrusted"] = "untrusted"
    callback_secrets: tuple[SecretRef, ...] = ()
    private: bool = False
    proxy: ProxyRef | None = None
    limits: AccountLimits = AccountLimits()


class AccountsFile(Block, frozen=True, kw_only=True):
    """Our accounts at the sellers."""

    accounts: dict[Text, AccountConfig]


# --- offers/<seller>.yaml


class QualityChoice(Block, frozen=True, kw_only=True):
    """Either the qualities that can be ordered, or the one that we believe comes."""

    selectable: tuple[Quality, ...] = ()
    assumes: Quality | None = None

    def contradiction(self) -> str | None:
        if bool(self.selectable) == (self.assumes is not None):
            return "must have either 'selectable' with at least one quality, or 'assumes'"
        return None


class Sizing(Block, frozen=True, kw_only=True):
    """How a size is addressed. Pixels and presets are exact; a ratio and a tier leave the pixels to the seller."""

    pixels: Literal["exact", "unverified", "none"] = "none"
    presets: dict[Text, SizeText] = {}  # noqa: RUF012  a struct copies it
    ratios: tuple[Ratio, ...] = ()
    resolutions: tuple[Resolution, ...] = tuple(Resolution)
    unsold: tuple[Text, ...] = ()


AnyQuality = Literal["any", "low", "medium", "high"]


class Expected(Block, frozen=True, kw_only=True):
    """Seconds until the pictures are there: half of them by `p50`, nine in ten by `p90`."""

    p50: PositiveSeconds
    p90: PositiveSeconds

    def contradiction(self) -> str | None:
        return "p90 cannot be less than p50" if self.p90 < self.p50 else None


class PriceRow(Block, frozen=True, kw_only=True):
    """USD per image for every cell of these operations, resolutions and qualities; left out means all.

    `ceiling` is the most that is conceivable: it is set aside until the bill is known.
    """

    price: Usd
    ceiling: Usd | None = None
    operations: tuple[Operation, ...] = tuple(Operation)
    resolutions: tuple[Resolution, ...] = tuple(Resolution)
    qualities: tuple[Quality, ...] = tuple(Quality)
    source: Text
    date: Day

    def contradiction(self) -> str | None:
        is_below = self.ceiling is not None and self.ceiling < self.price
        return "the ceiling cannot be below the price" if is_below else None


class TokenPrices(Block, frozen=True, kw_only=True):
    """USD per million tokens, for sellers that bill by what they count: the prices of cells are then estimates of the
    pictures alone, and what goes in is added for every order.

    `image_tokens` is the most that one input image, or a mask, counts as.
    """

    input_text: Usd
    input_image: Usd
    output: Usd
    image_tokens: Count = 7_000

    def charge(self, usage: TokenUsage) -> int:
        """In micro-USD, rounded up: a budget must not be passed by halves."""
        parts = (
            usage.input_text * self.input_text,
            usage.input_image * self.input_image,
            usage.output * self.output,
        )
        return -(-sum(parts) // 1_000_000)


class OfferConfig(Block, frozen=True, kw_only=True):
    """What one seller sells under one of our models' names, as far as he can be told to."""

    model: Text
    images_per_order: Count
    quality: QualityChoice
    generate: Sizing | None = None
    edit: Sizing | None = None
    formats: tuple[Format, ...] = ()
    unverified: Text | None = None
    mask: bool = False
    inputs: Annotated[int, Meta(ge=0, le=16)] = 0
    seconds: dict[AnyQuality, Expected]
    prices: tuple[PriceRow, ...]
    tokens: TokenPrices | None = None


class OfferFile(Block, frozen=True, kw_only=True):
    """One seller: an account reached through one dialect, and what he offers. The file has his name."""

    account: Text
    adapter: Text
    offers: Annotated[dict[Text, OfferConfig], Meta(min_length=1)]


# --- policies.yaml

Rank = Literal["cost", "latency", "listed", "weighted"]


class Failover(Block, frozen=True, kw_only=True):
    """How many orders are tried per image, and whether to buy again where the first may have been taken."""

    attempts: Annotated[int, Meta(ge=1, le=10)] = 3
    on_unknown: Literal["fail", "reorder"] = "fail"


class PolicyConfig(Block, frozen=True, kw_only=True):
    """A way to rank sellers, and limits that narrow whom it ranks."""

    rank: Rank
    sellers: tuple[Text, ...] | None = None
    weights: dict[Text, Annotated[float, Meta(ge=0, le=1_000_000)]] | None = None
    within: Percent = Percent(0)
    then: Rank = "latency"
    fidelity: Literal["nearest", "exact"] = "nearest"
    failover: Failover = Failover()
    max_price: Usd | None = None
    max_cost: Usd | None = None
    max_seconds: PositiveSeconds | None = None
    only: tuple[Text, ...] | None = None
    ignore: tuple[Text, ...] = ()


class When(Block, frozen=True, kw_only=True):
    """All of these must hold; each is one value or a list of which one must be met."""

    team: Text | Annotated[tuple[Text, ...], SOME] | None = None
    model: Text | Annotated[tuple[Text, ...], SOME] | None = None
    operation: Operation | Annotated[tuple[Operation, ...], SOME] | None = None
    resolution: Resolution | Annotated[tuple[Resolution, ...], SOME] | None = None
    quality: Quality | Annotated[tuple[Quality, ...], SOME] | None = None
    n: Count | Annotated[tuple[Count, ...], SOME] | None = None
    metadata: dict[Text, Text] = {}  # noqa: RUF012  a struct copies it


class RuleConfig(Block, frozen=True, kw_only=True):
    """Which policy to use when."""

    when: When
    use: Text


class PoliciesFile(Block, frozen=True, kw_only=True):
    """The policies, the rules that choose among them (the first that holds decides), and what else is used."""

    policies: dict[Text, PolicyConfig]
    rules: tuple[RuleConfig, ...] = ()
    default: Text


# --- teams.yaml


class BudgetConfig(Block, frozen=True, kw_only=True):
    """What a team may spend, in USD, in a day and in a month (UTC). What is set aside for running jobs counts."""

    day: Usd | None = None
    month: Usd | None = None


class TeamConfig(Block, frozen=True, kw_only=True):
    """A team's keys, its budget, which policies it may name, and its limits in USD, per image and per request."""

    keys: tuple[SecretRef, ...] = ()
    budget: BudgetConfig = BudgetConfig()
    policies: tuple[Text, ...] = ()
    max_price: Usd | None = None
    max_cost: Usd | None = None


class TeamsFile(Block, frozen=True, kw_only=True):
    """Who calls, and what they may choose."""

    teams: dict[Text, TeamConfig] = {}  # noqa: RUF012  a struct copies it


FILES: dict[str, type[Block]] = {
    "gateway.yaml": GatewayFile,
    "models.yaml": ModelsFile,
    "accounts.yaml": AccountsFile,
    "policies.yaml": PoliciesFile,
    "teams.yaml": TeamsFile,
}
OPTIONAL = {"gateway.yaml", "teams.yaml"}


class Config(Struct, frozen=True, kw_only=True):
    """All files, as far as each is right by itself. What is wrong is left out of it."""

    gateway: GatewayFile
    models: ModelsFile
    accounts: AccountsFile
    offers: dict[str, OfferFile]
    policies: PoliciesFile
    teams: TeamsFile
    hash: str
