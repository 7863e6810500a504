"""Other spellings of parameters and values of other APIs are mapped; a change of meaning adds a warning."""

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.api.parameter_definition import get_parameters
from gateway.api.parameter_normalization import has_dalle_model, normalize_fields
from gateway.api.parameter_table import GenerationRequest
from gateway.api.parameter_value_coercion import MAX_WORD_LENGTH
from tests.unit.routing.catalogue_factory import MODEL, make_catalogue

CATALOGUE = replace(make_catalogue(()), dalle_aliases=frozenset({"dall-e-3"}), aliases={"dall-e-3": MODEL})


def normalize_params(**fields: Any) -> tuple[dict[str, Any], list[str]]:
    """Returns the normalized values, and the names of the warnings."""
    values, warnings = normalize_fields(fields, get_parameters(GenerationRequest), CATALOGUE)
    return values, [warning.partition(":")[0] for warning in warnings]


SPELLINGS: dict[str, dict[Any, Any]] = {
    "quality": {"HIGH": "high", " Auto ": "auto"},
    "output_format": {"JPG": "jpeg", "PNG": "png"},
    "size": {"1024X1024": "1024x1024", "1024 × 1024": "1024x1024", "1536*1024": "1536x1024", "AUTO": "auto"},
    "resolution": {"2K": "2k"},
    "aspect_ratio": {" 16:9": "16:9"},
    "background": {"Opaque": "opaque"},
    "moderation": {"AUTO": "auto"},
    "response_format": {"URL": "url"},
    "n": {"1": 1, " 10 ": 10, 2.0: 2, "-1": -1},
    "output_compression": {"100": 100},
    "partial_images": {"0": 0},
    "max_seconds": {"60": 60.0, "7.5": 7.5},
    "stream": {"False": False, "true": True},
}


@pytest.mark.parametrize(
    ("name", "spelling", "value"),
    [(name, *pair) for name, spellings in SPELLINGS.items() for pair in spellings.items()],
)
def test_other_spellings_are_accepted_without_warning(name: str, spelling: Any, value: Any) -> None:
    assert normalize_params(**{name: spelling}) == ({name: value}, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", True),
        ("n", "one"),
        ("n", "1.5"),
        ("n", 1.5),
        ("n", "9" * 10),
        ("n", "٣"),
        ("n", [1]),
        ("max_seconds", "NaN"),
        ("max_seconds", "1e9"),
        ("stream", 0),
        ("stream", "no"),
        ("quality", 5),
        ("quality", {"a": 1}),
        ("size", [1024, 1024]),
        ("size", "x" * (MAX_WORD_LENGTH + 1)),
        ("prompt", " HIGH 512x512 "),
        ("user", "ME"),
    ],
)
def test_unknown_values_are_left_to_validation(name: str, value: Any) -> None:
    values, warnings = normalize_params(**{name: value})
    assert values[name] is value
    assert warnings == []


@pytest.mark.parametrize(
    ("name", "given", "value", "warning"),
    [
        ("size", "512x512", "1024x1024", "size_mapped"),
        ("size", "256X256", "1024x1024", "size_mapped"),
        ("quality", "standard", "medium", "quality_mapped"),
        ("quality", "HD", "high", "quality_mapped"),
        ("style", "vivid", "vivid", "style_ignored"),
        ("style", "Natural", "natural", "style_ignored"),
        ("input_fidelity", "high", "high", "input_fidelity_ignored"),
        ("moderation", "low", "low", "moderation_ignored"),
        ("partial_images", "2", 2, "partial_images_ignored"),
        ("seed", "0", 0, "seed_ignored"),
    ],
)
def test_changed_or_ignored_values_give_warning(name: str, given: str, value: str, warning: str) -> None:
    assert normalize_params(**{name: given}) == ({name: value}, [warning])


def test_dalle_clients_get_no_warning_for_dalle_quality() -> None:
    params = {"model": "dall-e-3", "quality": "hd", "style": "vivid", "size": "512x512"}
    values, warnings = normalize_params(**params)
    assert (values["quality"], values["size"]) == ("high", "1024x1024")
    assert warnings == ["model_alias", "style_ignored", "size_mapped"]
    assert has_dalle_model(params, CATALOGUE)
    assert not has_dalle_model({"model": "gpt-image-2"}, CATALOGUE)
    assert not has_dalle_model({"model": ["dall-e-3"]}, CATALOGUE)


def test_alias_is_replaced_by_its_model_with_a_warning() -> None:
    assert normalize_params(model="dall-e-3") == ({"model": MODEL}, ["model_alias"])
    assert normalize_params(model=MODEL) == ({"model": MODEL}, [])
    assert normalize_params(model="no-such") == ({"model": "no-such"}, [])
    assert normalize_params(model=["dall-e-3"]) == ({"model": ["dall-e-3"]}, [])


def test_null_equals_absent_field() -> None:
    assert normalize_params(style=None, size=None, n=None, unknown=None, prompt="x") == ({"prompt": "x"}, [])


def test_field_names_are_not_normalized() -> None:
    assert normalize_params(Quality="HD") == ({"Quality": "HD"}, [])
