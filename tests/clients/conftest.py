"""Fixtures for third-party clients."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from runapi.gpt_image_2 import GptImage2Client

from gateway.timeouts_and_intervals import ApiTiming, Timing
from tests.clients.contract import client_programs, fast_gateway, fast_gateway_process, running_client  # noqa: F401  fixtures
from tests.clients.openai_sdk import make_openai_client
from tests.clients.runapi_sdk import make_runapi_client
from tests.harness.child_spec import ChildSpec
from tests.harness.gateway_runner import RunningGateway, run_sandboxed_gateway
from tests.harness.node_sdk import node_program  # noqa: F401  a fixture
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.shared_gateway import gateway, gateway_process  # noqa: F401  fixtures


@pytest.fixture
def openai_client(sandbox: RunningSandbox) -> Iterator[openai.OpenAI]:
    """OpenAI's SDK without retries, using the sandbox."""
    with make_openai_client(sandbox) as client:
        yield client


@pytest.fixture(scope="module")
def lively_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway whose streams have frequent heartbeats, and so begin early."""
    folder: Path = tmp_path_factory.mktemp("lively")
    child = ChildSpec(Timing(api=ApiTiming(heartbeat_interval_seconds=0.3)))
    with run_sandboxed_gateway(folder, child=child) as running:
        yield running


@pytest.fixture
def runapi_url(sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> str:
    """The sandbox's URL. Proxies are removed from the environment, since the SDK's HTTP client would use them."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return f"{sandbox.url}/runapi"


@pytest.fixture
def runapi_client(runapi_url: str) -> Iterator[GptImage2Client]:
    """RunAPI's SDK, using the sandbox."""
    client = make_runapi_client(runapi_url)
    yield client
    client._http.close()


@pytest.fixture
def photo(sandbox: RunningSandbox, tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(sandbox.fetch_sample_image(300, 200))
    return path
