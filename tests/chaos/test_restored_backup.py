"""Backup and restore with the commands of `docs/operations.md`: a restored gateway orders nothing again."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import httpx
import openai
import pytest
from openai.types import Batch

from tests.chaos import chaos_config, store_audit
from tests.chaos.docker_stand_in import StandInSetup, write_stand_in
from tests.chaos.persistent_clients import post_job
from tests.chaos.store_setups import STORE_KINDS, StoreSetup, create_store_setup
from tests.deploy.compose_file import list_services
from tests.deploy.systemd_unit import PROGRAM, UNIT, read_environ, read_unit
from tests.harness.batch_client import create_batch, make_line, make_sdk_client, wait_for_end
from tests.harness.gateway_environ import get_clean_environ
from tests.harness.gateway_process import API_KEY, GatewayProcess
from tests.harness.gateway_runner import ROOT
from tests.harness.ports import reserve_port
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until
from tests.store.redis_servers import RedisServer, run_single_server

PAGE = (ROOT / "docs" / "operations.md").read_text()
LINE_COUNT, OPEN_LINES = 6, 2
# The stores of the ways to run a gateway for which the page has commands.
STORES = {"sqlite": "sqlite", "redis": "redis", "systemd": "sqlite", "compose": "redis"}
# Up to here Redis must not run; from here on it must.
STARTS_OF_REDIS = {
    "redis": "# then start Redis as usual\n",
    "compose": "docker compose run --rm -T gateway-1 cancel-open",
}
SYSTEMCTL = f"""#!/bin/sh
case "$*" in "stop {UNIT.stem}" | "start {UNIT.stem}") ;; *) exit 5 ;; esac
"""


class BackedUpGateway:
    """A gateway with one store, and the commands of the page for this way to run it."""

    def __init__(self, deployment: str, setup: StoreSetup, server: RedisServer | None) -> None:
        self.deployment, self.setup, self.server = deployment, setup, server
        self.gateway = GatewayProcess(setup.folder, setup.config, setup.environ)
        self._spare_port = reserve_port()
        self._programs = setup.folder / "programs"
        self._programs.mkdir()
        self._environ = self._write_stand_ins()

    def back_up(self) -> None:
        self._run(self._read_commands("backup"))

    def destroy_and_restore(self) -> str:
        """Kills everything, runs the commands up to the start of the gateway, and returns their output."""
        self.gateway.kill()
        if self.server is None:
            return self._run(self._read_commands("restore"))
        self.server.kill()
        load_dump, start, rest = self._read_commands("restore").partition(STARTS_OF_REDIS[self.deployment])
        self._run(load_dump)
        self.server.start()
        exports = "".join(line for line in load_dump.splitlines(keepends=True) if line.startswith("export "))
        return self._run(exports + start + rest)

    def _read_commands(self, action: str) -> str:
        """Reads the commands of the page, with the folders and ports of this test."""
        match = re.search(rf"<!-- {action} of {self.deployment}: run by a test -->\n```bash\n(.*?)```", PAGE, re.DOTALL)
        assert match is not None
        commands = match[1].removesuffix("image-gateway serve\n")
        for text, replacement in self._list_replacements().items():
            commands = re.sub(text, replacement, commands)
        return commands

    def _list_replacements(self) -> dict[str, str]:
        match self.deployment:
            case "sqlite":
                return {r"\bvar\b": "data"}
            case "systemd":
                data, name = read_environ()["IGW_DATA"], read_unit()["StateDirectory"][0]
                # With a user that exists only while the service runs, /var/lib has only a link.
                assert (read_unit()["DynamicUser"], data) == (["yes"], f"/var/lib/{name}")
                programs = f"{PurePath(PROGRAM).parent}/"
                return {
                    f"/var/lib/private/{name}|{data}": "data",
                    programs: "",
                    read_environ()["IGW_CONFIG"]: "$IGW_CONFIG",
                }
        assert self.server is not None
        return {"/var/lib/redis": str(self.server.folder), "6390": str(self._spare_port)}

    def _write_stand_ins(self) -> dict[str, str]:
        """Writes programs that stand in for Docker and systemd. Returns the variables that they need."""
        systemctl = self._programs / "systemctl"
        systemctl.write_text(SYSTEMCTL)
        systemctl.chmod(0o755)
        if self.server is None:
            return {}
        images = Path(self.setup.environ["IGW_ASSETS"])
        assert f"/data/{images.name}" == list_services("live")["gateway-1"]["environment"]["IGW_ASSETS"]
        volumes = {"redis": str(self.server.folder), "images": str(images.parent)}
        return write_stand_in(self._programs, StandInSetup(volumes, self.server.port))

    def _run(self, commands: str) -> str:
        environ = get_clean_environ() | self.gateway.environ | self._environ
        folders = (self._programs, Path(sys.executable).parent, ROOT / ".venv" / "bin", environ["PATH"])
        environ |= {
            "PATH": os.pathsep.join(map(str, folders)),
            "IGW_CONFIG": str(self.setup.config),
            "IGW_DATA": "data",
        }
        result = subprocess.run(
            ["bash", "-c", f"set -euo pipefail\n{commands}"],  # noqa: S607
            cwd=self.setup.folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout


@pytest.fixture(params=STORES)
def backed_up(request: pytest.FixtureRequest, tmp_path: Path, sandbox: RunningSandbox) -> Iterator[BackedUpGateway]:
    """A gateway that sends one order at a time to RunAPI, and works on a few lines of a batch."""
    with _run_server(STORES[request.param], tmp_path) as server:
        setup = create_store_setup(tmp_path, sandbox, server)
        config = setup.config
        chaos_config.replace_text(config / "gateway.yaml", "jobs:", f"batches: {{open_lines: {OPEN_LINES}}}\njobs:")
        chaos_config.replace_text(
            config / "accounts.yaml", "    replay: trusted", "    replay: trusted\n    limits: {concurrency: 1}"
        )
        backed_up = BackedUpGateway(request.param, setup, server)
        with backed_up.gateway:
            backed_up.gateway.start()
            yield backed_up


@contextmanager
def _run_server(kind: str, folder: Path) -> Iterator[RedisServer | None]:
    if kind == "sqlite":
        yield None
        return
    with run_single_server(folder / "redis") as server:
        yield server


def read_status(client: httpx.Client, job_id: str) -> str:
    return str(client.get(f"/v1/jobs/{job_id}").json()["status"])


def count_orders(sandbox: RunningSandbox) -> int:
    return sum(len(sandbox.list_requests(vendor, "submit")) for vendor in ("runapi", "runflow", "openai"))


def start_work(client: httpx.Client, sdk: openai.OpenAI, sandbox: RunningSandbox) -> tuple[dict[str, Any], Batch]:
    """Creates a finished job, one with a running order, one that waits for its turn, and a batch of which a part is
    ordered. Returns the jobs by name, and the batch."""
    jobs = {"finished": post_job(client, "finished", "runapi", wait_seconds=20).json()}
    sandbox.hold_orders()
    jobs["running"] = post_job(client, "running", "runapi").json()
    wait_until(lambda: len(sandbox.list_requests("runapi", "poll")) >= 2, "the running order is polled")
    jobs["waiting"] = post_job(client, "waiting", "runapi").json()
    lines = [
        make_line(number, prompt=f"line {number}", provider={"only": ["runflow-runs"]}) for number in range(LINE_COUNT)
    ]
    batch = create_batch(sdk, lines)
    wait_until(lambda: len(sandbox.list_requests("runflow", "poll")) >= OPEN_LINES, "two lines are polled")
    return jobs, batch


@pytest.mark.thorough
def test_restored_gateway_orders_nothing_again(backed_up: BackedUpGateway, sandbox: RunningSandbox) -> None:
    gateway = backed_up.gateway
    with gateway.make_client() as client, make_sdk_client(gateway.url, API_KEY) as sdk:
        jobs, batch = start_work(client, sdk, sandbox)
        backed_up.back_up()
        # Everything that was open is ordered and delivered after the backup, and a job is created.
        sandbox.release_orders()
        wait_for_end(sdk, batch)
        for name in ("running", "waiting"):
            assert client.get(f"/v1/jobs/{jobs[name]['id']}", params={"wait": 20}).json()["status"] == "completed"
        later_job = post_job(client, "later", "runapi", wait_seconds=20).json()
        gateway.wait_until_idle()
        order_count = count_orders(sandbox)
        assert order_count == 4 + LINE_COUNT

        output = backed_up.destroy_and_restore()
        # The jobs that run and wait, and the two open lines.
        assert f"cancelled {2 + OPEN_LINES} open jobs and 1 open batches" in output
        gateway.start()
        assert wait_for_end(sdk, batch).status == "cancelled"
        for job in jobs.values():
            client.get(f"/v1/jobs/{job['id']}", params={"wait": 20})
        gateway.wait_until_idle()
        assert count_orders(sandbox) == order_count, "nothing is ordered again"
        assert {name: read_status(client, job["id"]) for name, job in jobs.items()} == {
            "finished": "completed",
            "running": "cancelled",
            "waiting": "cancelled",
        }
        running_job = client.get(f"/v1/jobs/{jobs['running']['id']}").json()
        assert len(running_job["images"]) == 1, "a running order is followed to its end"
        for image in (*jobs["finished"]["images"], *running_job["images"]):
            assert client.get(image["url"]).status_code == 200
        assert client.get(f"/v1/jobs/{later_job['id']}").status_code == 404
        assert post_job(client, "after-the-restore", "runapi", wait_seconds=20).json()["status"] == "completed"
        gateway.wait_until_idle()
        gateway.stop()
    store_audit.assert_consistent(store_audit.read_snapshot(backed_up.setup.make_store), [jobs["finished"]["id"]])


@pytest.mark.thorough
@pytest.mark.parametrize("backed_up", STORE_KINDS, indirect=True)
def test_open_work_is_cancelled_only_on_request(backed_up: BackedUpGateway, sandbox: RunningSandbox) -> None:
    gateway = backed_up.gateway
    with gateway.make_client() as client, make_sdk_client(gateway.url, API_KEY) as sdk:
        jobs, _ = start_work(client, sdk, sandbox)
        gateway.kill()
        counts = f"{2 + OPEN_LINES} open jobs and 1 open batches"
        assert backed_up._run("image-gateway cancel-open") == f"found {counts}. Cancel them with --yes\n"
        assert backed_up._run("image-gateway cancel-open --yes") == f"cancelled {counts}\n"
        assert backed_up._run("image-gateway cancel-open --yes") == "cancelled 0 open jobs and 0 open batches\n"
        gateway.start()
        sandbox.release_orders()
        ended = {name: client.get(f"/v1/jobs/{job['id']}", params={"wait": 20}).json() for name, job in jobs.items()}
    assert {name: len(job["images"]) for name, job in ended.items()} == {"finished": 1, "running": 1, "waiting": 0}
