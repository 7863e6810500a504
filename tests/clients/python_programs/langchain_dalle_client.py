"""LangChain's `DallEAPIWrapper`, which returns URLs as lines of text."""

import warnings

import openai
from line_protocol import answer_calls, select_fields

with warnings.catch_warnings():
    # The package says at its import that it is no longer maintained.
    warnings.simplefilter("ignore", DeprecationWarning)
    from langchain_community.utilities.dalle_image_generator import DallEAPIWrapper


def generate(call):
    params = dict(call["params"])
    prompt = params.pop("prompt")
    options = {**params, **select_fields(call, "max_retries", "timeout")}
    wrapper = DallEAPIWrapper(base_url=call["url"] + "/v1", api_key=call["key"], **options)
    return {"data": [{"url": url} for url in wrapper.run(prompt).splitlines()]}


def describe_error(error):
    if not isinstance(error, openai.APIStatusError):
        return {}
    return {"status": error.status_code, "code": error.code, "param": error.param, "message": error.message}


if __name__ == "__main__":
    answer_calls((generate,), describe_error)
