"""Requests for responses become parameters of images, or are refused by name."""

from typing import Any

import jsonschema
import pytest

from gateway.api.api_errors import ApiError
from gateway.api.earlier_images import EarlierImages
from gateway.api.parameter_definition import REFUSED, TranslatedFields, get_parameters
from gateway.api.parameter_normalization import normalize_fields
from gateway.api.parameter_schema import COMPONENTS_PREFIX, build_body_schemas
from gateway.api.reference.openapi_document import BODIES_WITH_ROWS
from gateway.api.request_body_reader import to_struct
from gateway.api.responses_api.image_tool_reader import TOOL_PARAMETERS
from gateway.api.responses_api.image_tool_schema import add_tool_schema
from gateway.api.responses_api.response_ids import make_call_id, make_response_id, parse_call_id, parse_response_id
from gateway.api.responses_api.response_parameter_table import CreateResponseRequest
from gateway.api.responses_api.response_translation import ResponseParams
from tests.unit.api.conversation_factory import CATALOGUE, JOB_ID, TOOL, make_call, make_image_part, make_message

MODEL = next(iter(CATALOGUE.models))
ROWS = list(get_parameters(CreateResponseRequest).items())
# Every parameter of OpenAI's responses (SDK 3.54).
OPENAI_PARAMS = {
    *("background", "context_management", "conversation", "include", "input", "instructions", "max_output_tokens"),
    *("max_tool_calls", "metadata", "model", "moderation", "parallel_tool_calls", "previous_response_id", "prompt"),
    *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning", "safety_identifier"),
    *("service_tier", "store", "stream", "stream_options", "temperature", "text", "tool_choice", "tools"),
    *("top_logprobs", "top_p", "truncation", "user", "access_programs", "image"),
}


def translate(input_items: Any = "a lighthouse", tool: dict[str, Any] = TOOL, **fields: Any) -> TranslatedFields:
    return ResponseParams.translate_fields({"input": input_items, "tools": [tool], **fields}, CATALOGUE)


def parse_params(*arguments: Any, **fields: Any) -> ResponseParams:
    translated = translate(*arguments, **fields)
    values, _ = normalize_fields(translated.fields, get_parameters(ResponseParams), CATALOGUE)
    return to_struct(values, ResponseParams)


def refuse(*arguments: Any, **fields: Any) -> ApiError:
    with pytest.raises(ApiError) as raised:
        parse_params(*arguments, **fields)
    assert raised.value.status == 400
    return raised.value


def list_images(params: ResponseParams) -> list[Any]:
    images = params.images if isinstance(params.images, tuple) else (params.images,)
    return [(image.job_id, image.image_index) if isinstance(image, EarlierImages) else image for image in images]


def test_every_parameter_of_openai_has_a_row() -> None:
    assert set(get_parameters(CreateResponseRequest)) == set(CreateResponseRequest.__struct_fields__)
    assert {name for name, _ in ROWS} >= OPENAI_PARAMS


@pytest.mark.parametrize(("name", "parameter"), ROWS)
def test_example_is_accepted_unless_the_parameter_is_refused(name: str, parameter: Any) -> None:
    schemas = add_tool_schema(build_body_schemas(BODIES_WITH_ROWS))
    reference = {"$ref": COMPONENTS_PREFIX + "CreateResponseRequest"}
    validator = jsonschema.Draft202012Validator({**reference, "components": {"schemas": schemas}})
    body = {"input": "a", "tools": [TOOL], name: parameter.example}
    is_refused = parameter.treatment is REFUSED
    assert validator.is_valid(body) is not is_refused
    if is_refused:
        error = refuse(**{name: parameter.example})
        assert (error.code, error.param) == ("unsupported_parameter", name)
        assert parameter.refusal in error.message
    elif name != "previous_response_id":
        ResponseParams.translate_fields(body, CATALOGUE)


@pytest.mark.parametrize(("name", "parameter"), ROWS)
def test_null_equals_absent(name: str, parameter: Any) -> None:
    if name not in ("input", "tools"):
        assert translate(**{name: None}) == translate()


WARNED_VALUES: dict[str, Any] = {
    "store": False,
    "instructions": "Draw in watercolour.",
    "include": ["reasoning.encrypted_content"],
    "text": {"verbosity": "low"},
    "reasoning": {"effort": "high"},
    "temperature": 0.2,
    "top_p": 0.5,
    "top_logprobs": 3,
    "max_output_tokens": 1_000,
    "truncation": "auto",
    "service_tier": "flex",
    "stream_options": {"include_obfuscation": True},
    "prompt_cache_key": "a",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {"mode": "explicit"},
    "image": {"context_compression": "disabled"},
}


@pytest.mark.parametrize("name", WARNED_VALUES)
def test_parameter_without_effect_is_named_in_a_warning(name: str) -> None:
    [warning] = translate(**{name: WARNED_VALUES[name]}).warnings
    assert warning.startswith(f"{name}_ignored: ")


def test_defaults_of_clients_add_no_warning() -> None:
    defaults = {
        "store": True,
        "include": [],
        "text": {"format": {"type": "text"}},
        "temperature": 1.0,
        "top_p": 1,
        "truncation": "disabled",
        "service_tier": "auto",
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "metadata": {},
        "stream": False,
        "background": False,
    }
    assert translate(**defaults).warnings == ()


@pytest.mark.parametrize(
    ("input_items", "prompt", "images"),
    [
        ("a lighthouse", "a lighthouse", []),
        ([{"role": "user", "content": "a"}], "a", []),
        ([make_message("user", "a", "b")], "a\nb", []),
        ([make_message("user", "a"), make_message("user", "b")], "a\nb", []),
        ([make_message("user", "a", make_image_part("https://a/1"))], "a", ["https://a/1"]),
        # As OpenAI's guide shows it: the message, then the call that it is about.
        ([make_message("user", "now at night"), make_call(0)], "now at night", [(JOB_ID, 0)]),
        ([make_message("user", "a"), make_call(1), make_message("user", "b")], "b", [(JOB_ID, 1)]),
        ([make_call(0), make_call(1), make_message("user", "b")], "b", [(JOB_ID, 0), (JOB_ID, 1)]),
        # A chat that edits step by step: the last image counts, and what is sent beside it.
        (
            [
                make_message("user", "a", make_image_part("https://a/1")),
                make_call(0),
                make_message("user", "b"),
                make_call(1),
                make_message("user", "c", make_image_part("https://a/2")),
            ],
            "c",
            [(JOB_ID, 1), "https://a/2"],
        ),
        # An image that no call has replaced still counts.
        (
            [
                make_message("user", "what is it?", make_image_part("https://a/1")),
                {"role": "assistant", "content": [{"type": "output_text", "text": "A cat.", "annotations": []}]},
                make_message("user", "b"),
            ],
            "b",
            ["https://a/1"],
        ),
        ([make_message("user", "b"), {"type": "item_reference", "id": make_call_id(JOB_ID, 2)}], "b", [(JOB_ID, 2)]),
    ],
)
def test_conversation_becomes_prompt_and_images(input_items: Any, prompt: str, images: list[Any]) -> None:
    params = parse_params(input_items)
    assert (params.prompt, list_images(params)) == (prompt, images)
    assert params.operation == ("edit" if images else "generate")


def test_result_of_a_call_is_used_without_its_id() -> None:
    call = make_call(id="ig_of_another_service", result="iVBORw0KGgo=", size="1x1", unknown_field=1)
    [image] = parse_params([make_message("user", "a"), call]).images  # type: ignore[misc]
    assert image.b64_json == "iVBORw0KGgo="  # type: ignore[union-attr]


def test_previous_response_comes_before_other_images() -> None:
    response_id = make_response_id(JOB_ID)
    message = make_message("user", "a", make_image_part("https://a/1"))
    assert list_images(parse_params([message], previous_response_id=response_id)) == [(JOB_ID, None), "https://a/1"]


@pytest.mark.parametrize(
    ("input_items", "code"),
    [
        ([make_message("user", "a"), make_call(0), make_message("user", "b")], "earlier_input_ignored"),
        ([make_call(0), make_message("user", "b"), make_call(1), make_message("user", "c")], "earlier_input_ignored"),
        ([{"type": "reasoning", "id": "rs_1", "summary": []}, make_message("user", "b")], "earlier_input_ignored"),
        ([make_message("system", "Be brief."), make_message("user", "b")], "instructions_ignored"),
        ([make_message("user", "a", {**make_image_part("https://a/1"), "detail": "high"})], "detail_ignored"),
    ],
)
def test_input_without_effect_is_named_in_a_warning(input_items: Any, code: str) -> None:
    assert [warning.partition(":")[0] for warning in translate(input_items).warnings] == [code]


def test_nothing_is_ignored_without_need() -> None:
    assert translate([make_call(0), make_message("user", "b")]).warnings == ()
    assert translate([make_message("user", "b"), make_call(0)]).warnings == ()


FILE_PART = {"type": "input_file", "file_id": "file-1"}
REFUSALS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "no tools": ({"tools": []}, "missing_required_parameter", "tools", "makes images only"),
    "null tools": ({"tools": None}, "missing_required_parameter", "tools", "makes images only"),
    "web search": ({"tools": [{"type": "web_search"}]}, "unsupported_parameter", "tools[0].type", "'web_search'"),
    "second tool": (
        {"tools": [TOOL, {"type": "function", "name": "f"}]},
        "unsupported_parameter",
        "tools[1].type",
        "'function'",
    ),
    "two image tools": ({"tools": [TOOL, TOOL]}, "missing_required_parameter", "tools", "2 tools"),
    "tool without type": ({"tools": [{}]}, "unsupported_parameter", "tools[0].type", "image_generation"),
    "unknown tool parameter": (
        {"tools": [{**TOOL, "sise": "1024x1024"}]},
        "unknown_parameter",
        "tools[0].sise",
        "did you mean 'size'",
    ),
    "prompt in tool": ({"tools": [{**TOOL, "prompt": "a"}]}, "unknown_parameter", "tools[0].prompt", "prompt"),
    "hidden parameter in tool": (
        {"tools": [{**TOOL, "is_background": True}]},
        "unknown_parameter",
        "tools[0].is_background",
        "is_background",
    ),
    "wrong action": ({"tools": [{**TOOL, "action": "draw"}]}, "invalid_value", "tools[0].action", "one of"),
    "gif options": ({"tools": [{**TOOL, "frame_count": 9}]}, "unsupported_parameter", "frame_count", "animations"),
    "many partial images": ({"tools": [{**TOOL, "partial_images": 4}]}, "invalid_value", "partial_images", "at most 3"),
    "no choice": ({"tool_choice": "none"}, "unsupported_parameter", "tool_choice", "always makes an image"),
    "other choice": (
        {"tool_choice": {"type": "function", "name": "f"}},
        "unsupported_parameter",
        "tool_choice",
        "image_generation",
    ),
    "json text": (
        {"text": {"format": {"type": "json_schema", "name": "a", "schema": {}}}},
        "unsupported_parameter",
        "text.format",
        "writes no text",
    ),
    "conversation": ({"conversation": "conv_1"}, "unsupported_parameter", "conversation", "previous_response_id"),
    "prompt template": ({"prompt": {"id": "pmpt_1"}}, "unsupported_parameter", "prompt", "as input"),
    "no input": ({"input": None}, "missing_required_parameter", "input", "input"),
    "empty input": ({"input": ""}, "missing_required_parameter", "input", "no text"),
    "blank input": ({"input": [make_message("user", " ")]}, "missing_required_parameter", "input", "no text"),
    "only system": ({"input": [make_message("system", "a")]}, "missing_required_parameter", "input", "no text"),
    "long input": ({"input": "a" * 32_001}, "invalid_value", "input", "32,000"),
    "file": (
        {"input": [make_message("user", FILE_PART)]},
        "unsupported_parameter",
        "input[0].content[0].type",
        "'input_file'",
    ),
    "file id of an image": (
        {"input": [make_message("user", {"type": "input_image", "file_id": "file-1"})]},
        "unsupported_parameter",
        "input[0].content[0].file_id",
        "data URI",
    ),
    "image without url": (
        {"input": [make_message("user", "a", {"type": "input_image"})]},
        "missing_required_parameter",
        "input[0].content[1].image_url",
        "image_url",
    ),
    "function output": (
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "o"}]},
        "unsupported_parameter",
        "input[0].type",
        "'function_call_output'",
    ),
    "role": ({"input": [{"role": "tool", "content": "a"}]}, "invalid_value", "input[0].role", "one of"),
    "no content": ({"input": [{"role": "user"}]}, "missing_required_parameter", "input[0].content", "content"),
    "unknown field": ({"input": [{"role": "user", "content": "a", "x": 1}]}, "unknown_parameter", "input[0].x", "x"),
    "foreign call": (
        {"input": [make_message("user", "a"), {"type": "image_generation_call", "id": "ig_68"}]},
        "image_not_found",
        "input[1]",
        "result",
    ),
    "edit without image": (
        {"tools": [{**TOOL, "action": "edit"}]},
        "missing_required_parameter",
        "input",
        "previous_response_id",
    ),
    "mask without image": (
        {"tools": [{**TOOL, "input_image_mask": {"image_url": "https://a/1"}}]},
        "missing_required_parameter",
        "input",
        "mask",
    ),
    "file id of a mask": (
        {
            "tools": [{**TOOL, "input_image_mask": {"file_id": "file-1"}}],
            "input": [make_message("user", "a", make_image_part("https://a/1"))],
        },
        "unsupported_parameter",
        "mask.file_id",
        "image_url",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_request_that_is_not_about_images_is_refused_by_name(name: str) -> None:
    fields, code, param, words = REFUSALS[name]
    body = {"input_items": "a lighthouse"} | fields
    error = refuse(body.pop("input", body.pop("input_items")), **body)
    assert (error.code, error.param) == (code, param)
    assert words in error.message


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "image_generation"},
        {"type": "allowed_tools", "mode": "auto", "tools": [TOOL]},
    ],
)
def test_choice_of_the_image_tool_is_accepted(choice: Any) -> None:
    assert translate(tool_choice=choice).echoed_params["tool_choice"] == choice


def test_action_generate_ignores_images_with_a_warning() -> None:
    message = make_message("user", "a", make_image_part("https://a/1"))
    translated = translate([message], {**TOOL, "action": "generate"})
    assert (translated.fields["operation"], translated.fields["images"]) == ("generate", ())
    assert [warning.partition(":")[0] for warning in translated.warnings] == ["input_images_ignored"]


ALIAS = next(iter(CATALOGUE.aliases), MODEL)


@pytest.mark.parametrize(
    ("outer", "inner", "model", "is_warned"),
    [
        (None, None, None, False),
        ("gpt-5", None, None, True),
        ("gpt-4.1", MODEL, MODEL, True),
        (MODEL, None, MODEL, False),
        (MODEL, MODEL, MODEL, False),
        (MODEL, "no-such-model", "no-such-model", True),
        (ALIAS, None, ALIAS, False),
    ],
)
def test_image_model_is_that_of_the_tool_or_of_the_request(
    outer: str | None, inner: str | None, model: str | None, is_warned: bool
) -> None:
    tool = TOOL if inner is None else {**TOOL, "model": inner}
    translated = translate("a", tool, model=outer)
    assert translated.fields["model"] == model
    assert [warning.partition(":")[0] for warning in translated.warnings] == ["model_ignored"] * is_warned
    assert translated.echoed_params.get("model") == outer


def test_tool_has_every_parameter_of_images_and_the_request_the_options_of_jobs() -> None:
    sent = {"size": "1024x1024", "quality": "low", "n": 2, "resolution": None, "output_format": "webp"}
    params = parse_params("a", {**TOOL, **sent}, max_cost="0.5", labels=["spring"], metadata={"a": "b"}, stream=True)
    assert (params.n, params.size, params.quality, params.output_format) == (2, "1024x1024", "low", "webp")
    assert (params.max_cost, params.labels, params.metadata, params.stream) == ("0.5", ("spring",), {"a": "b"}, True)
    assert {"background", "input_fidelity", "moderation", "output_compression", "svg"} <= set(TOOL_PARAMETERS)


def test_ids_lead_to_the_job_and_back() -> None:
    assert parse_response_id(make_response_id(JOB_ID)) == JOB_ID
    call = parse_call_id(make_call_id(JOB_ID, 3))
    assert call is not None
    assert (call.job_id, call.index) == (JOB_ID, 3)
    for text in ("", "resp_", JOB_ID, "resp_99" + "a" * 26, "resp_07" + "A" * 26, "resp_68af"):
        assert parse_response_id(text) is None
    for text in ("", "ig_68af", "ig_99" + "a" * 26 + "_0", make_call_id(JOB_ID, 0) + "x", f"ig_{JOB_ID}_0"):
        assert parse_call_id(text) is None
