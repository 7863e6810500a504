"""LiteLLM as a client, not as a proxy."""

import litellm
from line_protocol import answer_calls, decode_files, select_fields, select_headers

litellm.suppress_debug_info = True
PASSED_ON = ("response_format",)
IMAGE_FIELDS = ("data", "size", "quality", "output_format", "usage")


def make_arguments(call):
    params = {**call["params"], "model": f"openai/{call['params']['model']}"}
    # It refuses these for models of OpenAI, unless they are in `extra_body`.
    extra = {**(call.get("extra") or {}), **{name: params.pop(name) for name in PASSED_ON if name in params}}
    return {
        **params,
        **({"extra_body": extra} if extra else {}),
        **select_fields(call, "max_retries", "timeout"),
        "api_base": call["url"] + "/v1",
        "api_key": call["key"],
    }


def generate(call):
    return serialize_images(litellm.image_generation(**make_arguments(call)))


def edit(call):
    images, mask = decode_files(call)
    arguments = {"image": images[0] if len(images) == 1 else images, **({"mask": mask} if mask else {})}
    return serialize_images(litellm.image_edit(**make_arguments(call), **arguments))


def serialize_images(response):
    headers = {
        name.removeprefix("llm_provider-"): value
        for name, value in (response._hidden_params.get("additional_headers") or {}).items()
    }
    return {**select_fields(response.model_dump(exclude_none=True), *IMAGE_FIELDS), "headers": select_headers(headers)}


def describe_error(error):
    return {"status": getattr(error, "status_code", None)}


if __name__ == "__main__":
    answer_calls({"generate": generate, "edit": edit}, describe_error)
