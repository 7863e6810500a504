"""Reads the image tool of a request for a response, and refuses tools that make anything but images."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from gateway.api.api_errors import ApiError
from gateway.api.parameter_definition import get_parameters
from gateway.api.parameter_table import ImageParams
from gateway.api.request_body_reader import to_struct
from gateway.api.responses_api.response_parameter_table import IMAGE_TOOL, CreateResponseRequest
from gateway.api.shared_job_parameters import JobOptions
from gateway.api.validation_errors import make_unknown_param_error

_ADD_TOOL = f'Send tools: [{{"type": "{IMAGE_TOOL}"}}]'
# The parameters of images that belong to the tool: all but the prompt and those that the request itself has.
TOOL_PARAMETERS = tuple(
    name for name in get_parameters(ImageParams) if name not in ("prompt", *JobOptions.__struct_fields__)
)
# Parameters of the tool that have other names or meanings elsewhere.
_TOOL_OPTIONS = ("action", "input_image_mask")
_MAX_SHOWN_LENGTH = 60


class ImageTool(Struct, frozen=True, kw_only=True):
    """The tool of a request. `fields`: the parameters of its images, as the client sent them."""

    action: Literal["auto", "generate", "edit"] = "auto"
    input_image_mask: dict[str, Any] | None = None
    fields: dict[str, Any] = {}


def read_image_tool(request: CreateResponseRequest) -> ImageTool:
    """Returns the image tool. Raises ApiError unless it is the only tool, and `tool_choice` allows it."""
    for position, tool in enumerate(request.tools):
        _require_image_tool(tool, f"tools[{position}]")
    if len(request.tools) != 1:
        count = f"{len(request.tools)} tools" if request.tools else "no tool"
        message = f"The request has {count}, but needs one: this gateway makes images only. {_ADD_TOOL}."
        raise ApiError(400, "missing_required_parameter", message, param="tools")
    _require_possible_choice(request.tool_choice)
    values = {name: value for name, value in request.tools[0].items() if value is not None and name != "type"}
    own: dict[str, Any] = {name: values.pop(name) for name in _TOOL_OPTIONS if name in values}
    for name in values:
        if name not in TOOL_PARAMETERS:
            raise make_unknown_param_error("tools[0]", name[:_MAX_SHOWN_LENGTH], (*_TOOL_OPTIONS, *TOOL_PARAMETERS))
    return to_struct({**own, "fields": values}, ImageTool, "tools[0]")


def _require_image_tool(tool: Mapping[str, Any], param: str) -> None:
    if (tool_type := tool.get("type")) != IMAGE_TOOL:
        message = (
            f"'{param}' is not supported: this gateway makes images only, and does not run "
            f"{str(tool_type)[:_MAX_SHOWN_LENGTH]!r}. {_ADD_TOOL}."
        )
        raise ApiError(400, "unsupported_parameter", message, param=f"{param}.type")


def _require_possible_choice(choice: str | Mapping[str, Any]) -> None:
    if choice in ("auto", "required") or _names_image_tool(choice):
        return
    message = (
        "'tool_choice' is not supported: this gateway always makes an image. Omit it, or send auto, required or "
        f'{{"type": "{IMAGE_TOOL}"}}.'
    )
    raise ApiError(400, "unsupported_parameter", message, param="tool_choice")


def _names_image_tool(choice: Any) -> bool:
    match choice:
        case {"type": "allowed_tools", "tools": [*tools]}:
            return bool(tools) and all(_names_image_tool(tool) for tool in tools)
        case {"type": str(tool_type)}:
            return tool_type == IMAGE_TOOL
        case _:
            return False


def echo_tools(tool: ImageTool) -> Sequence[Mapping[str, Any]]:
    """Returns the tool as responses show it: without the mask, which may be large."""
    return [{"type": IMAGE_TOOL, "action": tool.action, **tool.fields}]
