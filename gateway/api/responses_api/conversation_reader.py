"""Reads the `input` of a response: the text that becomes the prompt, and the images that it edits.

The prompt is the text of the last user messages. Images of earlier messages are edited, too, unless a later image
generation call replaces them: in a chat that edits an image step by step, only the last image is edited.
"""

from collections.abc import Sequence
from itertools import chain, takewhile
from typing import Annotated, Any, Literal

from msgspec import Struct

from gateway.api.api_errors import ApiError
from gateway.api.earlier_images import EarlierImages
from gateway.api.parameter_definition import make_refused_file_row
from gateway.api.parameter_table import MAX_PROMPT_LENGTH
from gateway.api.request_body_reader import to_struct
from gateway.api.responses_api.response_ids import parse_call_id, parse_response_id
from gateway.store.partitions import is_job_id

# A value of the parameter `images`.
ImageValue = str | dict[str, str]
EntryKind = Literal["user", "instructions", "call", "other"]


class Conversation(Struct, frozen=True):
    """The prompt and the images to edit."""

    prompt: str
    images: tuple[ImageValue, ...] = ()
    warnings: tuple[str, ...] = ()


class _Entry(Struct, frozen=True):
    """An item of the input."""

    kind: EntryKind
    text: str = ""
    images: tuple[ImageValue, ...] = ()
    warnings: tuple[str, ...] = ()


class _Message(Struct, frozen=True, forbid_unknown_fields=True):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | tuple[dict[str, Any], ...]
    type: Literal["message"] = "message"
    id: str | None = None
    status: str | None = None
    phase: str | None = None


class _TextPart(Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    text: str
    annotations: Any = None
    logprobs: Any = None


class _ImagePart(Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    image_url: str | None = None
    detail: Literal["auto", "low", "high", "original"] | None = None
    file_id: Annotated[
        None, make_refused_file_row("a file cannot be an input image. Send image_url: an https URL or a data URI")
    ] = None


class _ImageCall(Struct, frozen=True):
    """An image generation call. Its other fields are ignored: clients send calls back as they received them."""

    id: str | None = None
    result: str | None = None


_ENTRY_KINDS: dict[str, EntryKind] = {"user": "user", "system": "instructions", "developer": "instructions"}
_EARLIER_INPUT_IGNORED = (
    "earlier_input_ignored: the prompt is the text of the last user message, and an image that a later "
    "image_generation_call replaces is not edited"
)
_INSTRUCTIONS_IGNORED = (
    "instructions_ignored: system and developer messages have no effect: no text model runs, and the prompt is the "
    "user's text alone"
)
_DETAIL_IGNORED = "detail_ignored: it has no effect: the image model decides how it reads input images"


def read_conversation(input_items: str | Sequence[dict[str, Any]], previous_response_id: str | None) -> Conversation:
    """Reads the input. If an item cannot be used for images, raises an ApiError that names it."""
    previous = _refer_to_previous_images(previous_response_id)
    if isinstance(input_items, str):
        return Conversation(_require_prompt([input_items]), previous)
    entries = [_read_item(item, f"input[{position}]") for position, item in enumerate(input_items)]
    warnings = tuple(chain.from_iterable(entry.warnings for entry in entries))
    dialogue = [entry for entry in entries if entry.kind != "instructions"]
    if len(dialogue) < len(entries):
        warnings += (_INSTRUCTIONS_IGNORED,)
    end = max((position for position, entry in enumerate(dialogue, 1) if entry.kind == "user"), default=0)
    turn = list(takewhile(lambda entry: entry.kind == "user", reversed(dialogue[:end])))[::-1]
    history, later = dialogue[: end - len(turn)], dialogue[end:]
    current = tuple(chain.from_iterable(entry.images for entry in (*turn, *later)))
    images = (*_collect_latest_images(previous, history), *current)
    if any(entry.text for entry in (*history, *later)) or len(images) < _count_images(previous, entries):
        warnings += (_EARLIER_INPUT_IGNORED,)
    return Conversation(_require_prompt([entry.text for entry in turn]), images, warnings)


def _count_images(previous: tuple[ImageValue, ...], entries: Sequence[_Entry]) -> int:
    return len(previous) + sum(len(entry.images) for entry in entries)


def _collect_latest_images(previous: tuple[ImageValue, ...], history: Sequence[_Entry]) -> tuple[ImageValue, ...]:
    """Returns the images of the earlier entries that no later call replaces."""
    images, last_kind = previous, "other"
    for entry in history:
        if entry.kind == "call" and last_kind != "call":
            images = ()
        images, last_kind = (*images, *entry.images), entry.kind
    return images


def _require_prompt(texts: Sequence[str]) -> str:
    prompt = "\n".join(filter(None, texts))
    if not prompt.strip():
        message = (
            "The input has no text of a user: send the prompt as input, or as input_text of the last user message."
        )
        raise ApiError(400, "missing_required_parameter", message, param="input")
    if len(prompt) > MAX_PROMPT_LENGTH:
        message = f"Invalid value for 'input': the prompt must have at most {MAX_PROMPT_LENGTH:,} characters."
        raise ApiError(400, "invalid_value", message, param="input")
    return prompt


def _refer_to_previous_images(previous_response_id: str | None) -> tuple[ImageValue, ...]:
    if previous_response_id is None:
        return ()
    job_id = previous_response_id if is_job_id(previous_response_id) else parse_response_id(previous_response_id)
    return (EarlierImages.from_job_id(previous_response_id, job_id, None, "previous_response_id"),)


def _read_item(item: dict[str, Any], param: str) -> _Entry:
    match item.get("type") or "message":
        case "message":
            return _read_message(to_struct(item, _Message, param), param)
        case "image_generation_call" | "item_reference":
            return _Entry("call", images=(_read_call(to_struct(item, _ImageCall, param), param),))
        case "reasoning":
            return _Entry("other", text="reasoning")
        case other:
            raise _unsupported_type_error(param, other, "Send messages and image_generation_call items")


def _read_message(message: _Message, param: str) -> _Entry:
    kind = _ENTRY_KINDS.get(message.role, "other")
    if isinstance(message.content, str):
        return _Entry(kind, message.content)
    parts = [_read_part(part, f"{param}.content[{position}]") for position, part in enumerate(message.content)]
    return _Entry(
        kind,
        "\n".join(part.text for part in parts if part.text),
        tuple(chain.from_iterable(part.images for part in parts)),
        tuple(chain.from_iterable(part.warnings for part in parts)),
    )


def _read_part(part: dict[str, Any], param: str) -> _Entry:
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            return _Entry("other", to_struct(part, _TextPart, param).text)
        case "input_image":
            return _read_image_part(to_struct(part, _ImagePart, param), param)
        case "refusal":
            return _Entry("other", text="refusal")
        case other:
            raise _unsupported_type_error(param, other, "Send input_text and input_image")


def _read_image_part(part: _ImagePart, param: str) -> _Entry:
    if part.image_url is None:
        message = f"Missing required parameter: '{param}.image_url'. Send an https URL or a data URI."
        raise ApiError(400, "missing_required_parameter", message, param=f"{param}.image_url")
    warnings = (_DETAIL_IGNORED,) if part.detail not in (None, "auto") else ()
    return _Entry("other", images=(part.image_url,), warnings=warnings)


def _read_call(call: _ImageCall, param: str) -> ImageValue:
    """Returns the image that the item contains, or else the image of the call with this id."""
    if call.result:
        return {"b64_json": call.result}
    call_id = parse_call_id(call.id or "")
    if call_id is None:
        message = f"'{param}' has no image: send an image_generation_call of this gateway, or one with its result."
        raise ApiError(400, "image_not_found", message, param=param)
    return EarlierImages.from_job_id(call.id or "", call_id.job_id, call_id.index, param)


def _unsupported_type_error(param: str, value: Any, advice: str) -> ApiError:
    message = (
        f"'{param}' is not supported: this gateway makes images only, and does not read {str(value)[:60]!r}. {advice}."
    )
    return ApiError(400, "unsupported_parameter", message, param=f"{param}.type")
