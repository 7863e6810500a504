"""What the gateway plans by, for whoever wants to plan as it does."""

from typing import Any

import msgspec
from litestar import Response, get

from gateway.api.asking import Asked, answer, caller, tools_of
from gateway.catalogue import Cell, Offer
from gateway.routing.signals import CellSignals, signals_of


@get("/v1/signals")
async def signals(request: Asked) -> Response[bytes]:
    """Every cell that is sold, and by which configuration; any team may ask."""
    caller(request)
    tools = tools_of(request)
    hands, catalogue = tools.engine.hands, tools.catalogue()
    known = hands.health.signals(catalogue, hands.clock(), hands.limits.load)
    shown = [
        _shown(offer, cell, signals_of(known, offer, cell)) for offer in catalogue.all_offers() for cell in offer.prices
    ]
    return answer({"object": "list", "config": catalogue.hash, "data": shown}, 200, {"cache-control": "no-store"})


def _shown(offer: Offer, cell: Cell, known: CellSignals) -> dict[str, Any]:
    """The seconds are those that were `measured`, or else those that the running configuration expects."""
    measured = known.p50 is not None and known.p90 is not None
    expected = offer.seconds[cell.quality]
    return {
        "seller": offer.seller.name,
        "model": offer.model,
        "operation": cell.operation,
        "resolution": cell.resolution,
        "quality": cell.quality,
        **msgspec.to_builtins(known),
        "p50": known.p50 if measured else expected.p50,
        "p90": known.p90 if measured else expected.p90,
        "measured": measured,
        "has_key": offer.seller.account.secret is not None,
    }
