"""What the configuration means: models, accounts, sellers and offers, resolved and immutable, swapped as a whole."""

from collections.abc import Iterator, Mapping
from hashlib import sha256

from msgspec import Struct, field
from msgspec.structs import replace

from gateway.config.blocks import AccountLimits, Expected, PoliciesFile, Sizing, TeamConfig, TokenPrices
from gateway.config.gateway_blocks import GatewayFile, ReloadConfig
from gateway.config.proxies import Proxy
from gateway.config.values import Secret
from providers.orders import Format, Operation, Quality
from providers.sizes import Resolution
from providers.spec import Adapter

# Longer than a job is ever open: its deadline, its seller's patience, and a day in which its pictures are fetched.
DRAINED_SECONDS = 3 * 86_400.0
IDENTITY_LENGTH = 12


class Cell(Struct, frozen=True, order=True, array_like=True):
    """The unit of price, health and latency."""

    operation: Operation
    resolution: Resolution
    quality: Quality


CELLS = tuple(
    Cell(operation, resolution, quality) for operation in Operation for resolution in Resolution for quality in Quality
)


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
    most_images: int


class Account(Struct, frozen=True):
    """Ours, at a provider. Without a secret it is disabled, and nothing is bought there.

    With a proxy, nothing of this account's leaves otherwise.
    """

    name: str
    base_url: str
    secret: Secret | None
    replay_trusted: bool
    callback_secrets: tuple[Secret, ...]
    private: bool
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
    account: Account
    adapter: Adapter


class Offer(Struct, frozen=True, kw_only=True):
    """One seller sells one model."""

    seller: Seller
    model: str
    their_model: str
    images_per_order: int
    selectable: frozenset[Quality]
    assumes: Quality | None
    sizings: Mapping[Operation, Sizing]
    formats: frozenset[Format]
    unverified: str | None
    mask: bool
    inputs: int
    prices: Mapping[Cell, Price]
    seconds: Mapping[Quality, Expected]
    tokens: TokenPrices | None = None
    position: int = 0
    # By the process's monotonic clock: when it disappeared from the configuration. It takes no new orders.
    drains_since: float | None = None

    @property
    def draining(self) -> bool:
        return self.drains_since is not None


class Catalogue(Struct, frozen=True, kw_only=True):
    """Everything a plan needs, and the name of the files it came from. `memory` holds what plans have worked out.

    `keys`: the team that a caller's key belongs to, by the key's SHA-256. `dalle_aliases`: those of the aliases whose
    clients use the words of DALL-E, and expect its form of an answer.
    """

    hash: str
    models: Mapping[str, Model]
    aliases: Mapping[str, str]
    accounts: Mapping[str, Account]
    sellers: Mapping[str, Seller]
    offers: Mapping[str, tuple[Offer, ...]]
    policies: PoliciesFile
    teams: Mapping[str, TeamConfig]
    reload: ReloadConfig
    gateway: GatewayFile = GatewayFile()
    keys: Mapping[str, str] = {}
    dalle_aliases: frozenset[str] = frozenset()
    draining: tuple[Offer, ...] = ()
    memory: dict[object, object] = field(default_factory=dict)

    def model(self, name: str) -> Model | None:
        """By its name or one of its aliases."""
        return self.models.get(self.aliases.get(name, name))

    def all_offers(self) -> Iterator[Offer]:
        for offers in self.offers.values():
            yield from offers

    def offer(self, seller: str, model: str, adapter: str | None = None, account: str = "") -> Offer | None:
        """Also one that is draining: jobs that name it must be able to finish.

        The current one, but for orders that were placed otherwise: with another `adapter`, whose words only that one
        knows, or with an `account` of another identity, which alone has them.
        """
        known = [*self.offers.get(model, ()), *self.draining]
        named = [one for one in known if (one.seller.name, one.model) == (seller, model)]
        if adapter is not None:
            named = [one for one in named if one.seller.adapter.name == adapter]
        if account:
            named = [one for one in named if one.seller.account.identity == account]
        return next((one for one in named if one.seller.account.secret), named[0] if named else None)

    def account(self, name: str) -> Account | None:
        """Also one that only draining offers still use, and with the key that it had, if it has lost it."""
        draining = {offer.seller.account.name: offer.seller.account for offer in self.draining}
        configured = self.accounts.get(name)
        return configured if configured and configured.secret else draining.get(name, configured)


def with_draining(new: Catalogue, old: Catalogue, now: float) -> Catalogue:
    """The new catalogue, keeping what disappeared from the old one for the jobs that still name it. No new orders.

    For longer than any job is open: other replicas' jobs may name it, and this one goes on with theirs if they die.
    """
    gone = [
        offer
        for offer in (*old.all_offers(), *old.draining)
        if not any(_is_same(offer, kept) for kept in new.offers.get(offer.model, ()))
    ]
    drained = (_drained(offer, new.accounts, now) for offer in gone)
    return replace(new, draining=tuple(one for one in drained if now - (one.drains_since or now) < DRAINED_SECONDS))


def _is_same(one: Offer, other: Offer) -> bool:
    """A seller who is spoken to elsewhere, or otherwise, or without a key, is another to the orders placed before."""
    lost_its_key = bool(one.seller.account.secret) and not other.seller.account.secret
    return _identity(one) == _identity(other) and not lost_its_key


def _identity(offer: Offer) -> tuple[str, ...]:
    seller = offer.seller
    return seller.name, offer.model, seller.account.identity, seller.adapter.name


def _drained(offer: Offer, accounts: Mapping[str, Account], now: float) -> Offer:
    """By the account's present key and proxy: those that its orders were placed with may be gone."""
    seller = offer.seller
    account = accounts.get(seller.account.name)
    if account and account.secret and account.identity == seller.account.identity:
        seller = replace(seller, account=account)
    return replace(offer, seller=seller, drains_since=now if offer.drains_since is None else offer.drains_since)
