"""Runs the services of the compose file's profile `sandbox` as processes of this machine, since there is no Docker.

Commands, environments and settings are those of the files; host names, ports and folders are replaced.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.deploy.compose_file import FOLDER, list_services
from tests.harness.child_spec import NO_CHANGES
from tests.harness.gateway_process import API_KEY, GatewayProcess
from tests.harness.gateway_runner import CONFIG
from tests.harness.ports import reserve_port
from tests.harness.sandbox_runner import RunningSandbox, run_sandbox
from tests.harness.wait import wait_until
from tests.store.redis_servers import REPOSITORY, run_single_server, set_parent_death_signal

UPSTREAM_SERVER = "server gateway:8080 resolve "
RESOLVER = "resolver 127.0.0.11 valid=5s ipv6=off;"


class ReplicaProcess(GatewayProcess):
    """A replica with the command and environment of its service, and the configuration of tests."""

    def __init__(self, folder: Path, service: dict[str, Any], config: Path, replacements: dict[str, str]) -> None:
        def replace_names(text: str) -> str:
            for name, replacement in replacements.items():
                text = text.replace(name, replacement)
            return text

        environ = {name: replace_names(value) for name, value in service["environment"].items()}
        super().__init__(folder, config, environ, child=NO_CHANGES)
        self._command = [replace_names(word) for word in service["command"]]

    def make_arguments(self) -> list[str]:
        arguments = super().make_arguments()
        return [*self._command, *arguments[arguments.index("serve") + 1 :]]

    @property
    def is_running(self) -> bool:
        return self._process is not None and not self.has_exited()

    def start_again(self) -> None:
        if self.has_exited():
            self.wait_for_exit()
        self.start()


class ComposeStack:
    """The running services."""

    def __init__(self, url: str, replicas: list[ReplicaProcess], sandbox: RunningSandbox) -> None:
        self.url, self.replicas, self.sandbox = url, replicas, sandbox

    def make_client(self) -> httpx.Client:
        headers = {"authorization": f"Bearer {API_KEY}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def wait_until_all_serve(self) -> None:
        """Waits until nginx sends requests to every replica: it avoids one that could not be reached for 2 s."""
        with self.make_client() as client:
            for replica in self.replicas:
                before = _count_model_lists(replica)
                wait_until(
                    lambda: client.get("/v1/models") and _count_model_lists(replica) > before,  # noqa: B023  called at once
                    f"nginx sends requests to {replica.url}",
                )

    def find_busy_replica(self) -> ReplicaProcess:
        return wait_until(
            lambda: next((one for one in self.replicas if one.read_metric("igw_jobs_in_flight")), None),
            "a replica works on a job",
        )  # type: ignore[return-value]  # wait_until returns no false value


def _count_model_lists(replica: ReplicaProcess) -> float:
    return replica.read_metric("igw_http_requests_total", method="GET", route="/v1/models", status="200")


def find_nginx() -> str | None:
    return shutil.which("nginx", path=f"{REPOSITORY / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}:/usr/sbin")


def write_nginx_config(folder: Path, port: int, upstreams: Sequence[str]) -> Path:
    """Writes the configuration for this machine. Debian's nginx is too old for `resolve`, and runs as root here."""
    text = (FOLDER / "compose" / "nginx.conf").read_text()
    assert text.count(UPSTREAM_SERVER) == text.count(RESOLVER) == 1
    line = next(line for line in text.splitlines() if UPSTREAM_SERVER in line)
    servers = "\n".join(line.replace(UPSTREAM_SERVER, f"server {upstream} ") for upstream in upstreams)
    text = text.replace(line, servers).replace(RESOLVER, "").replace("listen 8080", f"listen 127.0.0.1:{port}")
    path = folder / "nginx.conf"
    path.write_text(("user root;\n" if os.geteuid() == 0 else "") + text.replace("/tmp/", f"{folder}/"))  # noqa: S108
    return path


@contextmanager
def run_nginx(folder: Path, port: int, upstreams: Sequence[str]) -> Iterator[str]:
    folder.mkdir()
    program = find_nginx()
    assert program is not None, "there is no nginx: run `make setup`"
    command = [program, *list_services("sandbox")["address"]["command"][1:]]
    command[command.index("/etc/nginx/gateway.conf")] = str(write_nginx_config(folder, port, upstreams))
    with (folder / "log").open("wb") as log:
        with subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=set_parent_death_signal) as process:
            try:
                url = f"http://127.0.0.1:{port}"
                wait_until(lambda: _is_listening(url, process, folder / "log"), "nginx listens")
                yield url
            finally:
                process.terminate()


def _is_listening(url: str, process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, f"nginx has ended:\n{log.read_text()}"
    try:
        return httpx.get(f"{url}/nginx-health", trust_env=False).status_code == 204
    except httpx.TransportError:
        return False


def _write_config(folder: Path) -> Path:
    """Jobs of a killed replica are reclaimed soon."""
    shutil.copytree(CONFIG, folder)
    (folder / "gateway.yaml").write_text("jobs: {lease_seconds: 2}\n")
    return folder


@contextmanager
def run_sandbox_stack(folder: Path) -> Iterator[ComposeStack]:
    services = list_services("sandbox")
    program, *options = services["redis"]["command"]
    assert program == "redis-server"
    with ExitStack() as running:
        sandbox = running.enter_context(run_sandbox())
        redis = running.enter_context(run_single_server(folder / "redis", *options))
        port = reserve_port()
        replacements = {
            "http://address:8080": f"http://127.0.0.1:{port}",
            "redis://redis:6379/0": redis.url,
            "/data/images": str(folder / "images"),
            "http://sandbox:8090": sandbox.url,
        }
        config = _write_config(folder / "config")
        replicas = [
            running.enter_context(ReplicaProcess(folder / name, services[name], config, replacements))
            for name in ("sandbox-gateway-1", "sandbox-gateway-2")
        ]
        for replica in replicas:
            replica.launch()
        for replica in replicas:
            replica.wait_until_listening()
        upstreams = [replica.url.removeprefix("http://") for replica in replicas]
        yield ComposeStack(running.enter_context(run_nginx(folder / "nginx", port, upstreams)), replicas, sandbox)
