"""The examples of docs/batches.md run as they are printed, against a running gateway."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.gateway_runner import ROOT, RunningGateway, run_sandboxed_gateway
from tests.harness.page_examples import README_URL, run_bash_example

pytestmark = pytest.mark.thorough

PAGE = (ROOT / "docs" / "batches.md").read_text()
(PYTHON_EXAMPLE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SETUP, CURL_EXAMPLE = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with run_sandboxed_gateway(tmp_path_factory.mktemp("batches-page")) as started:
        yield started


def test_sdk_example_runs_as_printed(gateway: RunningGateway) -> None:
    command = [sys.executable, "-c", PYTHON_EXAMPLE.replace(README_URL, gateway.url)]
    output = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert output.startswith("completed BatchRequestCounts(completed=3, failed=0, total=3)")
    assert sorted(re.findall(r"^cat-\d", output, re.MULTILINE)) == ["cat-0", "cat-1", "cat-2"]


def test_curl_example_runs_as_printed(gateway: RunningGateway, tmp_path: Path) -> None:
    run_bash_example(gateway, tmp_path, f"{SETUP}\n{CURL_EXAMPLE}")
    (line,) = (tmp_path / "results.jsonl").read_text().splitlines()
    assert json.loads(line)["custom_id"] == "cat-1"
