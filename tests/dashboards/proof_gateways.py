"""Two gateways over one Redis with simulated sellers, under load: what dashboards and alerts are proven on."""

import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from tests.harness.child_spec import ChildSpec
from tests.harness.gateway_environ import make_redis_environ
from tests.harness.gateway_process import GatewayProcess
from tests.harness.gateway_runner import CONFIG
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import CHAOS_TIMINGS
from tests.store.redis_servers import RedisServer, run_single_server

DESIGN_KEY, MARKETING_KEY = "igw_proof_design", "igw_proof_marketing"
ACCOUNTS = """
accounts:
  runflow: {{base_url: "{url}/runflow", key: "env:RUNFLOW_API_KEY", private: true, limits: {{concurrency: 20}}}}
  runapi:
    base_url: "{url}/runapi"
    key: "env:RUNAPI_API_KEY"
    replay: trusted
    callback_secrets: ["env:RUNAPI_CALLBACK_SECRET"]
    private: true
    limits: {{concurrency: 20}}
"""
TEAMS = """
teams:
  design: {keys: ["env:IGW_KEY_DESIGN"], policies: [cheapest, fast, steady]}
  marketing: {keys: ["env:IGW_KEY_MARKETING"], budget: {day: "5.00"}, policies: [cheapest, fast, steady]}
"""
GATEWAY = """
reload: {watch: true, every_seconds: 0.2}
jobs: {lease_seconds: 3}
batches: {max_open: 1000}
"""
# Simulated sellers finish at once, and orders are first polled when they are expected to be ready.
EXPECTED_SECONDS = "seconds: {any: {p50: 0.3, p90: 1.0}}\n"
# Most requests are for small images, which take less time to draw.
REQUEST_MIX: tuple[dict[str, Any], ...] = (
    {"quality": "low"},
    {"quality": "medium"},
    {"quality": "high", "policy": "steady"},
    {"quality": "low", "n": 2},
    {"quality": "low", "policy": "steady"},
    {"quality": "low", "resolution": "2k", "aspect_ratio": "3:2"},
)
CLIENT_COUNT = 4
CLIENT_TIMEOUT_SECONDS = 20


def write_config(folder: Path, sandbox_url: str) -> Path:
    shutil.copytree(CONFIG, folder)
    (folder / "accounts.yaml").write_text(ACCOUNTS.format(url=sandbox_url))
    (folder / "teams.yaml").write_text(TEAMS)
    (folder / "gateway.yaml").write_text(GATEWAY)
    for path in (folder / "offers").glob("*.yaml"):
        text = re.sub(r"seconds: *\{any.*\n|seconds:\n(?: {6}.*\n)+", EXPECTED_SECONDS, path.read_text())
        path.write_text(text)
    return folder


class ProofGateways:
    """The running gateways, their Redis, sellers and configuration."""

    def __init__(self, gateways: list[GatewayProcess], server: RedisServer, config: Path) -> None:
        self.gateways, self.redis_server, self.config = gateways, server, config

    @property
    def targets(self) -> list[str]:
        return [gateway.url.removeprefix("http://") for gateway in self.gateways]

    @contextmanager
    def send_requests(self) -> Iterator[None]:
        """Sends requests of both teams to both gateways during the block."""
        stop, numbers = threading.Event(), count()

        def send_until_stopped() -> None:
            with httpx.Client(trust_env=False, timeout=CLIENT_TIMEOUT_SECONDS + 10) as client:
                while not stop.is_set():
                    self._send_request(client, next(numbers))

        with ThreadPoolExecutor(CLIENT_COUNT) as pool:
            futures = [pool.submit(send_until_stopped) for _ in range(CLIENT_COUNT)]
            try:
                yield
            finally:
                stop.set()
        for future in futures:
            future.result()

    def _send_request(self, client: httpx.Client, number: int) -> None:
        gateway = self.gateways[number % len(self.gateways)]
        body = {"prompt": f"a lighthouse {number}", **REQUEST_MIX[number % len(REQUEST_MIX)]}
        key = MARKETING_KEY if number % 3 == 0 else DESIGN_KEY
        headers = {"authorization": f"Bearer {key}", "prefer": f"wait={CLIENT_TIMEOUT_SECONDS}"}
        try:
            client.post(f"{gateway.url}/v1/jobs", json=body, headers=headers)
        except httpx.TransportError:
            # A scenario kills a gateway.
            assert gateway.has_exited()


@contextmanager
def run_proof_gateways(folder: Path, sandbox: RunningSandbox) -> Iterator[ProofGateways]:
    config = write_config(folder / "config", sandbox.url)
    with ExitStack() as running:
        server = running.enter_context(run_single_server(folder / "redis"))
        environ = {
            **make_redis_environ(server.url, folder / "images"),
            "IGW_KEY_DESIGN": DESIGN_KEY,
            "IGW_KEY_MARKETING": MARKETING_KEY,
        }
        gateways = []
        for name in ("1", "2"):
            gateway = GatewayProcess(folder / name, config, environ, child=ChildSpec(CHAOS_TIMINGS))
            gateways.append(running.enter_context(gateway))
            gateway.start()
        yield ProofGateways(gateways, server, config)
