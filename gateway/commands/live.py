"""What a running gateway has learned of its sellers, asked for over HTTP."""

from typing import Annotated

import click
import httpx
import msgspec
from msgspec import Meta, Struct

from gateway.catalogue import Cell
from gateway.routing.signals import CellSignals, Signals
from providers.orders import Operation, Quality
from providers.sizes import Resolution

SECONDS = 10.0
Seconds = Annotated[float, Meta(ge=0)]


class KnownCell(Struct, frozen=True, kw_only=True):
    """One line of `GET /v1/signals`."""

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

    @property
    def signals(self) -> CellSignals:
        return CellSignals(
            healthy=self.healthy, p50=self.p50, p90=self.p90, load=self.load, conformance=self.conformance
        )


class Told(Struct, frozen=True):
    """The whole answer: what is known, and the configuration that it is known by."""

    config: str
    data: tuple[KnownCell, ...]

    @property
    def signals(self) -> Signals:
        cells = ((one.seller, one.model, Cell(one.operation, one.resolution, one.quality), one) for one in self.data)
        return {(seller, model, cell): one.signals for seller, model, cell, one in cells}


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
