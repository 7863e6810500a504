"""The installed package works without the repository: it starts, plans and writes its configuration."""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import venv
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.harness.child_spec import NO_CHANGES
from tests.harness.gateway_process import GatewayProcess

pytestmark = pytest.mark.thorough
ROOT = Path(__file__).parent.parent
SHIPPED_FILES = {path.relative_to(ROOT / "config"): path.read_bytes() for path in (ROOT / "config").rglob("*.yaml")}
CLEAN_ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith(("IGW_", "REDIS_", "PYTHON"))}

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [*PIP, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", str(folder), str(ROOT)], check=True
    )
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """Installs the wheel into its own environment; dependencies come from the current one, which is quick."""
    environment = tmp_path_factory.mktemp("installed") / "venv"
    program = install_wheel(environment, wheel)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return program


@pytest.fixture(scope="module")
def program_of_locked_packages(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """Installs the wheel into an environment with the pinned packages for production, and no others."""
    environment = tmp_path_factory.mktemp("production") / "venv"
    requirements = str(ROOT / "deploy" / "requirements" / "runtime.txt")
    return install_wheel(environment, wheel, "--require-hashes", "--only-binary", ":all:", "-r", requirements)


def install_wheel(environment: Path, wheel: Path, *requirements: str) -> Path:
    """Creates the environment, installs the requirements and the wheel, and returns the installed program."""
    venv.create(environment, with_pip=False)
    install = [*PIP, "--python", str(environment / "bin" / "python"), "install"]
    if requirements:
        subprocess.run([*install, *requirements], check=True)
    subprocess.run([*install, "--no-deps", "--no-index", str(wheel)], check=True)
    return environment / "bin" / "image-gateway"


def run_program(program: Path, folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """Runs the installed program, or its Python: `cli_runner.run_command` runs the repository's."""
    return subprocess.run(
        [program, *command], cwd=folder, env=CLEAN_ENVIRON, capture_output=True, text=True, check=False, timeout=60
    )


def test_wheel_is_complete(program: Path, tmp_path: Path) -> None:
    imports = "import gateway; from gateway.store.redis.scripts import CLAIM_JOB"
    code = f"{imports}; print(gateway.__file__, len(CLAIM_JOB.text))"
    result = run_program(program.with_name("python"), tmp_path, "-c", code)
    assert result.returncode == 0, result.stderr
    assert str(ROOT / "gateway") not in result.stdout


def test_commands_fall_back_to_shipped_configuration(program: Path, tmp_path: Path) -> None:
    checked = run_program(program, tmp_path, "check", "--without-secrets", "--quiet")
    assert checked.returncode == 0, checked.stderr
    assert "is valid" in checked.stdout
    explained = run_program(program, tmp_path, "explain", "--size", "1024x1024")
    assert explained.returncode == 0, explained.stderr
    missing = run_program(program, tmp_path, "check", "--config", "config")
    assert missing.returncode == 1
    assert "Folder not found" in missing.stderr, "a folder given by --config has no fallback"


def test_install_commands_of_the_page_for_operators(program: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    commands = re.findall(r"^gateway-venv/bin/image-gateway (.*?)(?: +#.*)?$", page, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["init", "check", "doctor", "serve"]
    *preparations, _ = [run_program(program, tmp_path, *command.split()) for command in commands[:-1]]
    assert [result.returncode for result in preparations] == [0, 0]
    doctor = run_program(program, tmp_path, *commands[2].split())
    assert (doctor.returncode, doctor.stderr) == (1, ""), "no seller has a key yet"
    assert "env:RUNAPI_API_KEY" in doctor.stdout


def test_install_command_of_the_page_of_traces(program: Path, wheel: Path) -> None:
    """It takes the file, and the extra exists. Nothing is downloaded or changed."""
    page = (ROOT / "docs" / "traces.md").read_text()
    (command,) = re.findall(r"^gateway-venv/bin/pip install (\S.*?\S)  +#", page, re.MULTILINE)
    pip = shlex.join([*PIP, "--python", str(program.with_name("python")), "install", "--no-deps", "--no-index"])
    script = f"{pip} --dry-run --force-reinstall {command}"
    result = subprocess.run(["bash", "-c", script], cwd=wheel.parent, capture_output=True, text=True, check=False)  # noqa: S607
    assert (result.returncode, "does not provide the extra" in result.stderr) == (0, False), result.stderr


def test_init_writes_configuration_and_overwrites_nothing(program: Path, tmp_path: Path) -> None:
    result = run_program(program, tmp_path, "init")
    assert result.returncode == 0, result.stderr
    assert f"Wrote {len(SHIPPED_FILES)} files to config." in result.stdout
    assert "image-gateway check --without-secrets " in result.stdout
    config = tmp_path / "config"
    assert {
        path.relative_to(config): path.read_bytes() for path in config.rglob("*") if path.is_file()
    } == SHIPPED_FILES
    (config / "teams.yaml").write_text("teams: {}\n")
    second = run_program(program, tmp_path, "init")
    assert (second.returncode, "not empty" in second.stderr) == (1, True)
    assert (config / "teams.yaml").read_text() == "teams: {}\n"
    elsewhere = run_program(program, tmp_path, "init", "else/where")
    assert "serve --sandbox --config else/where" in elsewhere.stdout
    checked = run_program(program, tmp_path, "check", "--without-secrets", "-q", "--config", "else/where")
    assert "else/where is valid" in checked.stdout


def test_wheel_and_locked_packages_draw_an_image_in_an_empty_folder(
    program_of_locked_packages: Path, tmp_path: Path
) -> None:
    program = program_of_locked_packages
    declared = subprocess.run([*PIP, "--python", str(program.with_name("python")), "check"], check=False)
    assert declared.returncode == 0, "the lock file has every package that the wheel requires"
    with InstalledGateway(tmp_path, program) as gateway:
        gateway.start()
        params = {"prompt": "a lighthouse", "quality": "low"}
        with gateway.make_client(timeout_seconds=30, api_key="igw_sandbox") as client:
            response = client.post("/v1/images/generations", json=params)
            document = client.get("/openapi.json")
        assert response.status_code == 200, response.text
        with Image.open(BytesIO(b64decode(response.json()["data"][0]["b64_json"]))) as image:
            image.load()
            assert (image.format, image.size) == ("PNG", (1024, 1024))
        assert document.status_code == 200, "the table of errors is shipped"
        gateway.stop()
    assert "image-gateway init" in gateway.stderr


class InstalledGateway(GatewayProcess):
    """The installed program in an empty folder, without any variable that could lead it to the repository."""

    def __init__(self, folder: Path, program: Path) -> None:
        super().__init__(folder, child=NO_CHANGES, start_method="exec")
        self.working_folder = folder
        self._program = program

    def make_program(self) -> list[str]:
        return [str(self._program)]

    def make_arguments(self) -> list[str]:
        return ["serve", "--sandbox", "--port", str(self.port)]

    def make_environ(self) -> dict[str, str]:
        return CLEAN_ENVIRON
