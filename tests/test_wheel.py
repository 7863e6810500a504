"""The package as it is installed: away from the repository it starts, plans, and writes its configuration out."""

import contextlib
import os
import re
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parent.parent
SHIPPED = {path.relative_to(ROOT / "config"): path.read_bytes() for path in (ROOT / "config").rglob("*.yaml")}
OUTSIDE = {name: value for name, value in os.environ.items() if not name.startswith(("IGW_", "REDIS_", "PYTHON"))}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built and installed into an environment of its own; what it depends on is borrowed from this one."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ("--no-deps", "--no-index")
    subprocess.run([*pip, "wheel", *offline, "--no-build-isolation", "-w", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("*.whl")
    home = folder / "venv"
    venv.create(home, with_pip=False)
    subprocess.run([*pip, "--python", str(home / "bin" / "python"), "install", *offline, str(wheel)], check=True)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return home / "bin" / "image-gateway"


def ran(program: Path, folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [program, *command], cwd=folder, env=OUTSIDE, capture_output=True, text=True, check=False, timeout=60
    )


def test_wheel_is_complete(program: Path, tmp_path: Path) -> None:
    asked = "import gateway; from gateway.store.redis.scripts import CLAIM; print(gateway.__file__, len(CLAIM.text))"
    said = ran(program.with_name("python"), tmp_path, "-c", asked)
    assert said.returncode == 0, said.stderr
    assert str(ROOT / "gateway") not in said.stdout


def test_commands_use_the_shipped_configuration_where_there_is_none(program: Path, tmp_path: Path) -> None:
    checked = ran(program, tmp_path, "check", "--without-secrets", "--quiet")
    assert checked.returncode == 0, checked.stderr
    assert "is valid" in checked.stdout
    explained = ran(program, tmp_path, "explain", "--size", "1024x1024")
    assert explained.returncode == 0, explained.stderr
    named = ran(program, tmp_path, "check", "--config", "config")
    assert named.returncode == 1
    assert "there is no such folder" in named.stderr, "one that was named is not replaced"


def test_init_writes_the_configuration_and_overwrites_nothing(program: Path, tmp_path: Path) -> None:
    said = ran(program, tmp_path, "init")
    assert said.returncode == 0, said.stderr
    assert f"Wrote {len(SHIPPED)} files to config." in said.stdout
    assert "image-gateway check --without-secrets " in said.stdout
    written = tmp_path / "config"
    assert {path.relative_to(written): path.read_bytes() for path in written.rglob("*") if path.is_file()} == SHIPPED
    (written / "teams.yaml").write_text("teams: {}\n")
    again = ran(program, tmp_path, "init")
    assert (again.returncode, "not empty" in again.stderr) == (1, True)
    assert (written / "teams.yaml").read_text() == "teams: {}\n"
    elsewhere = ran(program, tmp_path, "init", "else/where")
    assert "serve --sandbox --config else/where" in elsewhere.stdout
    checked = ran(program, tmp_path, "check", "--without-secrets", "-q", "--config", "else/where")
    assert "else/where is valid" in checked.stdout


def test_sandbox_sells_an_image_in_an_empty_folder(program: Path, tmp_path: Path) -> None:
    with served(program, tmp_path) as url:
        asked = {"prompt": "a lighthouse", "quality": "low"}
        key = {"authorization": "Bearer igw_sandbox"}
        answer = httpx.post(f"{url}/v1/images/generations", json=asked, headers=key, trust_env=False, timeout=30)
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"][0]["b64_json"]
    assert "image-gateway init" in (tmp_path / "stderr").read_text()


@contextlib.contextmanager
def served(program: Path, folder: Path) -> Iterator[str]:
    out, err = folder / "stdout", folder / "stderr"
    with out.open("w") as stdout, err.open("w") as stderr:
        command = [program, "serve", "--sandbox", "--port", "0"]
        process = subprocess.Popen(command, cwd=folder, env=OUTSIDE, stdout=stdout, stderr=stderr)
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"listening on (http\S+)", out.read_text())):
            assert process.poll() is None, err.read_text()
            assert time.monotonic() < deadline, "it does not listen"
            time.sleep(0.02)
        yield found[1]
    finally:
        process.terminate()
        process.wait(timeout=20)
