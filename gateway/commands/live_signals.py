"""Fetches a running gateway's signals over HTTP."""

from typing import Annotated

import click
import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gateway.catalogue import Catalogue, Offer
from gateway.commands.gateway_api_client import fetch_from_gateway
from gateway.config.offer_schema import ExpectedLatency
from gateway.config.value_types import Secret
from gateway.routing.signals import CellSignals, Signals
from providers.orders import Cell, Operation

NonNegativeFloat = Annotated[float, Meta(ge=0)]
# Stands for the keys: a plan calls no seller and only checks that a key is set.
PLACEHOLDER_KEY = Secret("placeholder: the running gateway has a key")


class CellSignalsEntry(Struct, frozen=True, kw_only=True):
    """One entry of `GET /v1/signals`. `p50`/`p90` are measured if `measured`, else expected.

    `has_key`: whether the gateway has the seller's API key.
    """

    seller: str
    model: str
    operation: Operation
    resolution: str
    quality: str
    healthy: bool = True
    p50: NonNegativeFloat | None = None
    p90: NonNegativeFloat | None = None
    load: NonNegativeFloat = 0.0
    conformance: NonNegativeFloat | None = None
    faithful: bool = True
    deliveries: Annotated[int, Meta(ge=0)] = 0
    measured: bool = True
    has_key: bool = True

    @property
    def signals(self) -> CellSignals:
        signals = msgspec.convert(self, CellSignals, from_attributes=True)
        return signals if self.measured else replace(signals, p50=None, p90=None)

    @property
    def expected_latency(self) -> ExpectedLatency | None:
        if self.measured or self.p50 is None or self.p90 is None:
            return None
        return ExpectedLatency(p50=self.p50, p90=self.p90)


class SignalsResponse(Struct, frozen=True):
    """The response of `GET /v1/signals`. `config`: the hash of the gateway's configuration."""

    config: str
    data: tuple[CellSignalsEntry, ...]

    @property
    def signals(self) -> Signals:
        entries = (
            (entry.seller, entry.model, Cell(entry.operation, entry.resolution, entry.quality), entry)
            for entry in self.data
        )
        return {(seller, model, cell): entry.signals for seller, model, cell, entry in entries}

    def apply_to(self, catalogue: Catalogue) -> Catalogue:
        """Returns the catalogue with the running gateway's keys and expected latencies, which differ e.g. in the
        sandbox."""
        offers = {
            name: tuple(self._update_offer(offer) for offer in offers) for name, offers in catalogue.offers.items()
        }
        return replace(catalogue, offers=offers, fit_cache={})

    def _update_offer(self, offer: Offer) -> Offer:
        entries = [entry for entry in self.data if (entry.seller, entry.model) == (offer.seller.name, offer.model)]
        if not entries:
            return offer
        secret = PLACEHOLDER_KEY if any(entry.has_key for entry in entries) else None
        seller = replace(offer.seller, account=replace(offer.seller.account, api_key=secret))
        seconds = {entry.quality: entry.expected_latency for entry in entries if entry.expected_latency is not None}
        return replace(offer, seller=seller, expected_latency={**offer.expected_latency, **seconds})


def fetch_signals(url: str, key: str | None) -> SignalsResponse:
    """Fetches the signals of the gateway at `url`. Raises a ClickException that says what failed and what to do."""
    response = fetch_from_gateway(url, key, "/signals")
    try:
        return msgspec.json.decode(response.content, type=SignalsResponse)
    except (msgspec.MsgspecError, ValueError):
        raise click.ClickException(f"{url} sent an invalid signals response. Is it an image-gateway?") from None
