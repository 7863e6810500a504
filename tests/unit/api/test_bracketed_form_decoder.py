"""The text fields of a form give the same values as a JSON body."""

from typing import Any

import pytest

from gateway.api.api_errors import ApiError
from gateway.api.bracketed_form_decoder import LIST_FIELDS, OBJECT_FIELDS, parse_form_fields
from gateway.api.parameter_definition import get_parameters
from gateway.api.parameter_normalization import normalize_fields
from gateway.api.parameter_schema import build_body_schemas
from gateway.api.parameter_table import EditRequest
from gateway.api.request_body_reader import to_struct
from gateway.api.shared_job_parameters import SellerFilter
from tests.unit.routing.catalogue_factory import make_catalogue


@pytest.mark.parametrize(
    ("pairs", "fields"),
    [
        ([("n", "2"), ("stream", "false")], {"n": "2", "stream": "false"}),
        ([("provider[only][]", "a"), ("provider[only][]", "b")], {"provider": {"only": ["a", "b"]}}),
        ([("provider[only][0]", "a"), ("provider[only][1]", "b")], {"provider": {"only": ["a", "b"]}}),
        ([("metadata[a]", "1"), ("metadata[b]", "2")], {"metadata": {"a": "1", "b": "2"}}),
        ([("images[]", "a")], {"images": ["a"]}),
        ([("provider[only]", "a")], {"provider": {"only": ["a"]}}),
        ([("labels", "a")], {"labels": ["a"]}),
        ([("labels", "a"), ("labels", "b"), ("labels[]", "c")], {"labels": ["a", "b", "c"]}),
        ([("provider", '{"only": ["a"]}')], {"provider": {"only": ["a"]}}),
        ([("metadata", ' {"0": "{}"}')], {"metadata": {"0": "{}"}}),
        ([("background", ""), ("prompt", "a")], {"prompt": "a"}),
        ([("svg[model]", "gpt-5"), ("svg[reasoning][effort]", "low")], None),
        ([], {}),
    ],
)
def test_brackets_make_lists_and_objects(pairs: list[tuple[str, str]], fields: dict[str, Any] | None) -> None:
    expected = {"svg": {"model": "gpt-5", "reasoning": {"effort": "low"}}} if fields is None else fields
    assert parse_form_fields(pairs) == expected


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ([("n", "1"), ("n", "2")], "duplicate_parameter"),
        ([("metadata", "1"), ("metadata[a]", "2")], "duplicate_parameter"),
        ([("metadata[a]", "2"), ("metadata", "1")], "duplicate_parameter"),
        ([("metadata[a]", "2"), ("metadata[a]", "3")], "duplicate_parameter"),
        ([("metadata", "{}"), ("metadata", "{}")], "duplicate_parameter"),
        ([("metadata", '{"a": "1", "a": "2"}')], "invalid_value"),
        ([("provider", "[object Object]")], "invalid_value"),
        ([("provider", '{"only": ["a"]')], "invalid_value"),
        ([("metadata", '{"a": ' * 5_000)], "invalid_value"),
        ([("metadata", '{"a": "%s"}' % ("b" * 100_000))], "invalid_value"),
        ([("a[b][c][d][e]", "1")], "invalid_value"),
        ([("a[][b]", "1")], "invalid_value"),
        ([("[a]", "1")], "invalid_value"),
        ([("a[b", "1")], "invalid_value"),
        ([("", "1")], "invalid_value"),
        ([("[" * 100_000, "1")], "invalid_value"),
    ],
)
def test_contradicting_or_invalid_names_are_rejected(pairs: list[tuple[str, str]], code: str) -> None:
    with pytest.raises(ApiError) as raised:
        parse_form_fields(pairs)
    assert (raised.value.status, raised.value.code) == (400, code)
    assert len(raised.value.message) < 300


def test_form_gives_the_same_parameters_as_json() -> None:
    pairs = [
        ("prompt", " 5 "),
        ("n", "2"),
        ("stream", "true"),
        ("partial_images", "0"),
        ("output_compression", "100"),
        ("max_seconds", "7.5"),
        ("max_price", "0.20"),
        ("quality", "HIGH"),
        ("seed", ""),
        ("provider[ignore][]", "runapi"),
        ("metadata[campaign]", "spring"),
    ]
    values, warnings = normalize_fields(parse_form_fields(pairs), get_parameters(EditRequest), make_catalogue(()))
    assert to_struct(values, EditRequest) == EditRequest(
        prompt=" 5 ",
        n=2,
        stream=True,
        max_seconds=7.5,
        max_price="0.20",
        quality="high",
        provider=SellerFilter(ignore=("runapi",)),
        metadata={"campaign": "spring"},
    )
    assert warnings == []


def test_every_list_and_object_of_an_edit_has_the_spellings_of_forms() -> None:
    """A new parameter that is a list or an object needs a line in the decoder."""
    schema = build_body_schemas()[EditRequest.__name__]["properties"]
    kinds = {name: str(field) for name, field in schema.items() if name not in ("image", "images", "mask")}
    assert {name for name, kind in kinds.items() if "'array'" in kind} == {"labels"}
    assert {name for name, kind in kinds.items() if "'object'" in kind or "SellerFilter" in kind} == set(OBJECT_FIELDS)
    assert {f"provider[{name}]" for name in SellerFilter.__struct_fields__} < set(LIST_FIELDS)
