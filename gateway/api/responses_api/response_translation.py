"""Translates a request for a response to the parameters of images."""

from typing import Any, ClassVar

from gateway.api.api_errors import ApiError
from gateway.api.parameter_definition import TranslatedFields, get_parameters
from gateway.api.parameter_normalization import normalize_fields
from gateway.api.parameter_table import InputImageParams, InputImageValue
from gateway.api.request_body_reader import to_struct
from gateway.api.responses_api.conversation_reader import Conversation, read_conversation
from gateway.api.responses_api.image_tool_reader import ImageTool, echo_tools, read_image_tool
from gateway.api.responses_api.response_parameter_table import CreateResponseRequest
from gateway.api.shared_job_parameters import JobOptions
from gateway.catalogue import Catalogue
from providers.orders import Operation

_INPUT_IMAGES_IGNORED = "input_images_ignored: the tool's action is generate: the input images have no effect"


class ResponseParams(InputImageParams, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request for a response, as parameters of images."""

    accepts_forms: ClassVar[bool] = False

    operation: Operation
    is_background: bool

    @property
    def named_inputs(self) -> tuple[tuple[str, InputImageValue | tuple[InputImageValue, ...]], ...]:
        return (("input", self.images),)

    @classmethod
    def translate_fields(cls, fields: dict[str, Any], catalogue: Catalogue) -> TranslatedFields:
        values, warnings = normalize_fields(fields, get_parameters(CreateResponseRequest), catalogue)
        request = to_struct(values, CreateResponseRequest)
        _refuse_json_text(request)
        tool = read_image_tool(request)
        conversation = read_conversation(request.input, request.previous_response_id)
        operation = _choose_operation(tool, conversation)
        if operation is Operation.GENERATE and conversation.images:
            warnings.append(_INPUT_IMAGES_IGNORED)
        model, model_warnings = _choose_model(request, tool, catalogue)
        image_fields = {
            **{name: values[name] for name in JobOptions.__struct_fields__ if name in values},
            **tool.fields,
            "prompt": conversation.prompt,
            "images": conversation.images if operation is Operation.EDIT else (),
            "mask": tool.input_image_mask,
            "model": model,
            "operation": operation,
            "is_background": request.background,
        }
        all_warnings = (*model_warnings, *warnings, *conversation.warnings)
        return TranslatedFields(image_fields, all_warnings, _collect_echoed_params(request, tool))


def _refuse_json_text(request: CreateResponseRequest) -> None:
    text_format = (request.text or {}).get("format")
    if isinstance(text_format, dict) and text_format.get("type") != "text":
        message = "'text.format' is not supported: this gateway makes images, and writes no text. Omit it."
        raise ApiError(400, "unsupported_parameter", message, param="text.format")


def _choose_operation(tool: ImageTool, conversation: Conversation) -> Operation:
    """Returns `edit` if there are images, unless the tool names an action."""
    if tool.action == "edit" and not conversation.images:
        message = (
            "The tool's action is 'edit', but the input has no image. Send an input_image or previous_response_id."
        )
        raise ApiError(400, "missing_required_parameter", message, param="input")
    is_edit = bool(conversation.images) and tool.action != "generate"
    if tool.input_image_mask is not None and not is_edit:
        message = (
            "A mask needs an image to edit. Send an input_image or previous_response_id, without action 'generate'."
        )
        raise ApiError(400, "missing_required_parameter", message, param="input")
    return Operation.EDIT if is_edit else Operation.GENERATE


def _choose_model(request: CreateResponseRequest, tool: ImageTool, catalogue: Catalogue) -> tuple[Any, tuple[str, ...]]:
    """Returns the model of the images, with a warning if the model of the request is another one."""
    model = tool.fields.get("model")
    if request.model is None:
        return model, ()
    if catalogue.find_model(request.model) is None:
        reason = "no text model runs, and the prompt reaches the image model as it is written"
    elif model is None:
        return request.model, ()
    elif model == request.model:
        return model, ()
    else:
        reason = "the tool's model makes the image"
    return model, (f"model_ignored: '{request.model}' has no effect: {reason}",)


def _collect_echoed_params(request: CreateResponseRequest, tool: ImageTool) -> dict[str, Any]:
    params = {
        "model": request.model,
        "tools": echo_tools(tool),
        "tool_choice": request.tool_choice,
        "previous_response_id": request.previous_response_id,
        "background": request.background,
    }
    return {name: value for name, value in params.items() if value is not None}
