"""The examples of docs/batches.md run as they are printed, against a running gateway."""

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.harness.gateway_runner import ROOT, RunningGateway
from tests.test_jobs_page import gateway, run_example  # noqa: F401  gateway: a fixture
from tests.test_readme import README_URL

PAGE = (ROOT / "docs" / "batches.md").read_text()
(PYTHON_EXAMPLE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
_, CURL_EXAMPLE = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)


def test_sdk_example_runs_as_printed(gateway: RunningGateway) -> None:  # noqa: F811  a fixture
    command = [sys.executable, "-c", PYTHON_EXAMPLE.replace(README_URL, gateway.url)]
    output = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert output.startswith("completed BatchRequestCounts(completed=3, failed=0, total=3)")
    assert sorted(re.findall(r"^cat-\d", output, re.MULTILINE)) == ["cat-0", "cat-1", "cat-2"]


def test_curl_example_runs_as_printed(gateway: RunningGateway, tmp_path: Path) -> None:  # noqa: F811  a fixture
    run_example(gateway, tmp_path, CURL_EXAMPLE)
    (line,) = (tmp_path / "results.jsonl").read_text().splitlines()
    assert json.loads(line)["custom_id"] == "cat-1"
