"""OpenAI's SDK for Python, of any major version."""

import openai
from line_protocol import answer_calls, decode_files, make_response_body, select_fields, select_headers, wait_for_batch

IMAGE_FIELDS = ("data", "size", "quality", "output_format", "usage", "warnings")


def make_client(call):
    options = select_fields(call, "max_retries", "timeout")
    return openai.OpenAI(base_url=call["url"] + "/v1", api_key=call["key"], **options)


def generate(call):
    images = make_client(call).images.with_raw_response
    return serialize_images(images.generate(**call["params"], extra_body=call.get("extra")))


def edit(call):
    images = make_client(call).images.with_raw_response
    return serialize_images(images.edit(**make_edit_arguments(call), extra_body=call.get("extra")))


def serialize_images(raw):
    result = select_fields(raw.parse().model_dump(exclude_none=True), *IMAGE_FIELDS)
    return {**result, "headers": select_headers(raw.headers)}


def make_edit_arguments(call):
    images, mask = decode_files(call)
    return {**call["params"], "image": images[0] if len(images) == 1 else images, **({"mask": mask} if mask else {})}


def stream(call):
    return serialize_events(make_client(call).images.generate(**call["params"], stream=True))


def stream_edit(call):
    return serialize_events(make_client(call).images.edit(**make_edit_arguments(call), stream=True))


def serialize_events(events):
    return {"events": [event.model_dump(exclude_none=True) for event in events]}


def list_models(call):
    return {"models": [model.id for model in make_client(call).models.list()]}


def get_model(call):
    raw = make_client(call).models.with_raw_response.retrieve(call["model"])
    return {"model": raw.parse().model_dump(), "headers": select_headers(raw.headers)}


def respond(call):
    return serialize_response(make_client(call).responses.create(**make_response_body(call)))


def stream_response(call):
    with make_client(call).responses.stream(**make_response_body(call)) as stream:
        return {"event_count": len(list(stream)), **serialize_response(stream.get_final_response())}


def serialize_response(response):
    images = [{"b64_json": item.result} for item in response.output if item.type == "image_generation_call"]
    return {"id": response.id, "data": images}


def run_batch(call):
    client = make_client(call)
    file = client.files.create(file=("requests.jsonl", call["lines"].encode()), purpose="batch")
    created = client.batches.create(input_file_id=file.id, endpoint=call["endpoint"], completion_window="24h")
    return wait_for_batch(
        lambda: client.batches.retrieve(created.id).model_dump(), lambda file_id: client.files.content(file_id).text
    )


def describe_error(error):
    if not isinstance(error, openai.APIError):
        return {}
    return {
        "status": getattr(error, "status_code", None),
        "code": error.code,
        "param": error.param,
        "message": error.message,
        "request_id": getattr(error, "request_id", None),
    }


if __name__ == "__main__":
    operations = (generate, edit, stream, stream_edit, list_models, get_model, respond, stream_response, run_batch)
    answer_calls(operations, describe_error)
