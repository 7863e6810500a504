"""Serves the signals that routing uses, for clients that make their own plans."""

from typing import Any

from litestar import Response, get
from msgspec.structs import asdict

from gateway.api.access_control import READ
from gateway.api.api_context import HttpRequest, get_context
from gateway.api.json_responses import json_response
from gateway.catalogue import Offer
from gateway.routing.signals import CellSignals, get_signals
from providers.orders import Cell


@get("/v1/signals", opt=READ)
async def list_signals(request: HttpRequest) -> Response[bytes]:
    """Lists every offered cell with its signals; any team may read it."""
    context = get_context(request)
    engine_context, catalogue = context.engine.context, context.catalogue()
    signals = engine_context.health.get_catalogue_signals(
        catalogue, engine_context.wall_clock(), engine_context.limits.get_load
    )
    entries = [
        _serialize_signals(offer, cell, get_signals(signals, offer, cell))
        for offer in catalogue.iter_offers()
        for cell in offer.prices
    ]
    return json_response(
        {"object": "list", "config": catalogue.hash, "data": entries}, 200, {"cache-control": "no-store"}
    )


def _serialize_signals(offer: Offer, cell: Cell, cell_signals: CellSignals) -> dict[str, Any]:
    """Serializes the signals of one cell. `p50` and `p90` are measured if `measured`, else the expected latency of the
    configuration."""
    measured = cell_signals.p50 is not None and cell_signals.p90 is not None
    expected = offer.expected_latency[cell.quality]
    return {
        "seller": offer.seller.name,
        "model": offer.model,
        "operation": cell.operation,
        "resolution": cell.resolution,
        "quality": cell.quality,
        **asdict(cell_signals),
        "p50": cell_signals.p50 if measured else expected.p50,
        "p90": cell_signals.p90 if measured else expected.p90,
        "measured": measured,
        "has_key": offer.seller.account.api_key is not None,
    }
