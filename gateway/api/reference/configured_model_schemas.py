"""Adds the configured models to the schemas of the bodies: their names, qualities, tiers, formats and backgrounds."""

from collections.abc import Iterable
from typing import Any

from gateway.api.parameter_schema import Schema
from gateway.api.parameter_table import AUTO
from gateway.catalogue import Catalogue, Model

# DALL-E's qualities, which any model accepts.
MAPPED_QUALITIES = ("standard", "hd")


def add_model_choices(schemas: Schema, catalogue: Catalogue) -> Schema:
    """Returns the schemas of the bodies with the choices of all models. One model may have fewer."""
    models = catalogue.models.values()
    choices = {
        "model": [*catalogue.models, *catalogue.aliases],
        "quality": [AUTO, *_join(model.qualities for model in models), *MAPPED_QUALITIES],
        "resolution": _join(model.size_law.resolutions for model in models),
        "output_format": _join(model.formats for model in models),
        "background": [AUTO, *_join(model.backgrounds for model in models)],
    }
    descriptions = " ".join(map(_describe_model, models))
    sizes = " ".join(map(_describe_sizes, models))
    for schema in schemas.values():
        properties = schema.get("properties", {})
        if choices.keys() <= properties.keys():
            for name, values in choices.items():
                _set_choices(properties[name], values)
            properties["model"]["description"] += f" {descriptions}"
            properties["size"]["description"] += f" {sizes}"
    return schemas


def _join(lists: Iterable[Iterable[str]]) -> list[str]:
    """Joins lists without repetitions. The order is that of the first list that has an entry."""
    return list(dict.fromkeys(str(entry) for entries in lists for entry in entries))


def _describe_model(model: Model) -> str:
    return (
        f"`{model.name}`: qualities {', '.join(model.qualities)}; resolutions {', '.join(model.size_law.resolutions)}; "
        f"by default {model.width}x{model.height}, {model.quality}, {model.output_format}; up to {model.max_images} "
        f"images, and {model.inputs.max_images} input images."
    )


def _describe_sizes(model: Model) -> str:
    law = model.size_law
    usual = ", ".join(f"{width}x{height}" for width, height in ((model.width, model.height), *law.usual_sizes))
    return (
        f"`{model.name}`: {usual}, or any size of {law.min_pixels:,} to {law.max_pixels:,} pixels whose edges are "
        f"multiples of {law.edge_step}, at most {law.max_edge}, and at most {law.max_ratio:g} to 1."
    )


def _set_choices(schema: Any, choices: list[str]) -> None:
    """Restricts the text that a schema allows to the choices."""
    for variant in schema.get("anyOf", [schema]):
        if variant.get("type") == "string":
            variant.clear()
            variant.update({"type": "string", "enum": choices})
