"""OpenAI's node SDK against the simulated OpenAI: the same wire, read by another client."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import vendors
from tests.clients.openai_python import bill
from tests.clients.pictures import drawn, opened

HERE = Path(__file__).parent / "openai_node"
# The machine's own node, or the one that `deploy/setup.sh dev` puts beside this Python where there is none.
PATH = f"{os.environ.get('PATH', '')}{os.pathsep}{Path(sys.executable).parent}"


@pytest.fixture(scope="session")
def node() -> str:
    """The program, with the SDK installed exactly as locked. Parallel test processes install it once."""
    found = shutil.which("node", path=PATH), shutil.which("npm", path=PATH)
    assert all(found), "node and npm are needed: run deploy/setup.sh dev"
    with (HERE / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _installed():
            command = [found[1], "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            subprocess.run(command, cwd=HERE, check=True, env={**os.environ, "PATH": PATH}, capture_output=True)
    return str(found[0])


def _installed() -> bool:
    """npm writes its own copy of the lock last, so that a half-finished installation has none."""
    copy = HERE / "node_modules" / ".package-lock.json"
    return copy.exists() and _openai(copy) == _openai(HERE / "package-lock.json")


def _openai(lock: Path) -> object:
    return json.loads(lock.read_text())["packages"]["node_modules/openai"]["integrity"]


@pytest.fixture(scope="module")
def bought(node: str) -> Iterator[SimpleNamespace]:
    """All that the client bought and read, and the invoice for it: one run, because node takes a while to start."""
    pictures = {"first": drawn(900, 300), "second": drawn(64, 64, "JPEG"), "mask": drawn(900, 300, mode="RGBA")}
    given = json.dumps({name: base64.b64encode(data).decode() for name, data in pictures.items()})
    with vendors.running() as sandbox:
        sandbox.reset()
        command = [node, str(HERE / "client.mjs"), f"{sandbox.url}/openai/v1"]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        results = json.loads(done.stdout, object_hook=lambda members: SimpleNamespace(**members))
        yield SimpleNamespace(charges=sandbox.charges("openai"), **vars(results))


def test_generate(bought: Any) -> None:
    assert [opened(image.b64_json).size for image in bought.generate.data] == [(1536, 864)] * 2
    assert (bought.generate.size, bought.generate.quality) == ("1536x864", "low")
    assert bought.request_id == bought.charges[0]["id"]


def test_edit_with_two_images_and_a_mask(bought: Any) -> None:
    picture = opened(bought.edit.data[0].b64_json)
    assert (picture.size, picture.format) == ((1536, 1024), "WEBP")
    assert bought.edit.usage.input_tokens_details.image_tokens == 3 * 256


def test_streams(bought: Any) -> None:
    partial, completed = "image_generation.partial_image", "image_generation.completed"
    assert [event.type for event in bought.stream] == [partial, partial, completed]
    assert {opened(event.b64_json).size for event in bought.stream} == {(1024, 1024)}
    assert [event.type for event in bought.streamed_edit] == ["image_edit.completed"]


def test_the_invoice_is_what_the_answers_say(bought: Any) -> None:
    answers = [bought.generate, bought.edit, bought.stream[-1], bought.streamed_edit[-1]]
    assert [line["usd_micros"] for line in bought.charges] == [bill(answer.usage) for answer in answers]


def test_models(bought: Any) -> None:
    assert "gpt-image-2" in bought.models


@pytest.mark.parametrize(
    ("name", "kind", "status", "code"),
    [
        ("wrong_size", "BadRequestError", 400, "invalid_value"),
        ("wrong_model", "NotFoundError", 404, "model_not_found"),
        ("wrong_key", "AuthenticationError", 401, "invalid_api_key"),
    ],
)
def test_errors(bought: Any, name: str, kind: str, status: int, code: str) -> None:
    error = getattr(bought, name)
    assert (error.kind, error.status, error.code) == (kind, status, code)
    assert error.requestID


def test_the_lock_names_no_registry() -> None:
    """Whoever installs uses the registry that the machine is set up for."""
    assert "resolved" not in (HERE / "package-lock.json").read_text()
