"""The examples of docs/jobs.md run as they are printed, against a running gateway."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.gateway_runner import ROOT, RunningGateway, run_sandboxed_gateway
from tests.harness.page_examples import run_bash_example

pytestmark = pytest.mark.thorough

PAGE = (ROOT / "docs" / "jobs.md").read_text()
SETUP, *EXAMPLES = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
CREATION = next(example for example in EXAMPLES if "Idempotency-Key" in example)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with run_sandboxed_gateway(tmp_path_factory.mktemp("jobs-page")) as started:
        yield started


def run_example(gateway: RunningGateway, folder: Path, example: str, job_id: str = "") -> str:
    return run_bash_example(gateway, folder, f"JOB={job_id}\n{SETUP}\n{example}")


def test_examples_run_as_printed(gateway: RunningGateway, tmp_path: Path) -> None:
    created = json.loads(run_example(gateway, tmp_path, CREATION))
    assert (created["status"], len(created["images"]), created["labels"]) == ("completed", 2, ["spring", "homepage"])
    outputs = [run_example(gateway, tmp_path, example, created["id"]) for example in EXAMPLES]
    text = "\n".join(outputs)
    for words in ('"object":"quote"', "event: job.completed", '"object":"list"', "job_ended", '"deleted":true'):
        assert words in text, words
    assert (tmp_path / "image.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "small.webp").read_bytes()[8:12] == b"WEBP"
