"""What the gateway has learned of its sellers, for whoever wants to plan as it does."""

from typing import Any

import msgspec
from litestar import Response, get

from gateway.api.asking import Asked, answer, caller, tools_of
from gateway.catalogue import Cell
from gateway.routing.signals import CellSignals


@get("/v1/signals")
async def signals(request: Asked) -> Response[bytes]:
    """Every cell of which anything is known, and by which configuration; any team may ask."""
    caller(request)
    tools = tools_of(request)
    hands, catalogue = tools.engine.hands, tools.catalogue()
    known = hands.health.signals(catalogue, hands.clock(), hands.limits.load)
    shown = [_shown(seller, model, cell, found) for (seller, model, cell), found in known.items()]
    return answer({"object": "list", "config": catalogue.hash, "data": shown}, 200, {"cache-control": "no-store"})


def _shown(seller: str, model: str, cell: Cell, found: CellSignals) -> dict[str, Any]:
    return {
        "seller": seller,
        "model": model,
        "operation": cell.operation,
        "resolution": cell.resolution,
        "quality": cell.quality,
        **msgspec.to_builtins(found),
    }
