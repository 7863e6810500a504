"""curl, with the commands of OpenAI's documentation."""

import json
import subprocess
import tempfile
from pathlib import Path

from line_protocol import answer_calls, decode_files, make_response_body, select_fields, select_headers, wait_for_batch


class CurlError(Exception):
    """The response had an error status, or an error event."""

    def __init__(self, status, error):
        super().__init__(error["message"])
        self.fields = {"status": status, **error}


def run_curl(call, path, *options):
    """Returns headers and body of the response."""
    retries = ["--retry", str(call.get("max_retries", 2)), "--retry-all-errors", "--fail-with-body"]
    with tempfile.NamedTemporaryFile() as headers_file:
        command = ["curl", "-sS", call["url"] + path, "-H", f"Authorization: Bearer {call['key']}", *options]
        completed = subprocess.run(
            [*command, "-D", headers_file.name, *(retries if call.get("is_retried") else ())],
            capture_output=True,
            text=True,
            check=False,
        )
        head = Path(headers_file.name).read_text().strip().split("\r\n\r\n")[-1].splitlines()
    if not head:
        raise RuntimeError(completed.stderr)
    status, headers = int(head[0].split()[1]), dict(line.split(": ", 1) for line in head[1:])
    if status >= 400:
        raise CurlError(status, json.loads(completed.stdout)["error"])
    return headers, completed.stdout


def make_json_options(body):
    return "-X", "POST", "-H", "Content-Type: application/json", "-d", json.dumps(body)


def post_form(call, folder, **fields):
    """Posts an edit, with a file for each input image."""
    images, mask = decode_files(call)
    name = "image" if len(images) == 1 else "image[]"
    files = [(name, image) for image in images] + ([("mask", mask)] if mask else [])
    options = ["-X", "POST"]
    for index, (part, data) in enumerate(files):
        path = Path(folder, f"{index}.png")
        path.write_bytes(data)
        options += ["-F", f"{part}=@{path}"]
    for field, value in (call["params"] | (call.get("extra") or {}) | fields).items():
        values = value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else value]
        options += [option for text in values for option in ("-F", f"{field}={text}")]
    return run_curl(call, "/v1/images/edits", *options)


def generate(call):
    body = call["params"] | (call.get("extra") or {})
    return serialize_images(run_curl(call, "/v1/images/generations", *make_json_options(body)))


def edit(call):
    with tempfile.TemporaryDirectory() as folder:
        return serialize_images(post_form(call, folder))


def serialize_images(response):
    headers, body = response
    fields = select_fields(json.loads(body), "data", "size", "quality", "output_format", "usage", "warnings")
    return {**fields, "headers": select_headers(headers)}


def stream(call):
    body = call["params"] | {"stream": True}
    return read_events(run_curl(call, "/v1/images/generations", "-N", *make_json_options(body)))


def stream_edit(call):
    with tempfile.TemporaryDirectory() as folder:
        return read_events(post_form(call, folder, stream="true"))


def read_events(response):
    events = [json.loads(line.removeprefix("data: ")) for line in response[1].splitlines() if line.startswith("data: ")]
    if errors := [event["error"] for event in events if "error" in event]:
        raise CurlError(None, errors[0])
    return {"events": events}


def list_models(call):
    return {"models": [model["id"] for model in json.loads(run_curl(call, "/v1/models")[1])["data"]]}


def get_model(call):
    headers, body = run_curl(call, f"/v1/models/{call['model']}")
    return {"model": json.loads(body), "headers": select_headers(headers)}


def respond(call):
    return serialize_response(json.loads(run_curl(call, "/v1/responses", *make_response_options(call))[1]))


def stream_response(call):
    events = read_events(run_curl(call, "/v1/responses", "-N", *make_response_options(call, stream=True)))["events"]
    return {"event_count": len(events), **serialize_response(events[-1]["response"])}


def make_response_options(call, **fields):
    return make_json_options(make_response_body(call) | fields)


def serialize_response(response):
    images = [{"b64_json": item["result"]} for item in response["output"] if item["type"] == "image_generation_call"]
    return {"id": response["id"], "data": images}


def run_batch(call):
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as lines_file:
        Path(lines_file.name).write_text(call["lines"])
        file = json.loads(run_curl(call, "/v1/files", "-F", "purpose=batch", "-F", f"file=@{lines_file.name}")[1])
    body = {"input_file_id": file["id"], "endpoint": call["endpoint"], "completion_window": "24h"}
    created = json.loads(run_curl(call, "/v1/batches", *make_json_options(body))[1])
    return wait_for_batch(
        lambda: json.loads(run_curl(call, f"/v1/batches/{created['id']}")[1]),
        lambda file_id: run_curl(call, f"/v1/files/{file_id}/content")[1],
    )


def describe_error(error):
    return error.fields if isinstance(error, CurlError) else {}


if __name__ == "__main__":
    operations = (generate, edit, stream, stream_edit, list_models, get_model, respond, stream_response, run_batch)
    answer_calls(operations, describe_error)
