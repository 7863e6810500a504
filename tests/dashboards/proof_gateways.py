"""Two gateways over one Redis with simulated sellers, under load: what dashboards and alerts are proven on."""

import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count, cycle
from pathlib import Path
from typing import Any

import httpx
from msgspec import Struct

from tests.harness.child_spec import ChildSpec
from tests.harness.gateway_environ import make_redis_environ
from tests.harness.gateway_process import GatewayProcess
from tests.harness.gateway_runner import CONFIG
from tests.harness.moderation_server import ALLOW, HookReply, ModerationServer, run_moderation_server
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import CHAOS_TIMINGS, change_timing
from tests.harness.wait import wait_until
from tests.harness.webhook_receiver import WEBHOOK_SECRET, WebhookReceiver, run_webhook_receiver
from tests.store.redis_servers import RedisServer, run_single_server

KEYS = {"design": "igw_proof_design", "marketing": "igw_proof_marketing", "research": "igw_proof_research"}
ACCOUNTS = """
accounts:
  runflow:
    base_url: "{url}/runflow"
    key: "env:RUNFLOW_API_KEY"
    private: true
    limits: {{concurrency: 12}}
  runapi:
    base_url: "{url}/runapi"
    key: "env:RUNAPI_API_KEY"
    replay: trusted
    callback_secrets: ["env:RUNAPI_CALLBACK_SECRET"]
    private: true
    limits: {{concurrency: 12}}
    low_balance_usd: "20"
"""
TEAMS = """
teams:
  design: {{keys: ["env:IGW_KEY_DESIGN"], policies: [cheapest, fast, steady]}}
  marketing:
    keys: ["env:IGW_KEY_MARKETING"]
    budget: {{day: "{budget}"}}
    policies: [cheapest, fast, steady]
    webhooks:
      secrets: ["env:IGW_WEBHOOK_SECRET"]
      targets: {{orders: {{url: "{receiver_url}{path}", private: true}}}}
  research:
    keys: ["env:IGW_KEY_RESEARCH"]
    policies: [cheapest, fast, steady]
    limits: {{requests_per_minute: 20}}
    moderate:
      before: {{url: "{hooks_url}/before", private: true, fail: open}}
      after: {{url: "{hooks_url}/after", private: true, fail: open}}
"""
CANARY = "{seller: runflow-run, share: 2%, until: 500 images}"
WEBHOOK_PATH = "/orders"
# Of the hooks of the team research, which fail open. So few are invalid that no alert fires.
NO_ANSWER = HookReply(b"", 500)
HOOK_REPLIES = (*[ALLOW] * 30, NO_ANSWER)
# Circuit breakers test sellers often.
GATEWAY = """
reload: {watch: true, every_seconds: 0.2}
timing: {outage_seconds: 3, max_outage_seconds: 12, slot_seconds: 2, min_poll_seconds: 0.05}
batches: {max_open: 1000}
"""
# Simulated sellers finish at once, and orders are first polled when they are expected to be ready.
EXPECTED_SECONDS = "seconds: {any: {p50: 0.3, p90: 3.0}}\n"
# Most requests are for small images, which take less time to draw.
REQUEST_MIX: tuple[dict[str, Any], ...] = (
    {"quality": "low"},
    {"quality": "medium"},
    {"quality": "high", "policy": "steady"},
    {"quality": "low", "n": 2},
    {"quality": "low", "policy": "steady"},
    {"quality": "low", "resolution": "2k", "aspect_ratio": "3:2"},
)
TEAM_BY_NUMBER = ("design", "design", "marketing", "design", "research")
CLIENT_COUNT = 4
CLIENT_WAIT_SECONDS = 3
# Jobs of a killed gateway stay due until the next claim, which comes after the scenario. An order without a readable
# answer stays open for longer than a circuit breaker, as with the product's times.
TIMINGS = change_timing(
    CHAOS_TIMINGS,
    orders={"min_attempt_timeout_seconds": 20.0},
    claims={"interval_seconds": 3_600.0, "killed_replica_check_interval_seconds": 3_600.0},
    # Prometheus scrapes each second.
    maintenance={
        "store_metric_interval_seconds": 1.0,
        "store_metric_max_age_seconds": 10.0,
        "new_series_zero_seconds": 3.0,
        "account_interval_seconds": 2.0,
        "refused_account_interval_seconds": 2.0,
        "account_poll_seconds": 0.5,
    },
)


class ProofServers(Struct, frozen=True):
    """The servers that the gateways use, besides sellers: also those of webhooks and moderation hooks."""

    redis: RedisServer
    receiver: WebhookReceiver
    hooks: ModerationServer


class ProofGateways:
    """The running gateways, their Redis, sellers and configurations, clients that send requests, and the servers of the
    webhooks of the team marketing and of the moderation hooks of the team research."""

    def __init__(
        self,
        gateways: list[GatewayProcess],
        configs: list[Path],
        images: Path,
        servers: ProofServers,
    ) -> None:
        self.gateways, self.configs, self.images = gateways, configs, images
        self.redis_server, self.receiver, self.hooks = servers.redis, servers.receiver, servers.hooks
        self.answer_moderation()
        self._numbers = count()

    def answer_moderation(self) -> None:
        replies = cycle(HOOK_REPLIES)
        self.hooks.reply_to = lambda _: next(replies)

    @property
    def targets(self) -> list[str]:
        return [gateway.url.removeprefix("http://") for gateway in self.gateways]

    @contextmanager
    def send_requests(self) -> Iterator[None]:
        """Sends requests of all teams to all gateways during the block."""
        stop = threading.Event()

        def send_until_stopped() -> None:
            with httpx.Client(trust_env=False, timeout=CLIENT_WAIT_SECONDS + 20) as client:
                while not stop.is_set():
                    number = next(self._numbers)
                    team, body = TEAM_BY_NUMBER[number % 5], REQUEST_MIX[number % len(REQUEST_MIX)]
                    self.send_request(client, number, team, **body)
                    # Refused requests return at once.
                    stop.wait(0.05)

        with ThreadPoolExecutor(CLIENT_COUNT) as pool:
            futures = [pool.submit(send_until_stopped) for _ in range(CLIENT_COUNT)]
            try:
                yield
            finally:
                stop.set()
        for future in futures:
            future.result()

    def send_request(self, client: httpx.Client, number: int, team: str, **body: Any) -> None:
        gateway = self.gateways[number % len(self.gateways)]
        if not gateway.is_running:
            return
        headers = {"authorization": f"Bearer {KEYS[team]}", "prefer": f"wait={CLIENT_WAIT_SECONDS}"}
        try:
            client.post(f"{gateway.url}/v1/jobs", json={"prompt": f"a lighthouse {number}", **body}, headers=headers)
        except httpx.TransportError:
            # The scenario kills a gateway.
            wait_until(lambda: not gateway.is_running, "the gateway was killed")

    def create_jobs(self, count: int, **body: Any) -> None:
        """Creates jobs without waiting for them."""
        headers = {"authorization": f"Bearer {KEYS['design']}"}
        with httpx.Client(trust_env=False, timeout=60, headers=headers) as client:
            for number in range(count):
                url = self.gateways[number % len(self.gateways)].url
                client.post(f"{url}/v1/jobs", json={"prompt": "a tower", **body}).raise_for_status()

    def edit_config(self, name: str, pattern: str, replacement: str, replicas: tuple[int, ...] = (0, 1)) -> None:
        """Replaces text of a file in the configurations of these replicas."""
        for replica in replicas:
            path = self.configs[replica] / name
            text, replaced = re.subn(pattern, replacement, path.read_text())
            assert replaced, (name, pattern)
            path.write_text(text)


def write_config(folder: Path, sandbox_url: str, receiver_url: str, hooks_url: str) -> Path:
    shutil.copytree(CONFIG, folder)
    (folder / "accounts.yaml").write_text(ACCOUNTS.format(url=sandbox_url))
    urls = {"receiver_url": receiver_url, "hooks_url": hooks_url}
    (folder / "teams.yaml").write_text(TEAMS.format(budget="500.00", path=WEBHOOK_PATH, **urls))
    (folder / "gateway.yaml").write_text(GATEWAY)
    # No request asks for this policy. Its canary counts all that the seller delivers.
    policies = (folder / "policies.yaml").read_text()
    (folder / "policies.yaml").write_text(policies.replace("  fast:\n", f"  fast:\n    canary: {CANARY}\n"))
    for path in (folder / "offers").glob("*.yaml"):
        text = re.sub(r"seconds: *\{any.*\n|seconds:\n(?: {6}.*\n)+", EXPECTED_SECONDS, path.read_text())
        path.write_text(text)
    return folder


@contextmanager
def run_proof_gateways(folder: Path, sandbox: RunningSandbox) -> Iterator[ProofGateways]:
    with ExitStack() as running:
        server, images = running.enter_context(run_single_server(folder / "redis")), folder / "images"
        receiver = running.enter_context(run_webhook_receiver())
        hooks = running.enter_context(run_moderation_server())
        environ = make_redis_environ(server.url, images)
        environ |= {f"IGW_KEY_{team.upper()}": key for team, key in KEYS.items()}
        environ["IGW_WEBHOOK_SECRET"] = WEBHOOK_SECRET
        gateways, configs = [], []
        for name in ("1", "2"):
            config = write_config(folder / f"config-{name}", sandbox.url, receiver.url, hooks.url)
            gateway = GatewayProcess(folder / name, config, environ, child=ChildSpec(TIMINGS))
            gateway.environ["IGW_PUBLIC_URL"] = gateway.url
            running.enter_context(gateway)
            gateway.start()
            gateways.append(gateway)
            configs.append(config)
        yield ProofGateways(gateways, configs, images, ProofServers(server, receiver, hooks))
