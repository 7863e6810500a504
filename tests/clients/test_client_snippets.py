"""The snippets of docs/clients.md run as they are printed there."""

import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.clients.client_table import CLIENTS, ClientEntry
from tests.clients.contract import find_interpreter, make_client_environ
from tests.harness.gateway_runner import RunningGateway
from tests.harness.node_sdk import PROGRAM_FOLDER, find_node_program

SNIPPET_FOLDER = Path(__file__).parent / "snippets"
PRINTED_URL = "http://127.0.0.1:8080"


def make_snippet_command(client: ClientEntry, text: str, folder: Path) -> list[str]:
    if client.runtime == "node":
        # Node finds packages from the folder of a program.
        (folder / "node_modules").symlink_to(PROGRAM_FOLDER / "node_modules")
    path = folder / client.snippet
    path.write_text(text)
    if path.suffix == ".sh":
        return ["bash", str(path)]
    return [find_node_program() if client.runtime == "node" else find_interpreter(client), str(path)]


@pytest.mark.parametrize("entry", CLIENTS, ids=[entry.id for entry in CLIENTS])
def test_snippet_makes_an_image(gateway: RunningGateway, entry: ClientEntry, tmp_path: Path) -> None:
    printed = (SNIPPET_FOLDER / entry.snippet).read_text()
    assert PRINTED_URL in printed
    command = make_snippet_command(entry, printed.replace(PRINTED_URL, gateway.url), tmp_path)
    completed = subprocess.run(
        command, cwd=tmp_path, env=make_client_environ(), capture_output=True, text=True, timeout=60, check=False
    )
    assert completed.returncode == 0, completed.stderr
    with Image.open(tmp_path / "image.png") as image:
        assert image.size == (1024, 1024)


def test_no_snippet_is_unused() -> None:
    assert {path.name for path in SNIPPET_FOLDER.iterdir()} == {client.snippet for client in CLIENTS}
