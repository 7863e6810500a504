"""OpenAI's list of models, with what each can do and what it costs for the caller's team."""

from collections.abc import Iterator, Mapping
from typing import Any

from litestar import Response, get

from gateway.api.access_control import READ
from gateway.api.api_context import HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.authentication import get_principal, get_team
from gateway.api.json_responses import format_warnings_header, json_response
from gateway.api.legacy_parameter_values import make_alias_warning
from gateway.catalogue import Catalogue, Model, Price
from gateway.money import format_usd
from gateway.routing.team_offers import list_team_prices
from providers.orders import Cell, Operation

# OpenAI's path, Azure's (v1 and classic), and the path of base URLs without a version.
MODEL_LIST_PATHS = ["/v1/models", "/openai/v1/models", "/openai/models", "/models"]
# The id may contain slashes.
MODEL_PATHS = [f"{path}/{{model_id:path}}" for path in MODEL_LIST_PATHS]
MAX_NAME_LENGTH = 60
PricesByCell = Mapping[Cell, Mapping[str, Price]]


@get(MODEL_LIST_PATHS, opt=READ)
async def list_models(request: HttpRequest) -> Response[bytes]:
    """Lists the models that the team can use, without their aliases."""
    catalogue = get_context(request).catalogue()
    data = [serialize_model(catalogue, *entry) for entry in _iter_usable_models(request, catalogue)]
    return json_response({"object": "list", "data": data}, 200, {})


@get(MODEL_PATHS, opt=READ)
async def get_model(request: HttpRequest, model_id: str) -> Response[bytes]:
    """Returns a model by its name, or by an alias with a warning."""
    catalogue = get_context(request).catalogue()
    # The framework begins the parameter with a slash.
    requested_name = model_id.removeprefix("/")
    name = catalogue.aliases.get(requested_name, requested_name)
    usable = {model.name: (model, prices) for model, prices in _iter_usable_models(request, catalogue)}
    if name not in usable:
        raise _model_not_found_error(catalogue, requested_name, usable)
    headers = {}
    if name != requested_name:
        headers["x-igw-warnings"] = format_warnings_header([make_alias_warning(requested_name, usable[name][0])])
    return json_response(serialize_model(catalogue, *usable[name]), 200, headers)


def _iter_usable_models(request: HttpRequest, catalogue: Catalogue) -> Iterator[tuple[Model, PricesByCell]]:
    """Yields the models that the team can order, with its prices."""
    policies = get_principal(request).policies
    for model in catalogue.models.values():
        if prices := list_team_prices(catalogue, model.name, get_team(request), policies):
            yield model, prices


def _model_not_found_error(catalogue: Catalogue, name: str, usable: Mapping[str, object]) -> ApiError:
    aliases = [alias for alias, model in catalogue.aliases.items() if model in usable]
    available = ", ".join(sorted([*usable, *aliases])) or "none"
    message = f"Model '{name[:MAX_NAME_LENGTH]}' not found. Available: {available}."
    return ApiError(404, "model_not_found", message, param="model")


def serialize_model(catalogue: Catalogue, model: Model, prices: PricesByCell) -> dict[str, Any]:
    """Serializes a model: OpenAI's fields, and more. `created` is unknown, so it is 0."""
    operations = [operation for operation in Operation if any(cell.operation is operation for cell in prices)]
    return {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": "image-gateway",
        "aliases": sorted(alias for alias, name in catalogue.aliases.items() if name == model.name),
        "capabilities": _serialize_capabilities(model, operations),
        "modalities": {"input": ["text", "image"] if Operation.EDIT in operations else ["text"], "output": ["image"]},
        "operations": operations,
        "qualities": [quality for quality in model.qualities if any(cell.quality == quality for cell in prices)],
        "output_formats": model.formats,
        "backgrounds": model.backgrounds,
        "sizes": _serialize_sizes(model, prices),
        "inputs": {"max_images": model.inputs.max_images, "max_bytes": model.inputs.max_bytes},
        "max_images": model.max_images,
        "defaults": {
            "size": f"{model.width}x{model.height}",
            "quality": model.quality,
            "output_format": model.output_format,
            "background": model.background,
        },
        "prices": [_serialize_cell(cell, sellers) for cell, sellers in prices.items()],
    }


def _serialize_capabilities(model: Model, operations: list[Operation]) -> dict[str, bool]:
    """Serializes the features of a model. `partial_images`: whether a stream has previews, which no seller sends."""
    can_edit = Operation.EDIT in operations
    return {
        "generate": Operation.GENERATE in operations,
        "edit": can_edit,
        "mask": can_edit and model.inputs.has_mask,
        "transparent_background": "transparent" in model.backgrounds,
        "stream": True,
        "partial_images": False,
    }


def _serialize_sizes(model: Model, prices: PricesByCell) -> dict[str, Any]:
    """Serializes the rules for sizes, and the resolution tiers that are sold."""
    law, default_size = model.size_law, (model.width, model.height)
    sold = {cell.resolution for cell in prices}
    return {
        "multiple_of": law.edge_step,
        "max_edge": law.max_edge,
        "max_ratio": law.max_ratio,
        "min_pixels": law.min_pixels,
        "max_pixels": law.max_pixels,
        "usual": [f"{width}x{height}" for width, height in dict.fromkeys((default_size, *law.usual_sizes))],
        "resolutions": [
            {"resolution": tier.name, "max_pixels": tier.max_pixels, "usual_pixels": tier.usual_pixels}
            for tier in law.tiers
            if tier.name in sold
        ],
    }


def _serialize_cell(cell: Cell, prices: Mapping[str, Price]) -> dict[str, Any]:
    """Serializes the lowest and the highest price of a cell over its sellers, in USD per image."""
    amounts = [price.price for price in prices.values()]
    return {
        "operation": cell.operation,
        "resolution": cell.resolution,
        "quality": cell.quality,
        "min": format_usd(min(amounts)),
        "max": format_usd(max(amounts)),
        "currency": "USD",
        "sellers": sorted(prices),
    }
