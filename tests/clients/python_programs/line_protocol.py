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
    """Runs a function of `operations` for each call. `describe_error` returns the fields of an error of the client."""
    operations = {**operations, "run_snippet": run_snippet}
    for line in sys.stdin:
        call = json.loads(line)
        try:
            result = operations[call["operation"]](call)
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


def wait_for_batch(retrieve_batch):
    """Retrieves a batch until it has ended, and returns it."""
    while (batch := retrieve_batch())["status"] in ("validating", "in_progress", "finalizing"):
        time.sleep(0.1)
    return batch


def parse_lines(text):
    return [json.loads(line) for line in text.splitlines()]


def make_image_tool(call):
    """Returns the tool of a Responses request, with the parameters of the image."""
    return {"type": "image_generation", **{name: value for name, value in call["params"].items() if name != "prompt"}}


def make_response_input(call):
    """Returns the input of a Responses request: the prompt, with the input images if the call has any."""
    prompt = call["params"]["prompt"]
    if not call.get("images"):
        return prompt
    images = [
        {"type": "input_image", "image_url": f"data:image/png;base64,{image}", "detail": "auto"}
        for image in call["images"]
    ]
    return [{"role": "user", "content": [{"type": "input_text", "text": prompt}, *images]}]
