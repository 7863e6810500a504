"""LangChain's `ChatOpenAI` with OpenAI's tool for images."""

import operator
from functools import reduce

import openai
from langchain_openai import ChatOpenAI
from line_protocol import answer_calls, make_image_tool, select_fields

# The conversations of earlier calls, by the id of their last response.
conversations = {}


def make_model(call):
    options = select_fields(call, "max_retries", "timeout")
    model = ChatOpenAI(
        model="gpt-5", base_url=call["url"] + "/v1", api_key=call["key"], use_responses_api=True, **options
    )
    return model.bind_tools([make_image_tool(call)])


def generate(call):
    return respond(call)


def respond(call):
    messages = make_messages(call)
    return keep_conversation(messages, make_model(call).invoke(messages))


def stream_response(call):
    messages = make_messages(call)
    chunks = list(make_model(call).stream(messages))
    return {"event_count": len(chunks), **keep_conversation(messages, reduce(operator.add, chunks))}


def make_messages(call):
    images = [{"type": "image", "base64": image, "mime_type": "image/png"} for image in call.get("images", ())]
    question = {"role": "user", "content": [{"type": "text", "text": call["params"]["prompt"]}, *images]}
    return [*conversations.get(call.get("previous_response_id"), ()), question]


def keep_conversation(messages, answer):
    response_id = answer.response_metadata["id"]
    conversations[response_id] = [*messages, answer]
    images = [{"b64_json": block["base64"]} for block in answer.content_blocks if block["type"] == "image"]
    return {"id": response_id, "data": images}


def describe_error(error):
    if not isinstance(error, openai.APIStatusError):
        return {}
    return {"status": error.status_code, "code": error.code, "message": error.message}


if __name__ == "__main__":
    answer_calls((generate, respond, stream_response), describe_error)
