"""Fixtures for the clients that other people wrote."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from runapi.gpt_image_2 import GptImage2Client

from tests.api.conftest import gateway, gateway_process  # noqa: F401  fixtures
from tests.clients.openai_python import sdk
from tests.clients.runapi_python import connect
from tests.vendors import Vendors


@pytest.fixture
def client(sandbox: Vendors) -> Iterator[openai.OpenAI]:
    """OpenAI's SDK without retries, pointed at the sandbox."""
    with sdk(sandbox) as client:
        yield client


@pytest.fixture
def url(sandbox: Vendors, monkeypatch: pytest.MonkeyPatch) -> str:
    """The SDK's own HTTP client would go through a proxy that the environment names."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return f"{sandbox.url}/runapi"


@pytest.fixture
def buyer(url: str) -> Iterator[GptImage2Client]:
    """RunAPI's SDK, pointed at the sandbox."""
    client = connect(url)
    yield client
    client._http.close()


@pytest.fixture
def photo(sandbox: Vendors, tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(sandbox.sample(300, 200))
    return path
