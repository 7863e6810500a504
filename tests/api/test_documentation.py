"""The documentation that the gateway serves: its examples run as they are printed."""

import base64
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest

from gateway.api.reference.code_examples import PYTHON_SETUP
from gateway.api.reference.shared_documentation import EXAMPLE_IMAGE
from gateway.api.responses_api.response_ids import make_response_id
from tests.api.documented_responses import check_response
from tests.api.job_requests import create_finished_job
from tests.harness.gateway_runner import ADMIN_KEY, API_KEY, RunningGateway
from tests.harness.key_admin import create_key

DOCUMENTS = {
    "/openapi.json": "application/json",
    "/docs": "text/html; charset=utf-8",
    "/docs.md": "text/markdown; charset=utf-8",
    "/llms.txt": "text/plain; charset=utf-8",
}
ID_NAMES = ("job_id", "response_id", "key_id", "model_id")
OVERRIDE_ID = "OVERRIDE_ID"
Operation = tuple[str, str, dict[str, Any]]


@pytest.fixture(scope="module")
def document(gateway_process: RunningGateway) -> dict[str, Any]:
    document: dict[str, Any] = gateway_process.http.get("/openapi.json").json()
    return document


def iterate_operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield method.upper(), path, operation


@pytest.mark.parametrize("path", DOCUMENTS)
def test_documents_are_served_without_key_and_revalidated(gateway: RunningGateway, path: str) -> None:
    answer = httpx.get(f"{gateway.url}{path}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == DOCUMENTS[path]
    assert 'rel="describedby"' in answer.headers["link"]
    etag = answer.headers["etag"]
    for condition in (etag, f'"other", W/{etag}', "*"):
        unchanged = httpx.get(f"{gateway.url}{path}", headers={"if-none-match": condition})
        assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", etag)
    assert httpx.get(f"{gateway.url}{path}", headers={"if-none-match": '"other"'}).content == answer.content
    head = httpx.head(f"{gateway.url}{path}")
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", etag)


def test_examples_of_bodies_are_accepted(gateway: RunningGateway, document: dict[str, Any]) -> None:
    """Every example is a valid request, and its response has exactly the documented fields."""
    count = 0
    for method, path, operation in iterate_operations(document):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        for name, example in content.get("examples", {}).items():
            path = path.replace("{key_id}", create_key(gateway)["id"])
            key = ADMIN_KEY if operation["security"] == [{"bearer": ["admin"]}] else API_KEY
            headers = {"authorization": f"Bearer {key}"}
            answer = gateway.http.request(method, path, json=example["value"], headers=headers)
            assert answer.is_success, f"{method} {path}, {name}: {answer.text}"
            check_response(document, operation, answer)
            count += 1
    assert count >= 5


def list_code_samples(document: dict[str, Any], language: str) -> list[tuple[dict[str, Any], str]]:
    return [
        (operation, sample["source"])
        for _, _, operation in iterate_operations(document)
        for sample in operation.get("x-codeSamples", ())
        if sample["lang"] == language
    ]


@pytest.fixture
def example_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the files that the examples send."""
    (tmp_path / "cat.png").write_bytes(base64.b64decode(EXAMPLE_IMAGE.partition(",")[2]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_environ(gateway: RunningGateway, source: str) -> dict[str, str]:
    """Makes the variables that an example needs."""
    job_id, key_id = create_finished_job(gateway)["id"], create_key(gateway)["id"]
    keys = {"IGW_KEY": API_KEY, "IGW_ADMIN_KEY": ADMIN_KEY, "NO_PROXY": "*"}
    ids = {"JOB_ID": job_id, "RESPONSE_ID": make_response_id(job_id), "KEY_ID": key_id, "MODEL_ID": "gpt-image-2"}
    if OVERRIDE_ID in source.upper():
        ids[OVERRIDE_ID] = raise_budget(gateway)
    return {"IGW_URL": gateway.url, **keys, **ids}


def raise_budget(gateway: RunningGateway) -> str:
    override = {"team": "marketing", "window": "day", "amount": "80.00", "duration": "1h", "reason": "a test"}
    answer = gateway.http.post("/v1/admin/budgets", json=override, headers={"authorization": f"Bearer {ADMIN_KEY}"})
    return str(answer.json()["id"])


@pytest.mark.usefixtures("example_folder")
def test_curl_examples_run_as_printed(gateway: RunningGateway, document: dict[str, Any]) -> None:
    samples = list_code_samples(document, "bash")
    assert len(samples) >= 15
    for operation, source in samples:
        # The function adds the status to the output, as the last line.
        script = f'curl() {{ command curl -w "\\n%{{http_code}}" "$@"; }}\n{source}'
        environ = os.environ | make_environ(gateway, source)
        result = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, timeout=60, check=True)  # noqa: S607
        body, _, status = result.stdout.rpartition(b"\n")
        assert status.startswith(b"2"), f"{source}\n{body[:500]!r} {status!r}"
        assert status.decode() in operation["responses"], source


@pytest.mark.usefixtures("example_folder")
def test_python_examples_run_as_printed(gateway: RunningGateway, document: dict[str, Any]) -> None:
    samples = list_code_samples(document, "python")
    assert len(samples) >= 10
    for _, source in samples:
        environ = make_environ(gateway, source)
        names = [name for name in (*ID_NAMES, OVERRIDE_ID.lower()) if name.upper() in environ]
        variables: dict[str, Any] = {name: environ[name.upper()] for name in names}
        with patch.dict(os.environ, environ):
            exec(f"{PYTHON_SETUP}\n{source}", variables)  # noqa: S102  the examples are the gateway's own
        assert variables["response"], source
