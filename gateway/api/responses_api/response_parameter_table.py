"""The rows of the parameter table for `POST /v1/responses`, except those of its image tool.

The tool has the parameters of the other routes, which are in `parameter_table.py`.
"""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from gateway.api.legacy_parameter_values import warn_unless
from gateway.api.parameter_definition import APPLIED, MAPPED, REFUSED, WARNED, Parameter
from gateway.api.parameter_value_coercion import read_boolean
from gateway.api.request_body_reader import MAX_BODY_BYTES
from gateway.api.shared_job_parameters import JobOptions, ShortText

IMAGE_TOOL = "image_generation"
_NO_TEXT_MODEL = "no text model runs"
_NO_TEXT_CACHE = "no text model runs, so no prompt is cached"


class CreateResponseRequest(JobOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/responses`."""

    max_body_bytes: ClassVar[int] = MAX_BODY_BYTES

    input: Annotated[
        str | tuple[dict[str, Any], ...],
        Parameter(
            APPLIED,
            "The prompt; or a list of messages (`input_text`, `input_image`) and `image_generation_call` items.",
            "a lighthouse at dawn",
            note="The text of the last user messages is the prompt, as it is written. If there are images, they are "
            "edited. Other items, files and audio are refused.",
        ),
    ]
    tools: Annotated[
        tuple[dict[str, Any], ...],
        Parameter(
            APPLIED,
            'One tool: `{"type": "image_generation"}`, with the parameters of its images.',
            [{"type": IMAGE_TOOL, "quality": "low"}],
            note="Required, and other tools are refused: this gateway makes images only.",
        ),
    ] = ()
    model: Annotated[
        ShortText | None,
        Parameter(
            MAPPED,
            "An image model; or any chat model, which does not run.",
            "gpt-5",
            note="With a chat model, the tool's `model` makes the image, by default the first one of `models.yaml`.",
        ),
    ] = None
    tool_choice: Annotated[
        str | dict[str, Any],
        Parameter(
            APPLIED,
            "How the tool is chosen. An image is made in any case.",
            "required",
            note="`none` and other tools are refused.",
        ),
    ] = "auto"
    previous_response_id: Annotated[
        ShortText | None,
        Parameter(APPLIED, "A response or job of your team, whose images are edited.", "resp_07…"),
    ] = None
    background: Annotated[
        bool,
        Parameter(
            APPLIED,
            "Whether to respond at once. `GET /v1/responses/{id}` returns the images later.",
            True,
            fix_spelling=read_boolean,
        ),
    ] = False
    parallel_tool_calls: Annotated[
        bool | None, Parameter(APPLIED, "Whether tools may run in parallel. There is one tool.", True)
    ] = None
    store: Annotated[
        bool | None,
        Parameter(
            WARNED,
            "Whether the response is kept.",
            True,
            note="`false` has no effect: jobs are kept as the gateway is configured. Delete the response instead.",
            replace=warn_unless("store", (True,), "jobs are kept as configured; DELETE the response to delete it"),
        ),
    ] = None
    instructions: Annotated[
        str | tuple[dict[str, Any], ...] | None,
        Parameter(
            WARNED,
            "Instructions for a text model.",
            "Be brief.",
            note="Like system and developer messages, they are not part of the prompt.",
            replace=warn_unless("instructions", ("",), "no text model runs, and the prompt is the user's text alone"),
        ),
    ] = None
    include: Annotated[
        tuple[str, ...] | None,
        Parameter(
            WARNED,
            "Further output.",
            ["reasoning.encrypted_content"],
            replace=warn_unless("include", ([],), "an image has no further output"),
        ),
    ] = None
    text: Annotated[
        dict[str, Any] | None,
        Parameter(
            WARNED,
            "The format of the text.",
            {"format": {"type": "text"}},
            note="No text is written, so JSON formats are refused.",
            replace=warn_unless("text", ({}, {"format": {"type": "text"}}), "no text is written"),
        ),
    ] = None
    reasoning: Annotated[
        dict[str, Any] | None,
        Parameter(
            WARNED,
            "How a text model reasons.",
            {"effort": "low"},
            replace=warn_unless("reasoning", ({},), _NO_TEXT_MODEL),
        ),
    ] = None
    temperature: Annotated[
        float | None,
        Parameter(WARNED, "Sampling of text.", 1, replace=warn_unless("temperature", (1,), _NO_TEXT_MODEL)),
    ] = None
    top_p: Annotated[
        float | None,
        Parameter(WARNED, "Sampling of text.", 1, replace=warn_unless("top_p", (1,), _NO_TEXT_MODEL)),
    ] = None
    top_logprobs: Annotated[
        int | None,
        Parameter(WARNED, "Probabilities of text.", 0, replace=warn_unless("top_logprobs", (0,), _NO_TEXT_MODEL)),
    ] = None
    max_output_tokens: Annotated[
        int | None,
        Parameter(
            WARNED,
            "Maximum length of text.",
            1_000,
            note="`max_cost` limits the costs of a request.",
            replace=warn_unless("max_output_tokens", (), "no text is written; max_cost limits the costs of a request"),
        ),
    ] = None
    max_tool_calls: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Parameter(APPLIED, "Maximum number of tool calls. There is one call for each image.", 1),
    ] = None
    truncation: Annotated[
        Literal["auto", "disabled"] | None,
        Parameter(
            WARNED,
            "What happens to a long input.",
            "disabled",
            note="A prompt that is too long is refused.",
            replace=warn_unless("truncation", ("disabled",), "a prompt that is too long is refused"),
        ),
    ] = None
    service_tier: Annotated[
        str | None,
        Parameter(
            WARNED,
            "OpenAI's priority of the request.",
            "auto",
            note="A `policy` decides between price and speed.",
            replace=warn_unless("service_tier", ("auto", "default"), "a policy decides between price and speed"),
        ),
    ] = None
    stream_options: Annotated[
        dict[str, Any] | None,
        Parameter(
            WARNED,
            "Options of the stream.",
            {"include_obfuscation": False},
            replace=warn_unless("stream_options", ({}, {"include_obfuscation": False}), "events are not padded"),
        ),
    ] = None
    prompt_cache_key: Annotated[
        str | None,
        Parameter(WARNED, "OpenAI's cache.", "page-12", replace=warn_unless("prompt_cache_key", (), _NO_TEXT_CACHE)),
    ] = None
    prompt_cache_retention: Annotated[
        str | None,
        Parameter(WARNED, "OpenAI's cache.", "24h", replace=warn_unless("prompt_cache_retention", (), _NO_TEXT_CACHE)),
    ] = None
    prompt_cache_options: Annotated[
        dict[str, Any] | None,
        Parameter(WARNED, "OpenAI's cache.", {}, replace=warn_unless("prompt_cache_options", ({},), _NO_TEXT_CACHE)),
    ] = None
    image: Annotated[
        dict[str, Any] | None,
        Parameter(
            WARNED,
            "How a text model compresses input images.",
            {"context_compression": "auto"},
            replace=warn_unless("image", ({}, {"context_compression": "auto"}), _NO_TEXT_MODEL),
        ),
    ] = None
    access_programs: Annotated[
        None,
        Parameter(
            REFUSED,
            "OpenAI's programs for text models.",
            {"cyber": "standard"},
            refusal="no text model runs. Omit it",
        ),
    ] = None
    conversation: Annotated[
        None,
        Parameter(
            REFUSED,
            "A stored conversation.",
            "conv_1",
            refusal="this gateway stores no conversations. Send previous_response_id, or the items as input",
        ),
    ] = None
    prompt: Annotated[
        None,
        Parameter(
            REFUSED,
            "A stored prompt template.",
            {"id": "pmpt_1"},
            refusal="this gateway stores no prompt templates. Send the text as input",
        ),
    ] = None
    moderation: Annotated[
        None,
        Parameter(
            REFUSED,
            "Moderation of text.",
            {"model": "omni-moderation-latest"},
            refusal="the sellers moderate images themselves. Omit it",
        ),
    ] = None
    context_management: Annotated[
        None,
        Parameter(
            REFUSED,
            "Compaction of a conversation.",
            [{"type": "compaction"}],
            refusal="no text model runs, so nothing is compacted. Omit it",
        ),
    ] = None
