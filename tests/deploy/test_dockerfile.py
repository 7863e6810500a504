"""The Dockerfile keeps what deploy/README.md promises of the image. `test_image_contents.py` runs its steps."""

import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.deploy.dockerfile_instructions import DOCKERFILE, ROOT, Stage, list_base_images, read_stages
from tests.harness.ports import reserve_port

HEALTHCHECK = ROOT / "deploy" / "healthcheck.py"


@pytest.fixture(scope="module")
def build_stage() -> Stage:
    return read_stages()[0]


@pytest.fixture(scope="module")
def final_stage() -> Stage:
    return read_stages()[-1]


def test_linter_finds_nothing() -> None:
    linter = str(ROOT / ".venv" / "bin" / "hadolint")
    result = subprocess.run([linter, "--no-color", str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def test_every_stage_starts_from_the_base_image_of_the_build_argument() -> None:
    assert [stage.base for stage in read_stages()] == ["${PYTHON_IMAGE}", "${PYTHON_IMAGE}"]
    (argument,) = list_base_images()
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.11-slim", argument), "the smallest Python that pyproject.toml allows"


def test_packages_are_checked_against_hashes_and_never_compiled(build_stage: Stage) -> None:
    scripts = " && ".join(instruction.words[0] for instruction in build_stage.find_all("RUN"))
    commands = [
        command for command in scripts.split("&&") if re.search(r"\bpip\b.* (download|install|wheel) ", command)
    ]
    assert len(commands) == 4
    for command in commands:
        is_from_index = "--no-index" not in command
        pinned = '--require-hashes --only-binary :all: --requirement "${EXTRA:-runtime}.txt"'
        assert is_from_index == (pinned in command), command
    assert not re.search(r"apt-get|gcc|build-essential", DOCKERFILE.read_text())


def test_final_image_has_no_build_tools_and_no_root(final_stage: Stage) -> None:
    copied = [instruction.words for instruction in final_stage.find_all("COPY")]
    assert copied == [
        ("/opt/image-gateway", "/opt/image-gateway"),
        ("deploy/healthcheck.py", "/opt/image-gateway/healthcheck.py"),
    ]
    user, _, group = final_stage.find_words("USER")[0].partition(":")
    assert user.isdigit(), "Kubernetes' runAsNonRoot needs a number"
    assert int(user) == int(group) > 10_000
    assert f"--owner={user} --group={group} /data" in final_stage.find_words("RUN")[0]


def test_commands_are_lists_so_that_signals_reach_the_gateway(final_stage: Stage) -> None:
    for name in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
        assert final_stage.find_all(name)[-1].is_list, name
    assert (*final_stage.find_words("ENTRYPOINT"), *final_stage.find_words("CMD")) == ("image-gateway", "serve")


def test_extra_of_the_build_argument_is_pinned_and_in_the_package(build_stage: Stage) -> None:
    assert [instruction.words for instruction in build_stage.find_all("ARG")] == [("EXTRA=",)]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    copied = {source for instruction in build_stage.find_all("COPY") for source in instruction.words[:-1]}
    assert {f"deploy/requirements/{name}.txt" for name in ("runtime", *extras)} <= copied
    assert '"image-gateway${EXTRA:+[$EXTRA]}"' in build_stage.find_all("RUN")[-1].words[0]


def test_every_copied_file_passes_the_ignore_file() -> None:
    allowed = {
        line[1:] for line in (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    copied = {
        source
        for stage in read_stages()
        for instruction in stage.find_all("COPY")
        if not instruction.flags
        for source in instruction.words[:-1]
    }
    assert copied == allowed
    assert all((ROOT / name).exists() for name in allowed)


@pytest.fixture
def health_port() -> Iterator[int]:
    """A server whose `/livez` is 200 and whose `/readyz` is 503."""

    class HealthHandler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/livez" else 503)
            self.end_headers()
            self.wfile.write(b"state")

        def log_message(self, *_: object) -> None:
            """Prints nothing."""

    with HTTPServer(("127.0.0.1", 0), HealthHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def check_health(port: int, path: str) -> "subprocess.CompletedProcess[str]":
    environ = {"IGW_PORT": str(port), "http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    command = [sys.executable, str(HEALTHCHECK), path]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=30)


def test_health_check_reports_status_and_body(health_port: int) -> None:
    alive = check_health(health_port, "/livez")
    assert (alive.returncode, alive.stdout) == (0, "200 state\n")
    not_ready = check_health(health_port, "/readyz")
    assert (not_ready.returncode, not_ready.stdout) == (1, "503 state\n")


def test_health_check_of_closed_port_says_what_failed() -> None:
    port = reserve_port()
    result = check_health(port, "/livez")
    assert result.returncode == 1
    assert result.stderr.startswith(f"GET /livez on port {port} failed: ")
