"""Counts requests and charges of clients that retry by themselves, for each way in which a request can fail.

`python -m bench.client_retries [--node FOLDER] [--python PROGRAM]`: FOLDER has a `node_modules` with `openai`, `ai` and
`@ai-sdk/openai`, and PROGRAM is a Python with `litellm` and `urllib3`; clients without them are skipped.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from msgspec import Struct

from tests.flow.flow_config import API_KEY, ONE_CENT_BUDGET_KEY, GatewaySetup
from tests.flow.forgotten_images import FORGET_IMAGES
from tests.flow.gateway_on_store import run_gateway_on_store
from tests.flow.order_flow import FlowGateway, run_flow_gateway
from tests.harness import sandbox_runner
from tests.harness.gateway_environ import make_redis_environ
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import FAST_TIMINGS, change_timing
from tests.harness.wait import wait_until
from tests.store import redis_servers
from tests.store.filtering_proxy import FilteringProxy, run_filtering_proxy

PROGRAM_FOLDER = Path(__file__).parent / "retrying_clients"
OPENAI_NODE = Path(__file__).parent.parent / "tests" / "clients" / "node_programs" / "retrying.mjs"
Pipes = tuple[IO[str], IO[str]]
ROUTE = "/v1/images/generations"
SETUP = GatewaySetup(
    # All clients wait as long as Retry-After says; a minute each would take an hour.
    timing=change_timing(FAST_TIMINGS, jobs={"retry_after_seconds": 1}),
)
SHORT_DEADLINE_SETUP = GatewaySetup(
    job_settings={"deadline_seconds": 2.0},
    timing=change_timing(FAST_TIMINGS, orders={"min_attempt_timeout_seconds": 6.0}),
)
STORE_OUTAGE_SETUP = GatewaySetup(
    timing=change_timing(FAST_TIMINGS, store={"command_timeout_seconds": 0.5}, api={"store_retry_after_seconds": 1}),
    hooks=(FORGET_IMAGES,),
)
SHORT_WAIT_SETUP = GatewaySetup(timing=change_timing(FAST_TIMINGS, api={"job_wait_timeout_seconds": 1.0}))


class FailureCase(Struct, frozen=True, kw_only=True):
    """One way in which a request fails."""

    name: str
    faults: tuple[dict[str, Any], ...] = ()
    extra_fields: dict[str, Any] = {}
    key: str = API_KEY
    latency: float = 0.0


def make_seller_fields(seller: str) -> dict[str, Any]:
    return {"provider": {"only": [seller]}, "quality": "low"}


def make_status_fault(number: int, **options: Any) -> dict[str, Any]:
    return {"kind": "status", "status": number, "route": "submit", **options}


OPENAI_FIELDS, RUNAPI_FIELDS = make_seller_fields("openai"), make_seller_fields("runapi")
CASES = (
    FailureCase(
        name="500, order accepted", faults=(make_status_fault(500, accepted=True),), extra_fields=OPENAI_FIELDS
    ),
    FailureCase(name="response lost", faults=({"kind": "reset_after"},), extra_fields=OPENAI_FIELDS),
    FailureCase(
        name="503 HTML, accepted",
        faults=({"kind": "html", "status": 503, "accepted": True},),
        extra_fields=OPENAI_FIELDS,
    ),
    FailureCase(
        name="200 HTML, accepted",
        faults=({"kind": "html", "status": 200, "accepted": True},),
        extra_fields=OPENAI_FIELDS,
    ),
    FailureCase(name="order timed out", faults=({"kind": "stuck"},), extra_fields=RUNAPI_FIELDS),
    FailureCase(name="charged, no image", faults=({"kind": "empty_outputs"},), extra_fields=OPENAI_FIELDS),
    FailureCase(name="charged, URL expired", faults=({"kind": "expired_url"},), extra_fields=RUNAPI_FIELDS),
    FailureCase(name="seller failed", faults=({"kind": "fail"},), extra_fields=RUNAPI_FIELDS),
    FailureCase(name="order rejected", faults=(make_status_fault(400),), extra_fields=OPENAI_FIELDS),
    FailureCase(name="content refused", faults=({"kind": "refuse_content"},), extra_fields=OPENAI_FIELDS),
    FailureCase(name="rejected by all", faults=(make_status_fault(401),), extra_fields=OPENAI_FIELDS),
    FailureCase(name="over budget", extra_fields={"quality": "high"}, key=ONE_CENT_BUDGET_KEY),
    FailureCase(name="invalid request", extra_fields={"size": "17x17"}),
)
DEADLINE_CASE = FailureCase(name="deadline, order running", extra_fields=OPENAI_FIELDS, latency=3.0)
SLOW_CASE = FailureCase(name="still running", extra_fields=OPENAI_FIELDS, latency=2.0)
# The store cannot return the images of a job that another gateway finished, and shortly afterwards it can.
STORE_OUTAGE_CASE = FailureCase(name="store down, job done", extra_fields=RUNAPI_FIELDS)
OUTAGE_SECONDS, IMAGE_READS = 1.5, (b"HMGET", b"document:image")


class RetryingClient:
    """A program that sends one order for each line of input, with its own retries."""

    def __init__(self, name: str, pipes: Pipes) -> None:
        self.name, self._pipes = name, pipes

    def send_order(self, gateway: FlowGateway, case: FailureCase) -> int:
        stdin, stdout = self._pipes
        prompt = f"{case.name} for {self.name}"
        line = {"url": gateway.url, "key": case.key, "prompt": prompt, "more": case.extra_fields}
        stdin.write(json.dumps(line) + "\n")
        stdin.flush()
        return int(json.loads(stdout.readline())["status"])


@contextmanager
def start_clients(node: Path | None, python: str | None) -> Iterator[list[RetryingClient]]:
    commands = {"openai_python": [sys.executable, str(PROGRAM_FOLDER / "openai_python.py")]}
    if python:
        for name in ("litellm_router", "urllib3_retry"):
            commands[name] = [python, str(PROGRAM_FOLDER / f"{name}.py")]
    with ExitStack() as stack:
        if node:
            for name, program in (("openai_node", OPENAI_NODE), ("ai_sdk", PROGRAM_FOLDER / "ai_sdk.mjs")):
                # Node finds packages only beside the program.
                copy = node / f"{name}.mjs"
                copy.write_text(program.read_text())
                stack.callback(copy.unlink)
                commands[name] = ["node", str(copy)]
        yield [RetryingClient(name, stack.enter_context(_start_program(command))) for name, command in commands.items()]


@contextmanager
def _start_program(command: list[str]) -> Iterator[Pipes]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        pipes = process.stdin, process.stdout
        if pipes[0] is None or pipes[1] is None:
            raise RuntimeError("the program has no pipes")
        with pipes[0], pipes[1]:
            yield pipes[0], pipes[1]
            pipes[0].close()


def measure_case(gateway: FlowGateway, sandbox: RunningSandbox, case: FailureCase, client: RetryingClient) -> str:
    """Sends one order. Returns its final status, and the number of requests and charges."""
    for fault in case.faults:
        sandbox.inject_fault(**fault)
    sandbox.set_latency(case.latency)
    requests, charges = _count_requests(gateway), len(sandbox.list_charges())
    final_status = client.send_order(gateway, case)
    gateway.wait_until_idle()
    sandbox.call_control_route("DELETE", "/faults")
    sandbox.set_latency(0.0)
    wait_until(gateway.has_only_healthy_sellers, "all sellers are healthy")
    return f"{final_status}: {_count_requests(gateway) - requests:.0f} / {len(sandbox.list_charges()) - charges}"


def measure_store_outage(
    gateway: FlowGateway, sandbox: RunningSandbox, proxy: FilteringProxy, client: RetryingClient
) -> str:
    with proxy.block_briefly(OUTAGE_SECONDS, *IMAGE_READS):
        return measure_case(gateway, sandbox, STORE_OUTAGE_CASE, client)


@contextmanager
def start_gateway_behind_proxy(folder: Path, sandbox: RunningSandbox) -> Iterator[tuple[FlowGateway, FilteringProxy]]:
    with redis_servers.run_single_server(folder / "redis") as server, run_filtering_proxy(server.url) as proxy:
        environ = make_redis_environ(proxy.url, folder / "images")
        with run_flow_gateway(folder, sandbox, environ, STORE_OUTAGE_SETUP) as gateway:
            yield gateway, proxy


def _count_requests(gateway: FlowGateway) -> float:
    return gateway.read_metric("igw_http_requests_total", route=ROUTE)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--node", type=Path)
    parser.add_argument("--python")
    arguments = parser.parse_args()
    with start_clients(arguments.node, arguments.python) as all_clients, sandbox_runner.run_sandbox() as sandbox:
        print("status: requests / charges of one call")
        print(f"{'':26}" + "".join(f"{client.name:>18}" for client in all_clients))
        for setup, cases in (
            (SETUP, CASES),
            (SHORT_DEADLINE_SETUP, (DEADLINE_CASE,)),
            (SHORT_WAIT_SETUP, (SLOW_CASE,)),
        ):
            with (
                tempfile.TemporaryDirectory() as folder,
                run_gateway_on_store("sqlite", Path(folder), sandbox, setup) as (target, _),
            ):
                for case in cases:
                    print_row(case, [measure_case(target, sandbox, case, client) for client in all_clients])
        with (
            tempfile.TemporaryDirectory() as folder,
            start_gateway_behind_proxy(Path(folder), sandbox) as (target, proxy),
        ):
            print_row(
                STORE_OUTAGE_CASE, [measure_store_outage(target, sandbox, proxy, client) for client in all_clients]
            )


def print_row(case: FailureCase, cells: list[str]) -> None:
    print(f"{case.name:26}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
