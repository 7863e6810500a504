"""The examples of docs/responses.md run as they are printed, against a running gateway."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.gateway_runner import ROOT, RunningGateway, run_sandboxed_gateway
from tests.harness.page_examples import README_URL

pytestmark = pytest.mark.thorough

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "responses.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with run_sandboxed_gateway(tmp_path_factory.mktemp("responses-page")) as started:
        yield started


def test_examples_run_as_printed(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec("\n".join(EXAMPLES).replace(README_URL, gateway.url), names)  # noqa: S102  the test checks that it runs
    names["client"].close()
    assert (tmp_path / "image.png").read_bytes().startswith(b"\x89PNG")
    assert [names[name].output[0].action for name in ("response", "edited", "added")] == ["generate", "edit", "edit"]
    assert names["types"][-1] == names["last"] == "response.completed"
    assert names["streamed"].output[0].size == "1536x1024"
