"""Makes the JSON Schema of the image tool: its parameters are those of images."""

from typing import Any

from gateway.api.parameter_schema import COMPONENTS_PREFIX, Schema
from gateway.api.parameter_table import EditRequest
from gateway.api.responses_api.image_tool_reader import TOOL_PARAMETERS
from gateway.api.responses_api.response_parameter_table import IMAGE_TOOL, CreateResponseRequest

_NAME = "ImageGenerationTool"


def add_tool_schema(schemas: Schema) -> Schema:
    """Adds the schema of the tool to those of the bodies. That of a request for a response refers to it."""
    edit_properties = schemas[EditRequest.__name__]["properties"]
    properties: dict[str, Any] = {
        "type": {"type": "string", "const": IMAGE_TOOL, "description": "The only tool."},
        "action": {
            "enum": ["auto", "generate", "edit", None],
            "description": "`auto` edits if the input has an image, and generates otherwise.",
        },
        "input_image_mask": edit_properties["mask"],
        **{name: edit_properties[name] for name in TOOL_PARAMETERS},
    }
    tool = {"type": "object", "properties": properties, "required": ["type"], "additionalProperties": False}
    request = schemas[CreateResponseRequest.__name__]
    tools = {**request["properties"]["tools"], "type": "array", "items": {"$ref": COMPONENTS_PREFIX + _NAME}}
    tools.pop("anyOf", None)
    request = {**request, "properties": {**request["properties"], "tools": tools}}
    return {**schemas, CreateResponseRequest.__name__: request, _NAME: tool}
