"""The commands of the pages for operators and for users of the command line run as they are printed."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.compose_file import COMPOSE_FILE, list_services
from tests.harness.gateway_environ import get_clean_environ
from tests.harness.gateway_runner import ADMIN_KEY, API_KEY, CONFIG, ROOT, RunningGateway, run_sandboxed_gateway
from tests.harness.sample_images import make_image

pytestmark = pytest.mark.thorough

PROGRAMS = Path(sys.executable).parent


def read_blocks(page: str) -> list[str]:
    """Reads the bash examples of a page, also those within a list."""
    text = (ROOT / "docs" / page).read_text()
    return [match.replace("\n   ", "\n") for match in re.findall(r" *```bash\n(.*?) *```", text, re.DOTALL)]


def find_block(page: str, words: str) -> str:
    (block,) = [block for block in read_blocks(page) if words in block]
    return block


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with run_sandboxed_gateway(tmp_path_factory.mktemp("pages")) as started:
        yield started


def run_block(block: str, folder: Path, allowed_exit_codes: tuple[int, ...] = (0,), **environ: str) -> str:
    """Runs each command of a block in one shell, which ends at the first other exit code. Returns their output."""
    checks = f"check() {{ case $? in {'|'.join(map(str, allowed_exit_codes))}) ;; *) exit 99 ;; esac; }}"
    commands = [line for line in block.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    script = "\n".join([checks, *(f"{command}\ncheck" for command in commands)])
    result = subprocess.run(
        ["bash", "-c", script],  # noqa: S607
        cwd=folder,
        env=get_clean_environ() | {"PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"} | environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, f"{script}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def test_first_commands_of_the_command_line_page(gateway: RunningGateway, tmp_path: Path) -> None:
    run_block(read_blocks("command-line.md")[0], tmp_path, IGW_URL=gateway.url, IGW_KEY=API_KEY)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {"cat.png", "winter.png"} < files
    assert len([name for name in files if name.startswith("out/")]) == 3


def test_commands_for_existing_jobs(gateway: RunningGateway, tmp_path: Path) -> None:
    # The last command exits with 3, since the job has ended.
    output = run_block(
        find_block("command-line.md", "--no-wait"), tmp_path, (0, 3), IGW_URL=gateway.url, IGW_KEY=API_KEY
    )
    assert "job_" in output
    assert (tmp_path / "cat.png").read_bytes().startswith(b"\x89PNG")


def test_key_commands(gateway: RunningGateway, tmp_path: Path) -> None:
    create, change, request = read_blocks("keys.md")
    environ = {"IGW_URL": gateway.url, "URL": gateway.url, "IGW_ADMIN_KEY": ADMIN_KEY}
    key = run_block(create, tmp_path, **environ).strip()
    assert re.fullmatch(r"igw_[0-9a-z]+_\S+", key)
    changed = run_block(change.replace("k3v7q2m5xa", key.split("_")[1]), tmp_path, **environ)
    assert "$5.00/day" in changed
    assert '"images_per_minute":60' in run_block(request, tmp_path, **environ)


def test_routing_commands(tmp_path: Path) -> None:
    (block,) = read_blocks("routing.md")
    output = run_block(block, tmp_path, IGW_CONFIG=str(CONFIG), **{name: f"key of {name}" for name in read_key_names()})
    assert "is valid" in output
    assert list((tmp_path / "schemas").glob("*.json"))


def read_key_names() -> set[str]:
    """Reads the names of the variables that the configuration of the tests refers to."""
    return {name for path in CONFIG.rglob("*.yaml") for name in re.findall(r"env:([A-Z_0-9]+)", path.read_text())}


def test_decision_record_of_sqlite_is_found_and_planned_again(gateway: RunningGateway, tmp_path: Path) -> None:
    read_record, read_from_redis, explain = [
        line for line in find_block("logs.md", "decision_records").splitlines() if not line.startswith("#")
    ]
    assert read_from_redis.startswith("redis-cli HGET 'igw:{NN}:decisions:")
    job_id = gateway.http.post("/v1/jobs", json={"prompt": "a lighthouse"}).json()["id"]
    gateway.wait_until_idle()
    command = read_record.replace("job_NN…", job_id).replace(
        "var/gateway.db", str(gateway.folder / "data" / "gateway.db")
    )
    record, outcome = run_block(command, tmp_path).splitlines()
    assert '"state":"completed"' in outcome
    (tmp_path / "record.json").write_text(record)
    run_block(explain, tmp_path, IGW_CONFIG=str(CONFIG))


def test_new_seller_is_tried_with_one_image(gateway: RunningGateway, tmp_path: Path) -> None:
    block = find_block("operations.md", "--only newseller").replace("newseller", "runapi")
    run_block(block, tmp_path, IGW_URL=gateway.url, IGW_KEY=API_KEY)
    (image,) = tmp_path.glob("*.png")
    assert image.stat().st_size > len(make_image(8, 8))


def test_upgrade_names_existing_services() -> None:
    block = find_block("operations.md", "gateway-2")
    assert str(COMPOSE_FILE.relative_to(ROOT)) in block
    assert set(re.findall(r"gateway-\d", block)) <= set(list_services("live"))
