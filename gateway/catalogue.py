"""The resolved configuration: models, accounts, sellers and offers. Immutable, replaced as a whole."""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from hashlib import sha256

from msgspec import Struct, field
from msgspec.structs import replace

from gateway.config.account_proxy import Proxy
from gateway.config.moderation_schema import NO_HOOK, HookName, ModerationHookConfig
from gateway.config.offer_schema import ExpectedLatency, SizeOptions, TokenPrices
from gateway.config.retention_schema import FileRetention, make_file_retention, make_job_retention
from gateway.config.schema import AccountLimits, GatewayFile, PoliciesFile, ReloadConfig, TeamConfig
from gateway.config.value_types import Secret, SecretRef
from gateway.config.webhook_schema import WebhookTargetConfig
from gateway.jobs.budgets import NO_BUDGET_LIMITS, BudgetLimits
from gateway.jobs.job import JobRetention
from providers.adapter import Adapter
from providers.image_sizes import SizeLaw
from providers.orders import Cell, Format, Operation, list_cells

# Longer than a job can be open: its deadline, the order's timeout, and a day in which its images are fetched.
DRAINING_TTL_SECONDS = 3 * 86_400.0
IDENTITY_LENGTH = 12


class Price(Struct, frozen=True):
    """Price in micro-USD per image: the expected price and the highest possible one."""

    price: int
    ceiling: int
    source: str
    date: str


class InputLimits(Struct, frozen=True, kw_only=True):
    """The limits of an edit's input images. `max_bytes`: of one image."""

    max_images: int
    max_bytes: int
    has_mask: bool


class Model(Struct, frozen=True, kw_only=True):
    """A model that clients can request: its qualities, formats, backgrounds and sizes, its limits, and its defaults.

    `width`, `height`, `quality`, `output_format` and `background` are the defaults. `qualities`: in ascending order.
    """

    name: str
    width: int
    height: int
    quality: str
    output_format: Format
    background: str
    qualities: tuple[str, ...]
    formats: tuple[Format, ...]
    backgrounds: tuple[str, ...]
    size_law: SizeLaw
    inputs: InputLimits
    max_images: int

    @property
    def cells(self) -> tuple[Cell, ...]:
        return list_cells(self.size_law.resolutions, self.qualities)


class SellerAccount(Struct, frozen=True):
    """An account at a seller. Without an API key it is disabled, and nothing is ordered there.

    With a proxy, all of its requests go through the proxy. `low_balance`: micro-USD below which an alert fires.
    """

    name: str
    base_url: str
    api_key: Secret | None
    replay_trusted: bool
    callback_secrets: tuple[Secret, ...]
    allows_private_addresses: bool
    limits: AccountLimits = AccountLimits()
    proxy: Proxy | None = None
    region: str | None = None
    low_balance: int | None = None

    @property
    def identity(self) -> str:
        """Identifies the account that an order was placed with: name and base URL, but not the key.

        Short, since every job stores it.
        """
        return _hash_account(self.name, self.base_url)


@lru_cache(maxsize=1_024)
def _hash_account(name: str, base_url: str) -> str:
    return sha256(f"{name} {base_url}".encode()).hexdigest()[:IDENTITY_LENGTH]


class Seller(Struct, frozen=True):
    """An account reached through one adapter; policies list sellers by name."""

    name: str
    account: SellerAccount
    adapter: Adapter


class Offer(Struct, frozen=True, kw_only=True):
    """One model that one seller sells."""

    seller: Seller
    model: str
    remote_model: str
    images_per_order: int
    selectable_qualities: frozenset[str]
    assumed_quality: str | None
    size_options: Mapping[Operation, SizeOptions]
    formats: frozenset[Format]
    unverified_note: str | None
    supports_mask: bool
    max_inputs: int
    prices: Mapping[Cell, Price]
    expected_latency: Mapping[str, ExpectedLatency]
    backgrounds: frozenset[str] = frozenset()
    # The seller's own words for qualities, where they differ.
    quality_words: Mapping[str, str] = {}
    token_prices: TokenPrices | None = None
    position: int = 0
    # Monotonic time when the offer was removed from the configuration. It accepts no new orders.
    draining_since: float | None = None

    @property
    def is_draining(self) -> bool:
        return self.draining_since is not None


class ConfiguredKey(Struct, frozen=True):
    """An API key of the configuration. `id`: its reference. `team`: None for an admin key, which has no budget."""

    id: str
    team: str | None
    budget: BudgetLimits = NO_BUDGET_LIMITS


class ModerationHook(Struct, frozen=True):
    """A server that may refuse requests or images, and the secrets that sign the questions to it."""

    name: HookName
    config: ModerationHookConfig
    secrets: tuple[Secret, ...]


class WebhookTarget(Struct, frozen=True):
    """A target of a team's webhooks that is in force. `secrets`: those that sign its webhooks."""

    config: WebhookTargetConfig
    secrets: tuple[Secret, ...] = ()


TargetsByTeam = Mapping[str, Mapping[str, WebhookTarget]]


class Catalogue(Struct, frozen=True, kw_only=True):
    """Everything that plans need, and the hash of its files.

    `fit_cache`: cached results of matching. `configured_keys`: by the SHA-256 of the API key. `dalle_aliases`:
    aliases whose clients send DALL-E's parameters and expect its response format. `stored_targets`: the targets of
    webhooks that admins added, by team and name; one without secrets is signed with those of its team.
    """

    hash: str
    models: Mapping[str, Model]
    aliases: Mapping[str, str]
    accounts: Mapping[str, SellerAccount]
    sellers: Mapping[str, Seller]
    offers: Mapping[str, tuple[Offer, ...]]
    policies: PoliciesFile
    teams: Mapping[str, TeamConfig]
    reload: ReloadConfig
    gateway: GatewayFile = GatewayFile()
    configured_keys: Mapping[str, ConfiguredKey] = {}
    webhook_secrets: Mapping[str, tuple[Secret, ...]] = {}
    moderation_secrets: Mapping[SecretRef, Secret] = {}
    stored_targets: TargetsByTeam = {}
    dalle_aliases: frozenset[str] = frozenset()
    draining_offers: tuple[Offer, ...] = ()
    fit_cache: dict[object, object] = field(default_factory=dict)

    def find_model(self, name: str) -> Model | None:
        """Finds a model by its name or one of its aliases."""
        return self.models.get(self.aliases.get(name, name))

    def get_job_retention(self, team: str) -> JobRetention:
        """Returns the retention of a job that the team creates now."""
        config = self.teams.get(team)
        return make_job_retention(self.gateway.retention, config.retention if config else None)

    def get_file_retention(self, team: str) -> FileRetention:
        """Returns the retention of the files of a batch that the team creates now."""
        config = self.teams.get(team)
        return make_file_retention(self.gateway.retention, config.retention if config else None)

    def find_moderation_hook(self, name: HookName, team: str) -> ModerationHook | None:
        """Finds the hook of the team, or else that of all teams. A team may have none."""
        team_config = self.teams.get(team)
        own = team_config.moderate.get_setting(name) if team_config else None
        config = own or self.gateway.moderate.get_setting(name)
        if config is None or config == NO_HOOK:
            return None
        return ModerationHook(name, config, tuple([self.moderation_secrets[reference] for reference in config.secrets]))

    def get_webhook_targets(self, team: str) -> dict[str, WebhookTarget]:
        """Returns the targets of a team's webhooks by name: those that admins added, and those of the configuration,
        which come before others of the same name."""
        secrets, config = self.webhook_secrets.get(team, ()), self.teams.get(team)
        stored = {
            name: target if target.secrets else replace(target, secrets=secrets)
            for name, target in self.stored_targets.get(team, {}).items()
        }
        configured = config.webhooks.targets.items() if config else ()
        return stored | {str(name): WebhookTarget(target, secrets) for name, target in configured}

    def has_webhook_targets(self, team: str) -> bool:
        config = self.teams.get(team)
        return bool(self.stored_targets.get(team) or (config and config.webhooks.targets))

    def iter_offers(self) -> Iterator[Offer]:
        for offers in self.offers.values():
            yield from offers

    def find_offer(
        self, seller: str, model: str, adapter_name: str | None = None, account_identity: str = ""
    ) -> Offer | None:
        """Finds an offer, including removed ones that jobs still use.

        Prefers the current offer, unless the order was placed with another adapter (`adapter_name`) or at another
        account (`account_identity`).
        """
        candidates = [*self.offers.get(model, ()), *self.draining_offers]
        matching = [offer for offer in candidates if (offer.seller.name, offer.model) == (seller, model)]
        if adapter_name is not None:
            matching = [offer for offer in matching if offer.seller.adapter.name == adapter_name]
        if account_identity:
            matching = [offer for offer in matching if offer.seller.account.identity == account_identity]
        return next((offer for offer in matching if offer.seller.account.api_key), matching[0] if matching else None)

    def find_account(self, name: str) -> SellerAccount | None:
        """Finds an account, including accounts and keys that only removed offers still use."""
        draining_accounts = {offer.seller.account.name: offer.seller.account for offer in self.draining_offers}
        configured = self.accounts.get(name)
        return configured if configured and configured.api_key else draining_accounts.get(name, configured)


class CatalogueInForce:
    """The catalogue that requests read: that of the configuration in force, with the targets of webhooks that admins
    added. `get`: returns the same object until one of them changes."""

    def __init__(self, configured: Catalogue) -> None:
        self._current = configured
        # Each request reads it a dozen times, so it is not a function in Python.
        self.get: Callable[[], Catalogue] = partial(getattr, self, "_current")

    def set_configured(self, configured: Catalogue) -> None:
        targets = self._current.stored_targets
        self._current = replace(configured, stored_targets=targets) if targets else configured

    def set_stored_targets(self, targets: TargetsByTeam) -> None:
        if targets != self._current.stored_targets:
            self._current = replace(self._current, stored_targets=targets)


def carry_over_draining(new: Catalogue, old: Catalogue, now: float) -> Catalogue:
    """Returns the new catalogue with the offers that were removed from the old one, for jobs that still use them.

    They are kept longer than any job is open: jobs of other replicas may use them, and this replica may reclaim those
    jobs.
    """
    removed = [
        offer
        for offer in (*old.iter_offers(), *old.draining_offers)
        if not any(_has_same_identity(offer, other) for other in new.offers.get(offer.model, ()))
    ]
    draining = (_mark_draining(offer, new.accounts, now) for offer in removed)
    return replace(
        new,
        draining_offers=tuple(
            draining_offer
            for draining_offer in draining
            if now - (draining_offer.draining_since or now) < DRAINING_TTL_SECONDS
        ),
    )


def _has_same_identity(offer: Offer, other: Offer) -> bool:
    """Returns whether orders placed at one offer are known at the other: same seller, account, adapter and model, with
    a key."""
    lost_its_key = bool(offer.seller.account.api_key) and not other.seller.account.api_key
    return _get_identity(offer) == _get_identity(other) and not lost_its_key


def _get_identity(offer: Offer) -> tuple[str, ...]:
    seller = offer.seller
    return seller.name, offer.model, seller.account.identity, seller.adapter.name


def _mark_draining(offer: Offer, accounts: Mapping[str, SellerAccount], now: float) -> Offer:
    """Marks an offer as removed. It uses the account's current key and proxy, since the previous ones may be
    invalid."""
    seller = offer.seller
    account = accounts.get(seller.account.name)
    if account and account.api_key and account.identity == seller.account.identity:
        seller = replace(seller, account=account)
    return replace(offer, seller=seller, draining_since=now if offer.draining_since is None else offer.draining_since)
