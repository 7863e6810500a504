"""Runs the command with its own sandbox, on free ports."""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import httpx

from tests.harness.child_spec import NO_CHANGES, ChildSpec
from tests.harness.gateway_process import API_KEY, ROOT, GatewayProcess, StartMethod
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until

__all__ = ["API_KEY", "CONFIG", "ROOT", "RunningGateway", "make_client", "run_sandboxed_gateway"]

# The tests' own configuration: edits of `config/` do not affect them.
CONFIG = ROOT / "tests" / "config"
ADMIN_KEY = "an-admin-key-for-tests"


class RunningGateway(GatewayProcess):
    """A gateway with its own sandbox, and clients of both. `options` and `environ` come after the defaults."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        ports: tuple[str, ...] = ("--port", "0"),
        environ: Mapping[str, str] | None = None,
        child: ChildSpec = NO_CHANGES,
        start_method: StartMethod = "fork",
    ) -> None:
        super().__init__(folder, child=child, start_method=start_method)
        self._arguments = ["serve", "--sandbox", "--data", str(folder / "data"), *ports, *options]
        self.environ = {"IGW_CONFIG": str(CONFIG), "IGW_ADMIN_KEY": ADMIN_KEY, **(environ or {})}

    def make_arguments(self) -> list[str]:
        return self._arguments

    def start(self) -> None:
        super().start()
        self.url = self._find_output(r"image-gateway listening on (\S+)")
        self.http = make_client(self.url)
        sandbox_url = self._find_output(r"Sandbox +(\S+)/_/")
        self._sandbox_http = httpx.Client(base_url=sandbox_url, trust_env=False, timeout=30)
        self.sandbox = RunningSandbox(sandbox_url, self._sandbox_http)

    def _find_output(self, pattern: str) -> str:
        match = wait_until(lambda: re.search(pattern, self.stdout), f"the gateway prints {pattern}", self.check_alive)
        assert match is not None
        return match[1]

    def get_resident_bytes(self) -> int:
        return int(self.read_memory_mb() * (1 << 20))

    def close(self) -> None:
        self.http.close()
        self._sandbox_http.close()


def make_client(url: str, api_key: str = API_KEY) -> httpx.Client:
    headers = {"authorization": f"Bearer {api_key}"}
    return httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60)


@contextmanager
def run_sandboxed_gateway(
    folder: Path,
    *options: str,
    ports: tuple[str, ...] = ("--port", "0"),
    environ: Mapping[str, str] | None = None,
    child: ChildSpec = NO_CHANGES,
) -> Iterator[RunningGateway]:
    """Starts a gateway with its own sandbox, and kills it after the block. It is also killed when the test run ends."""
    with RunningGateway(folder, *options, ports=ports, environ=environ, child=child) as gateway:
        gateway.start()
        with closing(gateway):
            yield gateway
