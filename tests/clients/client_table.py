"""The clients that the contract tests run against the gateway, and what each of them can do.

`docs/clients.md` is generated from this table and from the tests that `proves` marks.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

MODEL = "gpt-image-2"


class Capability(StrEnum):
    """A use of the gateway, as the text of its row in `docs/clients.md`."""

    SNIPPET = "The snippet below"
    GENERATE = "Generate images, as base64"
    URLS = "Images as URLs"
    SIZE_AND_QUALITY = "Several images, size and quality"
    PARAMETERS = "OpenAI's other parameters: format, compression, background, moderation, user"
    OWN_PARAMETERS = "The gateway's own parameters: `provider`, `max_price`, …"
    HEADERS = "Job, seller and cost in the headers of a response (`x-igw-*`)"
    STREAM = "Stream a generation"
    EDIT = "Edit one image"
    EDIT_MANY = "Edit several images with a mask"
    STREAM_EDIT = "Stream an edit"
    MODELS = "List the models"
    MODEL = "Read a model, also by an alias"
    ALIASES = "Names of retired models (`gpt-image-1`)"
    ERRORS = "Errors with status and message; final ones are not retried"
    ONE_PURCHASE = "A generation whose response was lost is retried, and bought once"
    ONE_EDIT = "An edit whose response was lost is retried, and bought once"
    STREAM_ERRORS = "Errors within a stream"
    RESPOND = "Responses API: the tool `image_generation`"
    RESPOND_EDIT = "Responses API: edit an image, and the image of an earlier response"
    RESPOND_STREAM = "Responses API: stream"
    BATCH = "Files and batches"


class ClientEntry(NamedTuple):
    """A client: its program, which answers calls line by line, and why it lacks capabilities.

    `runtime`: "python" (the Python of the tests), "clients" (the Python of `.venv-clients`) or "node". `package`: its
    name in the lock file of the runtime; None if the client is installed on the machine. `snippet`: a file of
    `snippets/`. `model`: the name that the client must send. `starts_slowly`: only `make test-all` runs its tests.
    """

    id: str
    name: str
    short_name: str
    runtime: str
    program: tuple[str, ...]
    package: str | None
    snippet: str
    missing: Mapping[Capability, str] = {}
    model: str = MODEL
    starts_slowly: bool = False


_NO_STREAMS = "It has no streams of images."
_NO_MODELS = "It has no list of models."
_ONLY_IMAGES = {
    Capability.STREAM: _NO_STREAMS,
    Capability.STREAM_EDIT: _NO_STREAMS,
    Capability.STREAM_ERRORS: _NO_STREAMS,
    Capability.MODEL: "It lists models, but does not read a single one.",
}
_NO_BATCHES = "It has no batches."
_NO_RESPONSES = "It has no Responses API."
_ONLY_RESPONSES = (
    Capability.SNIPPET,
    Capability.RESPOND,
    Capability.RESPOND_EDIT,
    Capability.RESPOND_STREAM,
    Capability.ERRORS,
    Capability.ONE_PURCHASE,
)
_OF_DALLE_WRAPPER = (
    Capability.SNIPPET,
    Capability.URLS,
    Capability.SIZE_AND_QUALITY,
    Capability.ALIASES,
    Capability.ERRORS,
    Capability.ONE_PURCHASE,
)

CLIENTS = (
    ClientEntry(
        id="openai-python-3",
        name="OpenAI SDK for Python, 3.x",
        short_name="Python 3.x",
        runtime="python",
        program=("openai_python_client.py",),
        package="openai",
        snippet="generate_with_openai.py",
    ),
    ClientEntry(
        id="openai-python-2",
        name="OpenAI SDK for Python, 2.x",
        short_name="Python 2.x",
        runtime="clients",
        program=("openai_python_client.py",),
        package="openai",
        snippet="generate_with_openai.py",
    ),
    ClientEntry(
        id="openai-node-7",
        name="OpenAI SDK for Node, 7.x",
        short_name="Node 7.x",
        runtime="node",
        program=("openai_node.mjs", "openai"),
        package="openai",
        snippet="generate_with_openai.mjs",
    ),
    ClientEntry(
        id="openai-node-6",
        name="OpenAI SDK for Node, 6.x",
        short_name="Node 6.x",
        runtime="node",
        program=("openai_node.mjs", "openai-6"),
        package="openai-6",
        snippet="generate_with_openai.mjs",
    ),
    ClientEntry(
        id="ai-sdk-openai",
        name="Vercel AI SDK, `@ai-sdk/openai`",
        short_name="AI SDK, openai",
        runtime="node",
        program=("ai_sdk.mjs", "openai"),
        package="@ai-sdk/openai",
        snippet="generate_with_ai_sdk.mjs",
        missing={
            **_ONLY_IMAGES,
            Capability.MODELS: _NO_MODELS,
            Capability.MODEL: _NO_MODELS,
            Capability.BATCH: _NO_BATCHES,
            Capability.URLS: "It reads base64 only.",
            Capability.OWN_PARAMETERS: "It drops parameters that OpenAI does not have. Use the provider "
            "`openai-compatible`, or give its API key a policy.",
        },
    ),
    ClientEntry(
        id="ai-sdk-compatible",
        name="Vercel AI SDK, `@ai-sdk/openai-compatible`",
        short_name="AI SDK, compatible",
        runtime="node",
        program=("ai_sdk.mjs", "openai-compatible"),
        package="@ai-sdk/openai-compatible",
        snippet="generate_with_compatible_ai_sdk.mjs",
        missing={
            **_ONLY_IMAGES,
            Capability.MODELS: _NO_MODELS,
            Capability.MODEL: _NO_MODELS,
            Capability.BATCH: _NO_BATCHES,
            Capability.RESPOND: _NO_RESPONSES,
            Capability.RESPOND_EDIT: _NO_RESPONSES,
            Capability.RESPOND_STREAM: _NO_RESPONSES,
        },
    ),
    ClientEntry(
        id="litellm",
        name="LiteLLM",
        short_name="LiteLLM",
        runtime="clients",
        program=("litellm_client.py",),
        package="litellm",
        snippet="generate_with_litellm.py",
        starts_slowly=True,
        missing={**_ONLY_IMAGES, Capability.ONE_EDIT: "It does not retry edits by itself."},
    ),
    ClientEntry(
        id="langchain-chat",
        name="LangChain `ChatOpenAI`",
        short_name="LangChain chat",
        runtime="clients",
        program=("langchain_chat_client.py",),
        package="langchain-openai",
        snippet="generate_with_langchain_chat.py",
        missing={
            capability: "It uses the Responses API only."
            for capability in Capability
            if capability not in _ONLY_RESPONSES
        },
    ),
    ClientEntry(
        id="langchain-dalle",
        name="LangChain `DallEAPIWrapper`",
        short_name="LangChain DALL-E",
        runtime="clients",
        program=("langchain_dalle_client.py",),
        package="langchain-community",
        snippet="generate_with_langchain_dalle.py",
        missing={
            capability: "It sends only prompt, n, size and quality, and returns only URLs."
            for capability in Capability
            if capability not in _OF_DALLE_WRAPPER
        },
        model="dall-e-3",
    ),
    ClientEntry(
        id="curl",
        name="curl",
        short_name="curl",
        runtime="python",
        program=("curl_client.py",),
        package=None,
        snippet="generate_with_curl.sh",
    ),
)
