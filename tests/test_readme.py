"""What the README says is what happens: its commands are run as they stand, against a running gateway."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gateway.config.blocks import FILES
from gateway.settings import OPTIONS
from tests.serving import CONFIG, ROOT, Serving, serving

README = (ROOT / "README.md").read_text()
ADDRESS = "http://127.0.0.1:8080"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("readme")) as running:
        yield running


def copied(command: str, gateway: Serving, folder: Path) -> "subprocess.CompletedProcess[str]":
    """As somebody pastes it into a shell, but for the port."""
    assert ADDRESS in command
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail\n{command.replace(ADDRESS, gateway.url)}"],  # noqa: S607
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def curls() -> list[str]:
    return [block for block in blocks("bash") if "curl" in block and f"{ADDRESS}/v1" in block]


def test_the_first_curl_yields_a_picture(gateway: Serving, tmp_path: Path) -> None:
    copied(curls()[0], gateway, tmp_path)
    with Image.open(tmp_path / "picture.png") as picture:
        picture.load()
        assert (picture.format, picture.size) == ("PNG", (1024, 1024))


def test_the_curl_that_the_command_itself_prints_yields_a_picture_too(gateway: Serving, tmp_path: Path) -> None:
    printed = re.search(r"curl -s .*?picture\.png", gateway.said, re.DOTALL)
    assert printed is not None
    copied(printed[0].replace(gateway.url, ADDRESS), gateway, tmp_path)
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.format == "PNG"


def test_the_second_curl_shows_a_job_and_its_headers(gateway: Serving, tmp_path: Path) -> None:
    head, _, body = copied(curls()[1], gateway, tmp_path).stdout.partition("\n\n")
    job = json.loads(body)
    assert job["status"] == "completed"
    assert f"x-igw-job-id: {job['id']}" in head
    assert "x-igw-seller: " in head
    assert "x-igw-cost-usd: " in head


def test_the_snippet_for_openais_client_runs(gateway: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (snippet,) = blocks("python")
    said: dict[str, Any] = {}
    exec(snippet.replace(ADDRESS, gateway.url), said)  # noqa: S102  that it runs is what is tested
    said["client"].close()
    assert said["picture"].data[0].b64_json.startswith("iVBOR")


def test_the_yaml_is_a_configuration_that_is_right(tmp_path: Path) -> None:
    (yaml,) = blocks("yaml")
    shutil.copytree(CONFIG, tmp_path / "config")
    (tmp_path / "config" / "policies.yaml").write_text(yaml)
    assert "policies.yaml" in FILES
    assert len(yaml.splitlines()) <= 10
    done = run("check", "--without-secrets", "--config", str(tmp_path / "config"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_commands_about_routing_run(gateway: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (block,) = [block for block in blocks("bash") if "explain" in block]
    for line in block.splitlines():
        command = line.partition(" #")[0].replace(ADDRESS, gateway.url).split()
        assert command[0] == ".venv/bin/image-gateway"
        done = run(*command[1:])
        assert done.returncode == 0, (line, done.stderr)


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "gateway.cli", *arguments]
    environ = {**os.environ, "IGW_CONFIG": str(CONFIG)}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=60)


def test_make_knows_the_two_commands() -> None:
    two = blocks("bash")[0]
    targets = re.findall(r"^make (\w+) +#", two, re.MULTILINE)
    assert targets == ["run", "test"]
    for target in targets:
        said = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
        assert {"run": "image-gateway serve --sandbox", "test": "pytest"}[target] in said.stdout


def test_a_port_that_is_taken_is_told_with_what_to_do(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        done = run("serve", "--sandbox", "--port", str(port), "--data", str(tmp_path))
    assert done.returncode == 1
    assert f"127.0.0.1:{port} cannot be listened on" in done.stderr
    assert "--port or IGW_PORT" in done.stderr
    assert "Traceback" not in done.stderr


def test_who_names_no_port_is_served_on_the_next_one_that_is_free(tmp_path: Path) -> None:
    with closing(_taken()), serving(tmp_path, ports=()) as running:
        port = int(running.url.rpartition(":")[2])
        assert 8080 < port < 8100
        assert f"curl -s {running.url}/v1/images/generations" in running.said
        assert running.http.get("/readyz").json()["ready"]


def _taken() -> socket.socket:
    """The usual port, if somebody else does not have it already."""
    try:
        return socket.create_server(("127.0.0.1", int(OPTIONS["port"].default or 0)))
    except OSError:
        return socket.socket()
