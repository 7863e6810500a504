"""The gateway as a test sees it: the real command in a process of its own, buying from the sandbox."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from PIL import Image

from gateway.jobs.commit import LedgerEntry
from tests.flow import configuration
from tests.flow.configuration import KEY, ROOT, SEALED, SELLERS, VENDOR
from tests.store.raw import Raw
from tests.vendors import Vendors

READY_SECONDS = 60.0
IDLE_SECONDS = 20.0
PROMPT = "a lighthouse at dawn"
Job = dict[str, Any]


class Gateway:
    """A running one, the books that it keeps, and how its callers ask it."""

    def __init__(self, process: "subprocess.Popen[str]", url: str, http: httpx.Client, folder: Path) -> None:
        self.process = process
        self.url = url
        self.http = http
        self._folder = folder
        self.callback_secret = folder / "callback-secret"
        self.test = ""

    def marked(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """No test asks for the very same as an earlier one, whose job it may be given."""
        return {"metadata": {"test": self.test}, **body}

    def ask(self, body: Mapping[str, Any], key: str = KEY, **headers: str) -> httpx.Response:
        """`POST /v1/jobs`, waiting for the job's end unless `prefer` says otherwise."""
        said = {"authorization": f"Bearer {key}", "prefer": "wait=30", **headers}
        return self.http.post("/v1/jobs", json=self.marked(body), headers=said)

    def generate(self, body: Mapping[str, Any], key: str = KEY, **headers: str) -> httpx.Response:
        """OpenAI's route."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        headers = {"authorization": f"Bearer {key}", **named}
        return self.http.post("/v1/images/generations", json=self.marked(body), headers=headers)

    def job(self, name: str, wait: int = 30, key: str = KEY) -> Job:
        answer = self.http.get(f"/v1/jobs/{name}", params={"wait": wait}, headers={"authorization": f"Bearer {key}"})
        return dict(answer.raise_for_status().json())

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all its samples that have these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = re.findall(rf"^{name}(\{{.*\}})? (\S+)$", self.http.get("/metrics").text, re.MULTILINE)
        return sum(float(value) for said, value in lines if all(one in said for one in wanted))

    def all_sellers_are_well(self) -> bool:
        answer = self.http.get("/v1/signals", headers={"authorization": f"Bearer {KEY}"}).raise_for_status()
        return all(one["healthy"] and one["faithful"] and one["load"] < 1 for one in answer.json()["data"])

    def until(self, what: str, holds: Callable[[], bool], seconds: float = IDLE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"never: {what}"
            time.sleep(0.01)

    def until_idle(self) -> None:
        """Every job is settled: nothing about its money is open any more."""
        self.until("no job is worked on", lambda: self.http.get("/readyz").json()["jobs"] == 0)

    def errors(self) -> str:
        """What it has written to standard error: its log, without the line that is being written."""
        return (self._folder / "errors").read_text().rpartition("\n")[0]

    def reload(self) -> None:
        """Reads its configuration anew, and the secrets that it names."""
        before = self.metric("igw_config_reloads_total", outcome="taken")
        self.process.send_signal(signal.SIGHUP)
        self.until("it is read", lambda: self.metric("igw_config_reloads_total", outcome="taken") > before)


@contextmanager
def running(
    folder: Path, sandbox: Vendors, environ: Mapping[str, str], setup: configuration.Setup
) -> Iterator[Gateway]:
    """On a free port, with a configuration and data of its own; gone when the test run is, however that ends."""
    configuration.write(folder / "config", sandbox.url, folder / "callback-secret", setup)
    (folder / "callback-secret").write_text("whsec_nobody_knows_this_one")
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "tests.flow.tuned", "serve", "--config", str(folder / "config")]
    command += ["--port", str(port), "--data", str(folder / "data")]
    env = {**_outside(), **SEALED, "IGW_PUBLIC_URL": url, "IGW_DRAIN_SECONDS": "0", **environ}
    env["FLOW_CONSTANTS"] = json.dumps(setup.constants)
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=env, cwd=ROOT)
    with process:
        try:
            _announced(process, folder / "errors")
            with httpx.Client(base_url=url, trust_env=False, timeout=60) as http:
                yield Gateway(process, url, http, folder)
        finally:
            process.terminate()
            process.wait(timeout=20)


def _outside() -> dict[str, str]:
    """The environment without anything that would configure a gateway."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("IGW_", "REDIS_"))}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def _announced(process: "subprocess.Popen[str]", errors: Path) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if "image-gateway listening on" in line:
            return
    raise AssertionError(f"the gateway did not start:\n{errors.read_text()}")


class Flow:
    """One test: a gateway that has nothing to do, a sandbox that has sold nothing, and the books between them.

    No seller is still resting from what the last test did to it, or its orders would go elsewhere: unless the tests of
    a gateway know better (`rested`).
    """

    def __init__(self, gateway: Gateway, sandbox: Vendors, raw: Raw, rested: bool = True) -> None:
        self.gateway = gateway
        gateway.test = uuid4().hex
        self.sandbox = sandbox
        self._raw = raw
        if rested:
            gateway.until("all sellers are well", gateway.all_sellers_are_well)
        self._earlier = {entry.job for entry in raw.ledger()}
        # Booked as suspected, and not charged: what no one but the vendor can know, said by the test.
        self.never_charged: Counter[str] = Counter()
        # Charged behind our back: what a vendor that breaks its promise bills twice, said by the test.
        self.charged_twice: Counter[str] = Counter()

    # --- buying

    def buy(self, seller: str, **wishes: Any) -> Job:
        """From this seller alone, waiting for the end."""
        return self.ask(provider={"only": [seller]}, **wishes)

    def buy_first(self, seller: str, **wishes: Any) -> Job:
        """From this seller, and elsewhere if it fails."""
        return self.ask(policy=f"first-{seller}", **wishes)

    def ask(self, **wishes: Any) -> Job:
        answer = self.gateway.ask({"prompt": PROMPT, "quality": "low", **wishes})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def pictures(self, job: Job) -> list[Image.Image]:
        """The job's images, fetched by their links and fully decoded."""
        return [self.picture(one["url"]) for one in job["images"]]

    def picture(self, url: str) -> Image.Image:
        image = Image.open(io.BytesIO(self.gateway.http.get(url).raise_for_status().content))
        image.load()
        return image

    # --- the sellers' side

    def sign_callbacks(self) -> None:
        """Runflow signs from now on, and the gateway knows by what."""
        headers = {"authorization": "Bearer rf_sandbox"}
        made = self.sandbox.http.post("/runflow/v1/callback-secrets", json={"label": "flow"}, headers=headers)
        self.gateway.callback_secret.write_text(made.raise_for_status().json()["plain_secret"])
        self.gateway.reload()

    def callbacks(self, status: int) -> float:
        """How many calls of sellers were answered so, ever."""
        return self.gateway.metric(
            "igw_http_request_seconds_count", route="/callbacks/{adapter}/{job_id}/{attempt}/{seal}", status=str(status)
        )

    # --- the books

    def entries(self) -> list[LedgerEntry]:
        """This test's, once nothing is open any more."""
        self.gateway.until_idle()
        return [entry for entry in self._raw.ledger() if entry.job not in self._earlier]

    def booked(self) -> dict[tuple[str, str], int]:
        """Micro-USD by seller and line, but for what comes to nothing."""
        sums: Counter[tuple[str, str]] = Counter()
        for entry in self.entries():
            sums[entry.seller, str(entry.line)] += entry.amount
        return {key: amount for key, amount in sums.items() if amount}

    def invoiced(self) -> Counter[str]:
        sums: Counter[str] = Counter()
        for line in self.sandbox.charges():
            sums[line["vendor"]] += line["usd_micros"]
        return sums

    def orders(self, seller: str) -> int:
        """How many were sent to this seller's vendor, whatever became of them."""
        return len(self.sandbox.requests(VENDOR[seller], "submit"))

    def check_books(self) -> None:
        """What was invoiced is what was captured, orphaned or suspected, to the micro-USD."""
        booked, invoiced = self.booked(), self.invoiced()
        for vendor in dict.fromkeys(VENDOR.values()):
            sellers = [seller for seller in SELLERS if VENDOR[seller] == vendor]
            lines = {key: amount for key, amount in booked.items() if key[0] in sellers}
            suspected = sum(amount for (_, line), amount in lines.items() if line == "suspected")
            assert self.never_charged[vendor] <= suspected, f"{vendor}: only suspects may not be charged: {lines}"
            known = invoiced[vendor] - self.charged_twice[vendor] + self.never_charged[vendor]
            assert sum(lines.values()) == known, f"{vendor}: invoiced {invoiced[vendor]}, booked {lines}"
