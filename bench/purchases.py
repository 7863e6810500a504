"""How often clients that repeat by themselves buy, for each way in which a request can end without its picture.

`python -m bench.purchases [--node FOLDER] [--python PROGRAM]`: FOLDER has a `node_modules` with `openai`, `ai` and
`@ai-sdk/openai`, and PROGRAM is a Python with `litellm` and `urllib3`; without them, those clients are left out.
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

from tests import vendors
from tests.flow.configuration import KEY, POOR_KEY, Setup
from tests.flow.gateways import Gateway, running
from tests.flow.places import kept_on
from tests.store import servers
from tests.store.gate import Gate, gate_to
from tests.vendors import Vendors

PROGRAMS = Path(__file__).parent / "repeating"
OPENAI_NODE = Path(__file__).parent.parent / "tests" / "clients" / "openai_node" / "repeating.mjs"
Pipes = tuple[IO[str], IO[str]]
ROUTE = "/v1/images/generations"
SETUP = Setup(
    # What a caller is asked to wait is waited for by all of them; a minute each would make this take an hour.
    constants={"gateway.api.failures.UNAVAILABLE_SECONDS": 1},
)
HASTY = Setup(jobs={"deadline_seconds": 2.0}, constants={"gateway.engine.accepting.LEAST_PATIENCE": 6.0})
STORE_AWAY = Setup(
    constants={"gateway.store.redis.lane.PATIENCE_SECONDS": 0.5, "gateway.api.interruption.STORE_SECONDS": 1}
)
SHORT_WAIT = Setup(constants={"gateway.api.images.UNTIL_THE_END": 1.0})


class Case(Struct, frozen=True, kw_only=True):
    """How a request comes to end badly."""

    name: str
    faults: tuple[dict[str, Any], ...] = ()
    more: dict[str, Any] = {}
    key: str = KEY
    latency: float = 0.0


def at(seller: str) -> dict[str, Any]:
    return {"provider": {"only": [seller]}, "quality": "low"}


def status(number: int, **more: Any) -> dict[str, Any]:
    return {"kind": "status", "status": number, "route": "submit", **more}


OPENAI, RUNAPI = at("openai"), at("runapi")
CASES = (
    Case(name="bare 500, taken", faults=(status(500, accepted=True),), more=OPENAI),
    Case(name="answer lost", faults=({"kind": "reset_after"},), more=OPENAI),
    Case(name="bare 503 in HTML, taken", faults=({"kind": "html", "status": 503, "accepted": True},), more=OPENAI),
    Case(name="200 in HTML, taken", faults=({"kind": "html", "status": 200, "accepted": True},), more=OPENAI),
    Case(name="overdue", faults=({"kind": "stuck"},), more=RUNAPI),
    Case(name="paid, no picture", faults=({"kind": "empty_outputs"},), more=OPENAI),
    Case(name="paid, link dead", faults=({"kind": "expired_url"},), more=RUNAPI),
    Case(name="seller failed", faults=({"kind": "fail"},), more=RUNAPI),
    Case(name="order refused", faults=(status(400),), more=OPENAI),
    Case(name="content refused", faults=({"kind": "refuse_content"},), more=OPENAI),
    Case(name="no seller takes it", faults=(status(401),), more=OPENAI),
    Case(name="over budget", more={"quality": "high"}, key=POOR_KEY),
    Case(name="caller's mistake", more={"size": "17x17"}),
)
LATE = Case(name="deadline, order running", more=OPENAI, latency=3.0)
SLOW = Case(name="still running", more=OPENAI, latency=2.0)
# The store does not say which pictures a finished job has; a moment later it does.
AWAY = Case(name="store away, job finished", more=RUNAPI)
AWAY_SECONDS, PICTURES = 1.5, (b"HMGET", b"document:picture")


class Client:
    """A program that orders once for each line it is given, repeating as it was written to."""

    def __init__(self, name: str, pipes: Pipes) -> None:
        self.name, self._pipes = name, pipes

    def order(self, gateway: Gateway, case: Case) -> int:
        given, answers = self._pipes
        prompt = f"{case.name} for {self.name}"
        line = {"url": gateway.url, "key": case.key, "prompt": prompt, "more": case.more}
        given.write(json.dumps(line) + "\n")
        given.flush()
        return int(json.loads(answers.readline())["status"])


@contextmanager
def clients(node: Path | None, python: str | None) -> Iterator[list[Client]]:
    commands = {"openai_python": [sys.executable, str(PROGRAMS / "openai_python.py")]}
    if python:
        for name in ("litellm_router", "urllib3_retry"):
            commands[name] = [python, str(PROGRAMS / f"{name}.py")]
    with ExitStack() as started:
        if node:
            for name, program in (("openai_node", OPENAI_NODE), ("ai_sdk", PROGRAMS / "ai_sdk.mjs")):
                # A program finds its packages beside itself only.
                copy = node / f"{name}.mjs"
                copy.write_text(program.read_text())
                started.callback(copy.unlink)
                commands[name] = ["node", str(copy)]
        yield [Client(name, started.enter_context(_program(command))) for name, command in commands.items()]


@contextmanager
def _program(command: list[str]) -> Iterator[Pipes]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        pipes = process.stdin, process.stdout
        if pipes[0] is None or pipes[1] is None:
            raise RuntimeError("a program without pipes")
        with pipes[0], pipes[1]:
            yield pipes[0], pipes[1]
            pipes[0].close()


def measure(gateway: Gateway, sandbox: Vendors, case: Case, client: Client) -> str:
    """Requests and charges of one call, and the status that its client ended with."""
    for fault in case.faults:
        sandbox.fault(**fault)
    sandbox.latency(case.latency)
    requests, charges = _requests(gateway), len(sandbox.charges())
    ended = client.order(gateway, case)
    gateway.until_idle()
    sandbox.control("DELETE", "/faults")
    sandbox.latency(0.0)
    gateway.until("all sellers are well", gateway.all_sellers_are_well)
    return f"{ended}: {_requests(gateway) - requests:.0f} / {len(sandbox.charges()) - charges}"


def measure_away(gateway: Gateway, sandbox: Vendors, gate: Gate, client: Client) -> str:
    with gate.shut_for_a_moment(AWAY_SECONDS, *PICTURES):
        return measure(gateway, sandbox, AWAY, client)


@contextmanager
def behind_a_gate(folder: Path, sandbox: Vendors) -> Iterator[tuple[Gateway, Gate]]:
    with servers.single(folder / "redis") as server, gate_to(server.url) as gate:
        environ = {
            "REDIS_URL": gate.url,
            "IGW_SECRET": "a secret of the flow tests",
            "IGW_ASSETS": str(folder / "images"),
            "IGW_ASSETS_SHARED": "yes",
        }
        with running(folder, sandbox, environ, STORE_AWAY) as gateway:
            yield gateway, gate


def _requests(gateway: Gateway) -> float:
    return gateway.metric("igw_http_request_seconds_count", route=ROUTE)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--node", type=Path)
    parser.add_argument("--python")
    asked = parser.parse_args()
    with clients(asked.node, asked.python) as all_clients, vendors.running() as sandbox:
        print("status: requests / charges of one call")
        print(f"{'':26}" + "".join(f"{client.name:>18}" for client in all_clients))
        for setup, cases in ((SETUP, CASES), (HASTY, (LATE,)), (SHORT_WAIT, (SLOW,))):
            with tempfile.TemporaryDirectory() as folder, kept_on("sqlite", Path(folder), sandbox, setup) as (one, _):
                for case in cases:
                    show(case, [measure(one, sandbox, case, client) for client in all_clients])
        with tempfile.TemporaryDirectory() as folder, behind_a_gate(Path(folder), sandbox) as (one, gate):
            show(AWAY, [measure_away(one, sandbox, gate, client) for client in all_clients])


def show(case: Case, cells: list[str]) -> None:
    print(f"{case.name:26}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
