"""LiteLLM as a client, not as a proxy."""

import litellm
from line_protocol import answer_calls, decode_files, make_response_body, select_fields, select_headers, wait_for_batch

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


def list_models(call):
    options = {"custom_llm_provider": "openai", "api_base": call["url"] + "/v1", "api_key": call["key"]}
    return {"models": litellm.get_valid_models(check_provider_endpoint=True, **options)}


def respond(call):
    return serialize_response(litellm.responses(**make_response_arguments(call)))


def stream_response(call):
    events = list(litellm.responses(**make_response_arguments(call), stream=True))
    return {"event_count": len(events), **serialize_response(events[-1].response)}


def make_response_arguments(call):
    return {
        "api_base": call["url"] + "/v1",
        "api_key": call["key"],
        **make_response_body(call, "openai/gpt-5"),
    }


def serialize_response(response):
    items = [item if isinstance(item, dict) else item.model_dump() for item in response.output]
    images = [{"b64_json": item["result"]} for item in items if item["type"] == "image_generation_call"]
    return {"id": response.id, "data": images}


def run_batch(call):
    provider = {"custom_llm_provider": "openai", "api_base": call["url"] + "/v1", "api_key": call["key"]}
    file = litellm.create_file(file=("requests.jsonl", call["lines"].encode()), purpose="batch", **provider)
    created = litellm.create_batch(
        input_file_id=file.id, endpoint=call["endpoint"], completion_window="24h", **provider
    )
    return wait_for_batch(
        lambda: litellm.retrieve_batch(batch_id=created.id, **provider).model_dump(),
        lambda file_id: litellm.file_content(file_id=file_id, **provider).text,
    )


def describe_error(error):
    return {"status": getattr(error, "status_code", None)}


if __name__ == "__main__":
    operations = (generate, edit, list_models, respond, stream_response, run_batch)
    answer_calls(operations, describe_error)
