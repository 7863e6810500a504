"""What every answer to a mistake must be like."""

from typing import Any

import httpx

JOBS, IMAGES = "/v1/jobs", "/v1/images/generations"
JSON = {"content-type": "application/json"}
TRACES = ("Traceback", "msgspec", "litestar", 'File "', ".py", "`")


def refused(answer: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """A final refusal in the form of its route; returns its error."""
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
    error = told(answer)
    assert code in (None, error["code"]), error
    return error


def told(answer: httpx.Response) -> dict[str, Any]:
    """OpenAI's envelope on its routes, a problem that holds the same error on ours."""
    said = answer.json()
    error = said["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"], "it says what to do"
    assert not [trace for trace in TRACES if trace in answer.text], answer.text
    if answer.request.url.path.startswith(("/v1/images", "/v1/models", "/openai/", "/images/")):
        assert answer.headers["content-type"] == "application/json"
        assert set(said) == {"error"}
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(said) == {"type", "title", "status", "detail", "request_id", "error"}
        assert (said["status"], said["detail"]) == (answer.status_code, error["message"])
        assert said["request_id"] == answer.headers["x-request-id"]
        assert said["type"].endswith(error["code"])
    found: dict[str, Any] = error
    return found
