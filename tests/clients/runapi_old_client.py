"""Runs RunAPI's old SDK in its own environment; its contract table checks orders before they are sent.

Usage: runapi_old_client.py BASE_URL SOURCE_URL. Reads cases (action and fields) as JSON from standard input, writes
the outcome of each to standard output.
"""

import json
import sys

from runapi.core import errors
from runapi.core.version import __version__
from runapi.gpt_image_2 import GptImage2Client


def main(base_url, source_url):
    client = GptImage2Client("sk-sandbox", base_url=base_url, max_retries=0)
    cases = json.load(sys.stdin)
    try:
        outcomes = [run_case(client, case, source_url) for case in cases]
    finally:
        client._http.close()
    json.dump({"version": __version__, "outcomes": outcomes}, sys.stdout)


def run_case(openai_client, case, source_url):
    """Returns the outcome of a case. `method`: run; by default create, and then get, to see the task before and after.

    "SOURCE" in the fields stands for the URL of a readable image.
    """
    resource = getattr(openai_client, case["action"])
    fields = json.loads(json.dumps(case["fields"]).replace("SOURCE", source_url))
    try:
        if case.get("method") == "run":
            return {"task": resource.run(**fields).to_dict()}
        task = resource.create(**fields)
        return {"task": task.to_dict(), "later": resource.get(task.id).to_dict()}
    except errors.ValidationError as error:
        if error.status is None:
            return {"rejected": str(error)}
        return {"refused": error.status, "errors": error.details["errors"]}
    except errors.TaskFailedError as error:
        return {"failed": str(error), "details": error.details}


main(*sys.argv[1:])
