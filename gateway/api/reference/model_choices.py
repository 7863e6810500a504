"""Adds the configured models to the schemas of the bodies: their names, qualities and resolutions as choices."""

from collections.abc import Iterable
from typing import Any

from gateway.api.parameter_schema import Schema
from gateway.catalogue import Catalogue, Model


def add_model_choices(schemas: Schema, catalogue: Catalogue) -> Schema:
    """Returns the schemas with choices that depend on the configuration."""
    names = [*catalogue.models, *catalogue.aliases]
    models = " ".join(_describe_model(catalogue, model) for model in catalogue.models.values())
    for schema in schemas.values():
        if "model" in schema.get("properties", {}):
            properties = schema["properties"]
            _set_choices(properties["model"], names)
            properties["model"]["description"] += f" {models}"
            _set_choices(properties["resolution"], _list_cell_words(catalogue, "resolution"))
    return schemas


def _describe_model(catalogue: Catalogue, model: Model) -> str:
    qualities = ", ".join(_list_cell_words(catalogue, "quality", model.name)) or "none"
    resolutions = ", ".join(_list_cell_words(catalogue, "resolution", model.name)) or "none"
    return (
        f"`{model.name}`: qualities {qualities}; resolutions {resolutions}; by default {model.width}x{model.height}, "
        f"{model.quality}, {model.output_format}; up to {model.max_images} images."
    )


def _list_cell_words(catalogue: Catalogue, name: str, model: str | None = None) -> list[str]:
    """Lists the qualities or resolutions that are sold, of one model or of all."""
    offers = (offer for offer in catalogue.iter_offers() if model in (None, offer.model))
    return sorted({str(getattr(cell, name)) for offer in offers for cell in offer.prices})


def _set_choices(schema: Any, choices: Iterable[str]) -> None:
    """Replaces the text of a schema by the choices."""
    for variant in schema.get("anyOf", [schema]):
        if variant.get("type") == "string" or "enum" in variant:
            variant.clear()
            variant.update({"type": "string", "enum": list(dict.fromkeys(choices))})
