"""What the configuration means: models, accounts, sellers and offers, resolved and immutable, swapped as a whole."""

from collections.abc import Iterator, Mapping
from hashlib import sha256

from msgspec import Struct, field
from msgspec.structs import replace

from gateway.config.offer_schema import ExpectedLatency, SizeOptions, TokenPrices
from gateway.config.proxy import Proxy
from gateway.config.schema import AccountLimits, GatewayFile, PoliciesFile, ReloadConfig, TeamConfig
from gateway.config.values import Secret
from providers.adapter import Adapter
from providers.orders import Cell, Format, Operation, Quality

# Longer than a job is ever open: its deadline, its seller's patience, and a day in which its pictures are fetched.
DRAINING_TTL_SECONDS = 3 * 86_400.0
IDENTITY_LENGTH = 12


class Price(Struct, frozen=True):
    """Micro-USD per image: what is expected, and the most that is conceivable."""

    price: int
    ceiling: int
    source: str
    date: str


class Model(Struct, frozen=True):
    name: str
    width: int
    height: int
    quality: Quality
    output_format: Format
    max_images: int


class SellerAccount(Struct, frozen=True):
    """Ours, at a provider. Without a secret it is disabled, and nothing is bought there.

    With a proxy, nothing of this account's leaves otherwise.
    """

    name: str
    base_url: str
    api_key: Secret | None
    replay_trusted: bool
    callback_secrets: tuple[Secret, ...]
    allows_private_addresses: bool
    limits: AccountLimits = AccountLimits()
    proxy: Proxy | None = None

    @property
    def identity(self) -> str:
        """Who knows an order that was placed here: only this account, at this address. With a new key it is the same.

        Short, since every job remembers it.
        """
        return sha256(f"{self.name} {self.base_url}".encode()).hexdigest()[:IDENTITY_LENGTH]


class Seller(Struct, frozen=True):
    """An account reached through one dialect; the name that policies list."""

    name: str
    account: SellerAccount
    adapter: Adapter


class Offer(Struct, frozen=True, kw_only=True):
    """One seller sells one model."""

    seller: Seller
    model: str
    remote_model: str
    images_per_order: int
    selectable_qualities: frozenset[Quality]
    assumed_quality: Quality | None
    size_options: Mapping[Operation, SizeOptions]
    formats: frozenset[Format]
    unverified_note: str | None
    supports_mask: bool
    max_inputs: int
    prices: Mapping[Cell, Price]
    expected_latency: Mapping[Quality, ExpectedLatency]
    token_prices: TokenPrices | None = None
    position: int = 0
    # By the process's monotonic clock: when it disappeared from the configuration. It takes no new orders.
    draining_since: float | None = None

    @property
    def is_draining(self) -> bool:
        return self.draining_since is not None


class Catalogue(Struct, frozen=True, kw_only=True):
    """Everything a plan needs, and the name of the files it came from. `fit_cache` holds what plans have worked out.

    `teams_by_key_hash`: the team that a caller's key belongs to, by the key's SHA-256. `dalle_aliases`: those of the aliases whose
    clients use the words of DALL-E, and expect its form of an answer.
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
    teams_by_key_hash: Mapping[str, str] = {}
    dalle_aliases: frozenset[str] = frozenset()
    draining_offers: tuple[Offer, ...] = ()
    fit_cache: dict[object, object] = field(default_factory=dict)

    def find_model(self, name: str) -> Model | None:
        """By its name or one of its aliases."""
        return self.models.get(self.aliases.get(name, name))

    def iter_offers(self) -> Iterator[Offer]:
        for offers in self.offers.values():
            yield from offers

    def find_offer(
        self, seller: str, model: str, adapter_name: str | None = None, account_identity: str = ""
    ) -> Offer | None:
        """Also one that is draining: jobs that name it must be able to finish.

        The current one, but for orders that were placed otherwise: with another `adapter_name`, whose words only that one
        knows, or with an `account` of another identity, which alone has them.
        """
        candidates = [*self.offers.get(model, ()), *self.draining_offers]
        matching = [offer for offer in candidates if (offer.seller.name, offer.model) == (seller, model)]
        if adapter_name is not None:
            matching = [offer for offer in matching if offer.seller.adapter.name == adapter_name]
        if account_identity:
            matching = [offer for offer in matching if offer.seller.account.identity == account_identity]
        return next((offer for offer in matching if offer.seller.account.api_key), matching[0] if matching else None)

    def find_account(self, name: str) -> SellerAccount | None:
        """Also one that only draining offers still use, and with the key that it had, if it has lost it."""
        draining_accounts = {offer.seller.account.name: offer.seller.account for offer in self.draining_offers}
        configured = self.accounts.get(name)
        return configured if configured and configured.api_key else draining_accounts.get(name, configured)


def carry_over_draining(new: Catalogue, old: Catalogue, now: float) -> Catalogue:
    """The new catalogue, keeping what disappeared from the old one for the jobs that still name it. No new orders.

    For longer than any job is open: other replicas' jobs may name it, and this one goes on with theirs if they die.
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
    """A seller who is spoken to elsewhere, or otherwise, or without a key, is another to the orders placed before."""
    lost_its_key = bool(offer.seller.account.api_key) and not other.seller.account.api_key
    return _get_identity(offer) == _get_identity(other) and not lost_its_key


def _get_identity(offer: Offer) -> tuple[str, ...]:
    seller = offer.seller
    return seller.name, offer.model, seller.account.identity, seller.adapter.name


def _mark_draining(offer: Offer, accounts: Mapping[str, SellerAccount], now: float) -> Offer:
    """By the account's present key and proxy: those that its orders were placed with may be gone."""
    seller = offer.seller
    account = accounts.get(seller.account.name)
    if account and account.api_key and account.identity == seller.account.identity:
        seller = replace(seller, account=account)
    return replace(offer, seller=seller, draining_since=now if offer.draining_since is None else offer.draining_since)
