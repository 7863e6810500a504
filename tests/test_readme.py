"""The commands and examples of the README work, against a running gateway."""

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gateway.config.schema import CONFIG_FILES
from gateway.settings import ENV_OPTIONS
from tests.harness.cli_runner import run_command
from tests.harness.gateway_runner import CONFIG, ROOT, RunningGateway, run_sandboxed_gateway
from tests.harness.page_examples import README_URL
from tests.harness.sample_images import make_image

README = (ROOT / "README.md").read_text()


def find_code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with run_sandboxed_gateway(tmp_path_factory.mktemp("readme")) as started:
        yield started


def run_in_shell(command: str, gateway: RunningGateway, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Runs a command of the README in a shell, with the port of the test's gateway."""
    assert README_URL in command
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail\n{command.replace(README_URL, gateway.url)}"],  # noqa: S607
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def find_curl_blocks() -> list[str]:
    return [block for block in find_code_blocks("bash") if "curl" in block and f"{README_URL}/v1" in block]


def test_first_curl_returns_image(gateway: RunningGateway, tmp_path: Path) -> None:
    run_in_shell(find_curl_blocks()[0], gateway, tmp_path)
    with Image.open(tmp_path / "image.png") as image:
        image.load()
        assert (image.format, image.size) == ("PNG", (1024, 1024))


def test_curl_printed_at_startup_returns_image(gateway: RunningGateway, tmp_path: Path) -> None:
    match = re.search(r"curl -s .*?image\.png", gateway.stdout, re.DOTALL)
    assert match is not None
    run_in_shell(match[0].replace(gateway.url, README_URL), gateway, tmp_path)
    with Image.open(tmp_path / "image.png") as image:
        assert image.format == "PNG"


def test_second_curl_shows_job_and_headers(gateway: RunningGateway, tmp_path: Path) -> None:
    head, _, body = run_in_shell(find_curl_blocks()[1], gateway, tmp_path).stdout.partition("\n\n")
    job = json.loads(body)
    assert job["status"] == "completed"
    assert f"x-igw-job-id: {job['id']}" in head
    assert "x-igw-seller: " in head
    assert "x-igw-cost-usd: " in head


def test_openai_client_snippet_runs(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image.png").write_bytes(make_image(96, 64))
    (snippet,) = find_code_blocks("python")
    namespace: dict[str, Any] = {}
    exec(snippet.replace(README_URL, gateway.url), namespace)  # noqa: S102  the test checks that it runs
    namespace["client"].close()
    for answer in (namespace["image"], namespace["edited"]):
        assert answer.data[0].b64_json.startswith("iVBOR")


def test_yaml_example_is_valid_configuration(tmp_path: Path) -> None:
    (yaml,) = find_code_blocks("yaml")
    shutil.copytree(CONFIG, tmp_path / "config")
    (tmp_path / "config" / "policies.yaml").write_text(yaml)
    assert "policies.yaml" in CONFIG_FILES
    assert len(yaml.splitlines()) <= 10
    result = run_command("check", "--without-secrets", "--config", str(tmp_path / "config"))
    assert result.returncode == 0, result.stdout + result.stderr


def test_routing_commands_run(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (block,) = [block for block in find_code_blocks("bash") if "explain" in block]
    for line in block.splitlines():
        command = line.partition(" #")[0].replace(README_URL, gateway.url).split()
        assert command[0] == ".venv/bin/image-gateway"
        result = run_command(*command[1:])
        assert result.returncode == 0, (line, result.stderr)


def test_make_targets_match_readme() -> None:
    commands_block = find_code_blocks("bash")[0]
    targets = re.findall(r"^make (\w+) +#", commands_block, re.MULTILINE)
    assert targets == ["run", "test"]
    for target in targets:
        result = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
        assert {"run": "image-gateway serve --sandbox", "test": "pytest"}[target] in result.stdout


def test_busy_port_error_says_what_to_do(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        result = run_command("serve", "--sandbox", "--port", str(port), "--data", str(tmp_path))
    assert result.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr
    assert "--port or IGW_PORT" in result.stderr
    assert "Traceback" not in result.stderr


def test_without_port_option_next_free_port_is_used(tmp_path: Path) -> None:
    with closing(_occupy_default_port()), run_sandboxed_gateway(tmp_path, ports=()) as started:
        port = int(started.url.rpartition(":")[2])
        assert 8080 < port < 8100
        assert f"curl -s {started.url}/v1/images/generations" in started.stdout
        assert started.http.get("/readyz").json()["ready"]


def _occupy_default_port() -> socket.socket:
    """Occupies the default port, unless another program uses it already."""
    try:
        return socket.create_server(("127.0.0.1", int(ENV_OPTIONS["port"].default or 0)))
    except OSError:
        return socket.socket()


def test_numbers_of_dashboards_and_alerts_are_right() -> None:
    names = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight"}
    dashboards = len(list((ROOT / "deploy/grafana/dashboards").glob("*.json")))
    rules = "".join(path.read_text() for path in (ROOT / "deploy/prometheus/rules").glob("*.yaml"))
    alerts = len(set(re.findall(r"- alert: (\w+)", rules)))
    assert f"{names[dashboards]} Grafana dashboards and {alerts} alerts" in README
