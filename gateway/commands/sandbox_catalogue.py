"""Replaces a catalogue's sellers by the sandbox's, so that no request reaches a real seller or costs anything."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from msgspec.structs import replace

from gateway.catalogue import Catalogue, ConfiguredKey, Offer, Seller, SellerAccount
from gateway.config.offer_schema import ExpectedLatency
from gateway.config.schema import TeamConfig
from gateway.config.value_types import Secret, sha256_hex

SANDBOX_TEAM = "sandbox"
SANDBOX_KEY = "igw_sandbox"
# As public as the key: the secret with which the webhooks of all teams are signed.
SANDBOX_WEBHOOK_SECRET = "whsec_c2FuZGJveCBzZWNyZXQgb2Ygd2ViaG9va3MsIHB1YmxpYw=="  # noqa: S105
# For each adapter: the path of the simulated seller, and its key.
SIMULATED_SELLERS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "runflow_runs": ("/runflow", "rf_sandbox"),
        "runflow_run": ("/runflow", "rf_sandbox"),
        "runapi": ("/runapi", "sk-sandbox"),
        "openai": ("/openai/v1", "sk-sandbox"),
    }
)
FAST_LATENCY = ExpectedLatency(p50=0.3, p90=1.0)


def list_unsimulated_sellers(catalogue: Catalogue) -> list[str]:
    """Lists sellers whose adapter the sandbox does not simulate."""
    return [name for name, seller in catalogue.sellers.items() if seller.adapter.name not in SIMULATED_SELLERS]


def use_sandbox_sellers(catalogue: Catalogue, url: str, callback_secret: str, is_fast: bool) -> Catalogue:
    """Returns the same offers and prices with simulated sellers; offers without one are removed.

    The sandbox team may choose every policy. It has the only key.
    """

    def simulate_offers(offers: Iterable[Offer]) -> tuple[Offer, ...]:
        simulated = (offer for offer in offers if offer.seller.adapter.name in SIMULATED_SELLERS)
        return tuple(_simulate_offer(offer, url, callback_secret, is_fast) for offer in simulated)

    offers = {model: simulate_offers(offers) for model, offers in catalogue.offers.items()}
    all_offers = [offer for model_offers in offers.values() for offer in model_offers]
    return replace(
        catalogue,
        accounts={offer.seller.account.name: offer.seller.account for offer in all_offers},
        sellers={offer.seller.name: offer.seller for offer in all_offers},
        offers=offers,
        teams={**catalogue.teams, SANDBOX_TEAM: TeamConfig(policies=tuple(catalogue.policies.policies))},
        webhook_secrets=dict.fromkeys((*catalogue.teams, SANDBOX_TEAM), (Secret(SANDBOX_WEBHOOK_SECRET),)),
        configured_keys={sha256_hex(SANDBOX_KEY): ConfiguredKey(SANDBOX_TEAM, SANDBOX_TEAM)},
        draining_offers=simulate_offers(catalogue.draining_offers),
        fit_cache={},
    )


def _simulate_offer(offer: Offer, url: str, callback_secret: str, is_fast: bool) -> Offer:
    path, key = SIMULATED_SELLERS[offer.seller.adapter.name]
    is_runapi = offer.seller.adapter.name == "runapi"
    account = SellerAccount(
        name=offer.seller.account.name,
        base_url=url + path,
        api_key=Secret(key),
        replay_trusted=offer.seller.account.replay_trusted,
        callback_secrets=(Secret(callback_secret),) if is_runapi else (),
        allows_private_addresses=True,
        limits=offer.seller.account.limits,
    )
    seconds = {quality: FAST_LATENCY for quality in offer.expected_latency} if is_fast else offer.expected_latency
    return replace(offer, seller=Seller(offer.seller.name, account, offer.seller.adapter), expected_latency=seconds)
