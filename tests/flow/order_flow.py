"""A gateway process that orders from the sandbox, and the checks that compare its ledger with the invoice."""

import io
import re
import signal
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from PIL import Image

from gateway.jobs.commit import LedgerEntry
from tests.flow import flow_config
from tests.flow.flow_config import API_KEY, SECRET_ENVIRON, SELLERS, VENDOR_BY_SELLER
from tests.harness.child_spec import ChildSpec
from tests.harness.gateway_process import GatewayProcess
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until
from tests.store.raw_store import RawStore

PROMPT = "a lighthouse at dawn"
CELL_LABELS = ("seller", "model", "operation", "resolution", "quality")
# The value of a metric of a circuit breaker that blocks orders.
OPEN_BREAKER = 2
JobJson = dict[str, Any]


class FlowGateway(GatewayProcess):
    """A gateway that orders from the sandbox, and requests to it."""

    def __init__(
        self, folder: Path, sandbox: RunningSandbox, environ: Mapping[str, str], setup: flow_config.GatewaySetup
    ) -> None:
        child = ChildSpec(setup.timing, setup.hooks)
        super().__init__(folder, folder / "config", child=child, start_method=setup.start_method)
        self.environ = {
            **SECRET_ENVIRON,
            "IGW_PUBLIC_URL": self.url,
            "IGW_DRAIN_SECONDS": "0",
            **setup.environ,
            **environ,
        }
        self.callback_secret_path = folder / "callback-secret"
        self.callback_secret_path.write_text("whsec_unknown_to_the_seller")
        flow_config.write_config(folder / "config", sandbox.url, self.callback_secret_path, setup)
        self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=60)
        self.test_id = ""

    def add_test_id(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Adds the test's id, so that no two tests send equal requests: an equal request may return an earlier job."""
        return {"metadata": {"test": self.test_id}, **body}

    def post_job(self, body: Mapping[str, Any], key: str = API_KEY, **headers: str) -> httpx.Response:
        """Sends `POST /v1/jobs` and waits for the job's end, unless `prefer` says otherwise."""
        request_headers = {"authorization": f"Bearer {key}", "prefer": "wait=30", **headers}
        return self.http.post("/v1/jobs", json=self.add_test_id(body), headers=request_headers)

    def post_generation(self, body: Mapping[str, Any], key: str = API_KEY, **headers: str) -> httpx.Response:
        """Sends `POST /v1/images/generations`."""
        header_fields = {name.replace("_", "-"): value for name, value in headers.items()}
        headers = {"authorization": f"Bearer {key}", **header_fields}
        return self.http.post("/v1/images/generations", json=self.add_test_id(body), headers=headers)

    def get_job(self, job_id: str, wait_seconds: int = 30, key: str = API_KEY) -> JobJson:
        answer = self.http.get(
            f"/v1/jobs/{job_id}", params={"wait": wait_seconds}, headers={"authorization": f"Bearer {key}"}
        )
        return dict(answer.raise_for_status().json())

    def has_only_healthy_sellers(self, sellers: Collection[str] | None = None) -> bool:
        """Whether all sellers, or all of these, get orders: each cell has a closed circuit breaker, and the cells of
        most tests are ranked normally."""
        ranked = self.request_quote(quality="low")["ranked"]
        signals = [entry["signals"] for entry in ranked if sellers is None or entry["seller"] in sellers]
        is_ranked_normally = all(entry["healthy"] and entry["faithful"] and entry["load"] < 1 for entry in signals)
        health = self.read_cell_health()
        return is_ranked_normally and all(health[cell] for cell in health if sellers is None or cell[0] in sellers)

    def request_quote(self, **params: Any) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {API_KEY}"}
        answer = self.http.post("/v1/quotes", json={"prompt": PROMPT, **params}, headers=headers)
        return dict(answer.raise_for_status().json())

    def read_cell_health(self, **labels: str) -> dict[tuple[str, ...], bool]:
        """Returns whether the breaker lets orders pass, for all cells with these labels: by seller, model, operation,
        resolution and quality."""
        samples = re.findall(r"^igw_cell_circuit_breaker_state\{(.*)\} (\S+)$", self.get("/metrics").text, re.MULTILINE)
        cells = [(dict(re.findall(r'(\w+)="([^"]*)"', text)), float(value)) for text, value in samples]
        return {
            tuple(cell[name] for name in CELL_LABELS): value < OPEN_BREAKER
            for cell, value in cells
            if labels.items() <= cell.items()
        }

    def reload_config(self) -> None:
        """Reloads the configuration and its secrets."""
        before = self.read_metric("igw_config_reloads_total", outcome="applied")
        self.send_signal(signal.SIGHUP)
        wait_until(
            lambda: self.read_metric("igw_config_reloads_total", outcome="applied") > before,
            "the configuration is reloaded",
        )


@contextmanager
def run_flow_gateway(
    folder: Path, sandbox: RunningSandbox, environ: Mapping[str, str], setup: flow_config.GatewaySetup
) -> Iterator[FlowGateway]:
    """Runs a gateway on a free port with its own configuration and data, and stops it after the block."""
    gateway = FlowGateway(folder, sandbox, environ, setup)
    try:
        gateway.start()
        yield gateway
        gateway.send_signal(signal.SIGTERM)
        gateway.wait_for_exit()
    finally:
        gateway.http.close()
        gateway.kill_if_running()


class OrderFlow:
    """One test: an idle gateway, a sandbox without charges, and the ledger between them.

    Waits until the jobs of earlier tests are settled, because their entries would count as this test's, and until the
    circuit breakers of earlier tests have closed, because orders would go to other sellers. Tests whose breakers stay
    open pass `wait_for_healthy_sellers=False`.
    """

    def __init__(
        self, gateway: FlowGateway, sandbox: RunningSandbox, raw_store: RawStore, wait_for_healthy_sellers: bool = True
    ) -> None:
        self.gateway = gateway
        gateway.test_id = uuid4().hex
        self.sandbox = sandbox
        self._raw_store = raw_store
        gateway.wait_until_idle()
        if wait_for_healthy_sellers:
            wait_until(gateway.has_only_healthy_sellers, "all sellers are healthy")
        self._earlier_jobs = {entry.job for entry in raw_store.read_ledger()}
        # By vendor, micro-USD booked as suspected that were not charged. Tests set it: the gateway cannot detect it.
        self.uncharged_suspects: Counter[str] = Counter()
        # By vendor, micro-USD that a vendor charged twice against its own documentation. Tests set it.
        self.duplicate_charges: Counter[str] = Counter()

    # --- ordering

    def order_images(self, seller: str, **params: Any) -> JobJson:
        """Orders from this seller only, and returns the finished job."""
        return self.run_job(provider={"only": [seller]}, **params)

    def order_with_failover(self, seller: str, **params: Any) -> JobJson:
        """Orders from this seller, or from its backup if it fails."""
        return self.run_job(policy=f"failover-{seller}", **params)

    def run_job(self, **params: Any) -> JobJson:
        answer = self.gateway.post_job({"prompt": PROMPT, "quality": "low", **params})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def start_job(self, **params: Any) -> str:
        """Creates a job without waiting for it, and returns its id."""
        answer = self.gateway.post_job({"prompt": PROMPT, "quality": "low", **params}, prefer="wait=0")
        return str(answer.raise_for_status().json()["id"])

    def fetch_images(self, job: JobJson) -> list[Image.Image]:
        """Fetches the job's images by their URLs and decodes them completely."""
        return [self.fetch_image(image["url"]) for image in job["images"]]

    def fetch_image(self, url: str) -> Image.Image:
        image = Image.open(io.BytesIO(self.gateway.http.get(url).raise_for_status().content))
        image.load()
        return image

    # --- the sandbox

    def enable_callback_signatures(self) -> None:
        """Makes Runflow sign its callbacks, and gives the gateway the secret."""
        headers = {"authorization": "Bearer rf_sandbox"}
        response = self.sandbox.http.post("/runflow/v1/callback-secrets", json={"label": "flow"}, headers=headers)
        self.gateway.callback_secret_path.write_text(response.raise_for_status().json()["plain_secret"])
        self.gateway.reload_config()

    def count_callback_responses(self, status: int) -> float:
        """Counts the callbacks answered with this status since the gateway started."""
        return self.gateway.read_metric(
            "igw_http_requests_total",
            route="/callbacks/{adapter}/{job_id}/{attempt}/{signature}",
            status=str(status),
        )

    # --- the store and its ledger

    def dump_store(self) -> str:
        """Returns everything that is stored, as text."""
        return str(self._raw_store.dump_everything())

    def read_ledger_entries(self) -> list[LedgerEntry]:
        """Waits until all jobs are settled, then returns this test's entries."""
        self.gateway.wait_until_idle()
        return [entry for entry in self._raw_store.read_ledger() if entry.job not in self._earlier_jobs]

    def sum_ledger_by_line(self) -> dict[tuple[str, str], int]:
        """Sums micro-USD by seller and line, without sums of zero."""
        sums: Counter[tuple[str, str]] = Counter()
        for entry in self.read_ledger_entries():
            sums[entry.seller, str(entry.line)] += entry.amount
        return {key: amount for key, amount in sums.items() if amount}

    def sum_invoice_by_vendor(self) -> Counter[str]:
        sums: Counter[str] = Counter()
        for line in self.sandbox.list_charges():
            sums[line["vendor"]] += line["usd_micros"]
        return sums

    def count_orders(self, seller: str) -> int:
        """Counts the orders sent to the seller's vendor, whatever their outcome."""
        return len(self.sandbox.list_requests(VENDOR_BY_SELLER[seller], "submit"))

    def check_ledger_matches_invoice(self) -> None:
        """Captured, orphaned and suspected amounts must equal the invoice, to the micro-USD."""
        ledger, invoice = self.sum_ledger_by_line(), self.sum_invoice_by_vendor()
        for vendor in dict.fromkeys(VENDOR_BY_SELLER.values()):
            sellers = [seller for seller in SELLERS if VENDOR_BY_SELLER[seller] == vendor]
            lines = {key: amount for key, amount in ledger.items() if key[0] in sellers}
            suspected = sum(amount for (_, line), amount in lines.items() if line == "suspected")
            assert self.uncharged_suspects[vendor] <= suspected, (
                f"{vendor}: only suspected amounts may be uncharged: {lines}"
            )
            expected_amount = invoice[vendor] - self.duplicate_charges[vendor] + self.uncharged_suspects[vendor]
            assert sum(lines.values()) == expected_amount, f"{vendor}: invoiced {invoice[vendor]}, booked {lines}"
