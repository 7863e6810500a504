"""The protocol of the clients' programs: a call per line of input as JSON, its result or error per line of output."""

import base64
import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path


def answer_calls(operations, describe_error):
    """Runs the function that each call names. `describe_error` returns the fields of an error of the client."""
    operations_by_name = {operation.__name__: operation for operation in (*operations, run_snippet)}
    for line in sys.stdin:
        call = json.loads(line)
        try:
            result = operations_by_name[call["operation"]](call)
        except Exception as error:  # noqa: BLE001  every error is the client's answer
            result = {"error": {"kind": type(error).__name__, "message": str(error), **describe_error(error)}}
        print(json.dumps(result, default=str), flush=True)


def run_snippet(call):
    """Runs a file in its folder: a shell script, or Python within this process, which has imported the client."""
    path = Path(call["path"])
    if path.suffix == ".sh":
        subprocess.run(["/bin/bash", path], cwd=path.parent, check=True)
    else:
        os.chdir(path.parent)
        runpy.run_path(str(path))
    return {}


def decode_files(call):
    """Returns the input images of a call, and its mask or None, as bytes."""
    mask = call.get("mask")
    return [base64.b64decode(image) for image in call["images"]], base64.b64decode(mask) if mask else None


def select_fields(source, *names):
    """Returns the fields that a response has."""
    return {name: source[name] for name in names if source.get(name) is not None}


def select_headers(headers):
    """Returns the gateway's own response headers."""
    return {name.lower(): value for name, value in headers.items() if name.lower().startswith("x-igw-")}


def wait_for_batch(retrieve_batch, download_file):
    """Retrieves a batch until it has ended, and returns its status and the lines of its output."""
    while (batch := retrieve_batch())["status"] in ("validating", "in_progress", "finalizing"):
        time.sleep(0.1)
    output = download_file(batch["output_file_id"])
    return {"status": batch["status"], "results": [json.loads(line) for line in output.splitlines()]}


def make_image_tool(call):
    """Returns the tool of a Responses request, with the parameters of the image."""
    return {"type": "image_generation", **{name: value for name, value in call["params"].items() if name != "prompt"}}


def make_response_body(call, model="gpt-5"):
    """Returns the parameters of a Responses request."""
    params = {"model": model, "input": _make_response_input(call), "tools": [make_image_tool(call)]}
    return {**params, **select_fields(call, "previous_response_id")}


def _make_response_input(call):
    """Returns the prompt, with the input images if the call has any."""
    prompt = call["params"]["prompt"]
    if not call.get("images"):
        return prompt
    images = [
        {"type": "input_image", "image_url": f"data:image/png;base64,{image}", "detail": "auto"}
        for image in call["images"]
    ]
    return [{"role": "user", "content": [{"type": "input_text", "text": prompt}, *images]}]
