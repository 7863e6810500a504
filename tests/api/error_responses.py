"""Checks that an error response has the form of its route."""

import re
from typing import Any

import httpx

from gateway.api.charge_sentences import CHARGE_SENTENCES

JOBS_PATH, IMAGES_PATH, EDITS_PATH = "/v1/jobs", "/v1/images/generations", "/v1/images/edits"
JSON_HEADERS = {"content-type": "application/json"}
OPENAI_PREFIXES = (
    *("/v1/images", "/v1/models", "/v1/files", "/v1/batches", "/v1/responses"),
    *("/openai/", "/images/", "/models", "/responses"),
    *("/v1/chat/", "/v1/embeddings", "/v1/audio/", "/chat/", "/v1/moderations", "/v1/videos/"),
)
PREFIXES_WITHOUT_ORDERS = (
    *("/callbacks/", "/v1/admin/", "/v1/jobs/job_", "/v1/quotes"),
    *("/v1/responses/resp_", "/openai/v1/responses/resp_", "/responses/resp_"),
)
INTERNAL_TRACES = ("Traceback", "msgspec", "litestar", 'File "', ".py", "`")


def expect_final_error(answer: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """Expects an error that clients must not retry; returns the error object."""
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
    error = parse_error(answer)
    assert code in (None, error["code"]), error
    return error


def count_charge_sentences(message: str) -> int:
    return sum(message.count(sentence) for sentence in CHARGE_SENTENCES)


def parse_error(answer: httpx.Response) -> dict[str, Any]:
    """Checks OpenAI's error body on its routes, a problem with the same error elsewhere; returns the error object."""
    body = answer.json()
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"], "the message is empty"
    if answer.request.method == "POST" and not answer.request.url.path.startswith(PREFIXES_WITHOUT_ORDERS):
        assert count_charge_sentences(error["message"]) == 1, error["message"]
    assert not [trace for trace in INTERNAL_TRACES if trace in answer.text], answer.text
    if re.sub("//+", "/", answer.request.url.path).startswith(OPENAI_PREFIXES):
        assert answer.headers["content-type"] == "application/json"
        assert set(body) == {"error"}
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(body) == {"type", "title", "status", "detail", "request_id", "error"}
        assert (body["status"], body["detail"]) == (answer.status_code, error["message"])
        assert body["request_id"] == answer.headers["x-request-id"]
        assert body["type"].endswith(error["code"])
    typed_error: dict[str, Any] = error
    return typed_error
