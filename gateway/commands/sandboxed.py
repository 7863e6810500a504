"""A catalogue whose sellers are the simulated ones: nothing of it can reach a real one, or cost anything."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from msgspec.structs import replace

from gateway.catalogue import Account, Catalogue, Offer, Seller
from gateway.config.blocks import Expected, TeamConfig
from gateway.config.values import Secret, digest_of

TEAM = "sandbox"
KEY = "igw_sandbox"
# By the dialect: where the simulated seller lives, and the key that it knows.
SELLERS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "runflow_runs": ("/runflow", "rf_sandbox"),
        "runflow_run": ("/runflow", "rf_sandbox"),
        "runapi": ("/runapi", "sk-sandbox"),
        "openai": ("/openai/v1", "sk-sandbox"),
    }
)
QUICK = Expected(p50=0.3, p90=1.0)


def unsimulated(catalogue: Catalogue) -> list[str]:
    """Sellers whose adapter the sandbox does not play: it cannot stand in for them."""
    return [name for name, seller in catalogue.sellers.items() if seller.adapter.name not in SELLERS]


def sandboxed(catalogue: Catalogue, url: str, callback_secret: str, is_quick: bool) -> Catalogue:
    """The same offers and prices, at the sandbox, but for those that it cannot play. Its team may name every policy."""

    def played(offers: Iterable[Offer]) -> tuple[Offer, ...]:
        simulated = (offer for offer in offers if offer.seller.adapter.name in SELLERS)
        return tuple(_offer(offer, url, callback_secret, is_quick) for offer in simulated)

    offers = {model: played(offers) for model, offers in catalogue.offers.items()}
    every = [offer for found in offers.values() for offer in found]
    return replace(
        catalogue,
        accounts={offer.seller.account.name: offer.seller.account for offer in every},
        sellers={offer.seller.name: offer.seller for offer in every},
        offers=offers,
        teams={**catalogue.teams, TEAM: TeamConfig(policies=tuple(catalogue.policies.policies))},
        keys={digest_of(KEY): TEAM},
        draining=played(catalogue.draining),
        memory={},
    )


def _offer(offer: Offer, url: str, callback_secret: str, is_quick: bool) -> Offer:
    path, key = SELLERS[offer.seller.adapter.name]
    is_runapi = offer.seller.adapter.name == "runapi"
    account = Account(
        name=offer.seller.account.name,
        base_url=url + path,
        secret=Secret(key),
        replay_trusted=offer.seller.account.replay_trusted,
        callback_secrets=(Secret(callback_secret),) if is_runapi else (),
        private=True,
        limits=offer.seller.account.limits,
    )
    seconds = {quality: QUICK for quality in offer.seconds} if is_quick else offer.seconds
    return replace(offer, seller=Seller(offer.seller.name, account, offer.seller.adapter), seconds=seconds)
