"""Normalizes the values of a request before they are validated, as the rows of the parameter table say.

Every change of meaning adds a warning; mere spelling (`HIGH`, `jpg`, `1024X1024`, `"1"`) adds none.
"""

from collections.abc import Mapping
from typing import Any

from gateway.api.parameter_definition import Parameter
from gateway.catalogue import Catalogue, Model


def has_dalle_model(fields: Mapping[str, Any], catalogue: Catalogue) -> bool:
    """Returns whether the request names a DALL-E model: then its client expects DALL-E's response."""
    model = fields.get("model")
    return isinstance(model, str) and model in catalogue.dalle_aliases


def normalize_fields(
    fields: Mapping[str, Any], parameters: Mapping[str, Parameter], catalogue: Catalogue
) -> tuple[dict[str, Any], list[str]]:
    """Normalizes the fields of a request and drops those that are null. Returns them with warnings."""
    model, is_dalle_client = _find_model(fields, catalogue), has_dalle_model(fields, catalogue)
    values: dict[str, Any] = {}
    warnings: list[str] = []
    for name, value in fields.items():
        if value is None:
            continue
        parameter = parameters.get(name)
        if parameter is not None:
            if parameter.fix_spelling is not None:
                value = parameter.fix_spelling(value)
            if parameter.replace is not None and (replacement := parameter.replace(value, model)) is not None:
                value = replacement.value
                if replacement.warning and not (is_dalle_client and replacement.is_dalle_word):
                    warnings.append(replacement.warning)
        values[name] = value
    return values, warnings


def _find_model(fields: Mapping[str, Any], catalogue: Catalogue) -> Model | None:
    """Returns the model of the request; None if it is unknown, which the validation reports."""
    name = fields.get("model")
    if name is None:
        return next(iter(catalogue.models.values()), None)
    return catalogue.find_model(name) if isinstance(name, str) else None
