"""The examples of docs/jobs.md run as they are printed, against a running gateway."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.gateway_runner import ROOT, RunningGateway, run_sandboxed_gateway
from tests.test_readme import README_URL

PAGE = (ROOT / "docs" / "jobs.md").read_text()
SETUP, *EXAMPLES = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
CREATION = next(example for example in EXAMPLES if "Idempotency-Key" in example)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with run_sandboxed_gateway(tmp_path_factory.mktemp("jobs-page")) as started:
        yield started


def run_example(gateway: RunningGateway, folder: Path, example: str, job_id: str = "") -> str:
    script = f"set -euo pipefail\nJOB={job_id}\n{SETUP.replace(README_URL, gateway.url)}\n{example}"
    command = ["bash", "-c", script]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=True).stdout


def test_examples_run_as_printed(gateway: RunningGateway, tmp_path: Path) -> None:
    created = json.loads(run_example(gateway, tmp_path, CREATION))
    assert (created["status"], len(created["images"]), created["labels"]) == ("completed", 2, ["spring", "homepage"])
    outputs = [run_example(gateway, tmp_path, example, created["id"]) for example in EXAMPLES]
    text = "\n".join(outputs)
    for words in ('"object":"quote"', "event: job.completed", '"object":"list"', "job_ended", '"deleted":true'):
        assert words in text, words
    assert (tmp_path / "image.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "small.webp").read_bytes()[8:12] == b"WEBP"
