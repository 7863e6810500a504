"""The parameter table is complete, and the parser and the published schema agree with it."""

from typing import Any

import jsonschema
import pytest

from gateway.api.api_errors import ApiError
from gateway.api.parameter_definition import REFUSED, get_parameters
from gateway.api.parameter_normalization import normalize_fields
from gateway.api.parameter_schema import COMPONENTS_PREFIX, build_body_schema, build_body_schemas, build_example
from gateway.api.parameter_table import BODY_TYPES, ImageParams
from gateway.api.request_body_reader import to_struct
from tests.unit.routing.catalogue_factory import make_catalogue

CATALOGUE = make_catalogue(())
# Every parameter of OpenAI's generations and edits (SDK 3.54).
OPENAI_PARAMS = {
    *("prompt", "model", "n", "size", "quality", "background", "output_format", "output_compression", "moderation"),
    *("stream", "partial_images", "complexity", "frame_count", "frame_duration_ms", "svg", "response_format", "style"),
    *("user", "safety_identifier", "image", "mask", "markup", "input_fidelity"),
}
ALL_ROWS = [
    (route, name, parameter)
    for route, body_type in BODY_TYPES.items()
    for name, parameter in get_parameters(body_type).items()
]
body_types = pytest.mark.parametrize("body_type", BODY_TYPES.values())


def parse_body(body_type: type[ImageParams], fields: dict[str, Any]) -> ImageParams:
    values, _ = normalize_fields({"prompt": "a"} | fields, get_parameters(body_type), CATALOGUE)
    return to_struct(values, body_type)


def make_validator(body_type: type[ImageParams]) -> jsonschema.Draft202012Validator:
    components = {"components": {"schemas": build_body_schemas()}}
    return jsonschema.Draft202012Validator({"$ref": COMPONENTS_PREFIX + body_type.__name__, **components})


@body_types
def test_every_field_has_a_row_and_every_parameter_of_openai_too(body_type: type[ImageParams]) -> None:
    parameters = get_parameters(body_type)
    assert set(parameters) == set(body_type.__struct_fields__)
    assert set(parameters) >= OPENAI_PARAMS


@pytest.mark.parametrize(("route", "name", "parameter"), ALL_ROWS)
def test_example_is_accepted_unless_the_parameter_is_refused(route: str, name: str, parameter: Any) -> None:
    body_type = BODY_TYPES[route]
    body = {"prompt": "a", name: parameter.example}
    is_refused = parameter.treatment is REFUSED and not parameter.note
    assert make_validator(body_type).is_valid(body) is not is_refused
    if not is_refused:
        parse_body(body_type, body)
        return
    with pytest.raises(ApiError) as raised:
        parse_body(body_type, body)
    assert (raised.value.code, raised.value.param) == ("unsupported_parameter", name)
    assert parameter.refusal in raised.value.message


@pytest.mark.parametrize(("route", "name", "parameter"), ALL_ROWS)
def test_null_equals_absent(route: str, name: str, parameter: Any) -> None:
    if name == "prompt":
        return
    body_type = BODY_TYPES[route]
    assert parse_body(body_type, {name: None}) == parse_body(body_type, {})
    assert make_validator(body_type).is_valid({"prompt": "a", name: None})


@body_types
@pytest.mark.parametrize(
    "fields",
    [
        {"n": 0},
        {"n": "two"},
        {"promt": "a"},
        {"seed": 7},
        {"partial_images": 4},
        {"provider": {"order": ["a"]}},
        {"metadata": {"a": 1}},
        {"stream": "no"},
        {"prompt": None},
    ],
)
def test_schema_rejects_what_the_parser_rejects(body_type: type[ImageParams], fields: dict[str, Any]) -> None:
    assert not make_validator(body_type).is_valid({"prompt": "a"} | fields)
    with pytest.raises(ApiError):
        parse_body(body_type, fields)


@body_types
def test_schema_is_valid_and_describes_every_parameter(body_type: type[ImageParams]) -> None:
    schema = build_body_schema(body_type)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["prompt"]
    assert all(field["description"] for field in schema["properties"].values())
    assert make_validator(body_type).is_valid(build_example(body_type))


def test_unknown_parameter_error_does_not_list_refused_ones() -> None:
    with pytest.raises(ApiError) as raised:
        parse_body(BODY_TYPES["generations"], {"xyz": 1})
    assert "frame_count" not in raised.value.message
    assert "aspect_ratio" in raised.value.message
