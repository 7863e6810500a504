"""Fixtures for the clients that other people wrote."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from runapi.gpt_image_2 import GptImage2Client

from tests.clients.openai_sdk import make_openai_client
from tests.clients.runapi_sdk import make_runapi_client
from tests.harness.node_sdk import node_program  # noqa: F401  a fixture
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.shared_gateway import gateway, gateway_process  # noqa: F401  fixtures


@pytest.fixture
def openai_client(sandbox: RunningSandbox) -> Iterator[openai.OpenAI]:
    """OpenAI's SDK without retries, pointed at the sandbox."""
    with make_openai_client(sandbox) as client:
        yield client


@pytest.fixture
def runapi_url(sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> str:
    """The SDK's own HTTP client would go through a proxy that the environment names."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return f"{sandbox.url}/runapi"


@pytest.fixture
def runapi_client(runapi_url: str) -> Iterator[GptImage2Client]:
    """RunAPI's SDK, pointed at the sandbox."""
    client = make_runapi_client(runapi_url)
    yield client
    client._http.close()


@pytest.fixture
def photo(sandbox: RunningSandbox, tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(sandbox.fetch_sample_image(300, 200))
    return path
