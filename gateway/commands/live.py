"""What a running gateway plans by, asked for over HTTP."""

from typing import Annotated

import click
import httpx
import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gateway.catalogue import Catalogue, Cell, Offer
from gateway.config.blocks import Expected
from gateway.config.values import Secret
from gateway.routing.signals import CellSignals, Signals
from providers.orders import Operation, Quality
from providers.sizes import Resolution

SECONDS = 10.0
Seconds = Annotated[float, Meta(ge=0)]


# Nothing is asked of a seller here: that there is a key is all that a plan looks at.
SOME_KEY = Secret("known to the gateway that was asked")


class KnownCell(Struct, frozen=True, kw_only=True):
    """One line of `GET /v1/signals`. The seconds were `measured`, or are expected there.

    `has_key`: whether the gateway can buy from its seller at all.
    """

    seller: str
    model: str
    operation: Operation
    resolution: Resolution
    quality: Quality
    healthy: bool = True
    p50: Seconds | None = None
    p90: Seconds | None = None
    load: Seconds = 0.0
    conformance: Seconds | None = None
    faithful: bool = True
    deliveries: Annotated[int, Meta(ge=0)] = 0
    measured: bool = True
    has_key: bool = True

    @property
    def signals(self) -> CellSignals:
        p50, p90 = (self.p50, self.p90) if self.measured else (None, None)
        return CellSignals(
            healthy=self.healthy,
            p50=p50,
            p90=p90,
            load=self.load,
            conformance=self.conformance,
            faithful=self.faithful,
            deliveries=self.deliveries,
        )

    @property
    def expected(self) -> Expected | None:
        if self.measured or self.p50 is None or self.p90 is None:
            return None
        return Expected(p50=self.p50, p90=self.p90)


class Told(Struct, frozen=True):
    """The whole answer: what is known, and the configuration that it is known by."""

    config: str
    data: tuple[KnownCell, ...]

    @property
    def signals(self) -> Signals:
        cells = ((one.seller, one.model, Cell(one.operation, one.resolution, one.quality), one) for one in self.data)
        return {(seller, model, cell): one.signals for seller, model, cell, one in cells}

    def as_there(self, catalogue: Catalogue) -> Catalogue:
        """The files' catalogue with the keys and expectations of the running one: its sellers may be other ones, as in
        the sandbox."""
        offers = {name: tuple(self._offer(offer) for offer in offers) for name, offers in catalogue.offers.items()}
        return replace(catalogue, offers=offers, memory={})

    def _offer(self, offer: Offer) -> Offer:
        cells = [one for one in self.data if (one.seller, one.model) == (offer.seller.name, offer.model)]
        if not cells:
            return offer
        secret = SOME_KEY if any(one.has_key for one in cells) else None
        seller = replace(offer.seller, account=replace(offer.seller.account, secret=secret))
        seconds = {one.quality: one.expected for one in cells if one.expected is not None}
        return replace(offer, seller=seller, seconds={**offer.seconds, **seconds})


def told_by(url: str, key: str | None) -> Told:
    """ClickException says why not, and what to do."""
    if not key:
        raise click.UsageError("--live needs a team's key: give --key, or set IGW_KEY")
    base = url.rstrip("/").removesuffix("/v1")
    try:
        answer = httpx.get(f"{base}/v1/signals", headers={"authorization": f"Bearer {key}"}, timeout=SECONDS)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeEncodeError):
        raise click.UsageError(f"{url} is no address of a gateway: write it like http://127.0.0.1:8080") from None
    except httpx.HTTPError as error:
        raise click.ClickException(
            f"{base} cannot be asked ({type(error).__name__}): is the gateway running?"
        ) from None
    return _read(base, answer)


def _read(base: str, answer: httpx.Response) -> Told:
    if answer.status_code == 401:
        raise click.ClickException(f"{base} does not know this key: give another one with --key or IGW_KEY")
    if answer.status_code != 200:
        raise click.ClickException(f"{base} answered {answer.status_code} for its signals: is it an image-gateway?")
    try:
        return msgspec.json.decode(answer.content, type=Told)
    except (msgspec.MsgspecError, ValueError):
        raise click.ClickException(f"{base} answered something else than signals: is it an image-gateway?") from None
