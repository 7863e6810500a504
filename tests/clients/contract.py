"""Runs contract tests for every client that has a capability."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest

from tests.clients.client_table import CLIENTS, Capability, ClientEntry
from tests.harness.child_spec import ChildSpec
from tests.harness.gateway_environ import get_clean_environ
from tests.harness.gateway_runner import API_KEY, ROOT, RunningGateway, run_sandboxed_gateway
from tests.harness.node_sdk import PROGRAM_FOLDER, find_node_program
from tests.harness.shared_gateway import clear_gateway
from tests.harness.timings import FAST_TIMINGS, change_timing

TestT = TypeVar("TestT", bound=Callable[..., Any])
TIMINGS = change_timing(FAST_TIMINGS, api={"heartbeat_interval_seconds": 0.3})
PYTHON_PROGRAM_FOLDER = Path(__file__).parent / "python_programs"
CLIENTS_PYTHON = ROOT / ".venv-clients" / "bin" / "python"


def proves(capability: Capability) -> Callable[[TestT], TestT]:
    """Marks a test that runs with the fixture `client` for each client that has the capability."""
    capable = [
        pytest.param(client, id=client.id, marks=[pytest.mark.thorough] if client.starts_slowly else [])
        for client in CLIENTS
        if capability not in client.missing
    ]

    def mark_test(test: TestT) -> TestT:
        test.capability = capability  # type: ignore[attr-defined]
        parametrize = pytest.mark.parametrize("client", capable, indirect=True)
        marked: TestT = parametrize(test)
        return marked

    return mark_test


class RunningClient:
    """A client's program that runs, and calls the gateway at `url`."""

    def __init__(self, client: ClientEntry, process: "subprocess.Popen[str]", url: str) -> None:
        self.client = client
        self._process = process
        self._url = url

    def call(self, operation: str, *, url: str = "", key: str = API_KEY, **arguments: Any) -> dict[str, Any]:
        """Returns the result, or `{"error": …}`."""
        call = {"operation": operation, "url": url or self._url, "key": key, **arguments}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()
        result: dict[str, Any] = json.loads(self._process.stdout.readline())
        return result

    @property
    def model(self) -> str:
        return self.client.model

    def make_params(self, **params: Any) -> dict[str, Any]:
        """Returns parameters with a prompt of their own: an equal request could get the job of an earlier one."""
        return {"model": self.model, "prompt": f"a lighthouse {uuid4()}", **params}

    def generate(self, extra: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
        return expect_success(self.call("generate", params=self.make_params(**params), extra=extra))

    def edit(
        self,
        images: Sequence[bytes],
        mask: bytes | None = None,
        extra: dict[str, Any] | None = None,
        **params: Any,
    ) -> dict[str, Any]:
        call = {"params": self.make_params(**params), "extra": extra, **encode_files(images, mask)}
        return expect_success(self.call("edit", **call))

    def fail_to_generate(self, key: str = API_KEY, max_retries: int | None = None, **params: Any) -> dict[str, Any]:
        """Returns the error."""
        options = {} if max_retries is None else {"max_retries": max_retries}
        result = self.call("generate", key=key, params=self.make_params(**params), **options)
        assert "error" in result, result
        error: dict[str, Any] = result["error"]
        return error


def encode_files(images: Sequence[bytes], mask: bytes | None = None) -> dict[str, Any]:
    encoded = [base64.b64encode(image).decode() for image in images]
    return {"images": encoded, "mask": base64.b64encode(mask).decode() if mask else None}


def expect_success(result: dict[str, Any]) -> dict[str, Any]:
    assert "error" not in result, result["error"]
    return result


def make_command(client: ClientEntry) -> list[str]:
    name, *arguments = client.program
    if client.runtime == "node":
        return [find_node_program(), str(PROGRAM_FOLDER / name), *arguments]
    if client.runtime == "clients":
        assert CLIENTS_PYTHON.exists(), ".venv-clients is missing: run deploy/setup.sh dev"
    interpreter = CLIENTS_PYTHON if client.runtime == "clients" else sys.executable
    return [str(interpreter), str(PYTHON_PROGRAM_FOLDER / name), *arguments]


def make_client_environ() -> dict[str, str]:
    """Returns an environment in which the clients reach nothing but the gateway.

    They would use proxies of the environment, and LiteLLM would download a list of prices.
    """
    return {**get_clean_environ(), "NO_PROXY": "*", "no_proxy": "*", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


class ClientPrograms:
    """The programs that run. Each is started when a test needs it first."""

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def start_once(self, client: ClientEntry) -> "subprocess.Popen[str]":
        if client.id not in self._processes:
            self._processes[client.id] = subprocess.Popen(
                make_command(client),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=make_client_environ(),
            )
        return self._processes[client.id]

    def stop(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.communicate()


@pytest.fixture(scope="session")
def client_programs() -> Iterator[ClientPrograms]:
    programs = ClientPrograms()
    yield programs
    programs.stop()


@pytest.fixture(scope="session")
def fast_gateway_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that fails over at once, and whose streams begin early."""
    with run_sandboxed_gateway(tmp_path_factory.mktemp("fast"), child=ChildSpec(TIMINGS)) as running:
        yield running


@pytest.fixture
def fast_gateway(fast_gateway_process: RunningGateway) -> RunningGateway:
    return clear_gateway(fast_gateway_process)


@pytest.fixture(name="client")
def running_client(
    request: pytest.FixtureRequest, client_programs: ClientPrograms, fast_gateway: RunningGateway
) -> RunningClient:
    """The client of a contract test that `proves` marks."""
    return RunningClient(request.param, client_programs.start_once(request.param), fast_gateway.url)
