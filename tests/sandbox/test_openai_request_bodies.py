"""Bodies that no SDK sends: OpenAI answers each with its own error format, and charges nothing."""

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient

from sandbox.app import create_app
from sandbox.openai import field_checks, image_params
from sandbox.state import SandboxState
from tests.harness.sandbox_runner import RunningSandbox
from tests.sandbox.openai_client import AUTH_HEADERS

JSON_TYPE, FORM_TYPE = "application/json", "multipart/form-data; boundary=x"
PART_TEMPLATE = b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'


def post_body(sandbox: RunningSandbox, route: str, content_type: str, body: bytes) -> httpx.Response:
    return sandbox.http.post(
        f"/openai/v1/images/{route}", content=body, headers={**AUTH_HEADERS, "content-type": content_type}
    )


def build_form(*parts: tuple[bytes, bytes, bytes]) -> bytes:
    """Builds a form; each part has a name, further header text, and a body."""
    return b"".join(PART_TEMPLATE % part for part in parts) + b"--x--\r\n"


def parse_openai_error(answer: httpx.Response) -> dict[str, Any]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]
    return dict(error)


@pytest.mark.parametrize("route", ["generations", "edits"])
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"7", b"\xff", b"[" * 100_000, b'{"prompt": "\\ud800"}'],
    ids=["empty", "cut off", "list", "number", "no text", "nested too deeply", "lone surrogate"],
)
def test_invalid_json_is_a_bad_request(sandbox, route, body):
    answer = post_body(sandbox, route, JSON_TYPE, body)
    assert answer.status_code == 400
    assert "JSON body" in parse_openai_error(answer)["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        build_form((b"prompt", b"", b"\xff\xfe")),
        build_form((b"prompt", b"\r\nContent-Type: text/plain; charset=nope", b"a")),
        build_form((b"prompt", b"", b"a"))[:-20],
    ],
    ids=["nothing", "no text", "no such charset", "cut off"],
)
def test_invalid_form_is_a_bad_request(sandbox, body):
    answer = post_body(sandbox, "edits", FORM_TYPE, body)
    assert answer.status_code == 400
    assert "multipart form" in parse_openai_error(answer)["message"]


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary="])
def test_form_without_a_boundary_is_a_bad_request(sandbox, content_type):
    assert parse_openai_error(post_body(sandbox, "edits", content_type, b"--x"))
    assert post_body(sandbox, "edits", content_type, b"--x").status_code == 400


@pytest.mark.parametrize(
    ("route", "content_type"),
    [("generations", FORM_TYPE), ("generations", "text/plain"), ("edits", "text/plain"), ("edits", "")],
)
def test_other_content_types_are_unsupported(sandbox, route, content_type):
    answer = post_body(sandbox, route, content_type, b'{"prompt": "a"}')
    assert answer.status_code == 415
    assert parse_openai_error(answer)["code"] == "unsupported_content_type"


def test_error_of_an_image_sent_as_text_names_the_field(sandbox):
    answer = post_body(sandbox, "edits", FORM_TYPE, build_form((b"prompt", b"", b"a"), (b"image[]", b"", b"text")))
    error = parse_openai_error(answer)
    assert (answer.status_code, error["param"], error["code"]) == (400, "image", "invalid_type")


def test_error_of_a_prompt_sent_as_file_names_the_field(sandbox):
    answer = post_body(sandbox, "edits", FORM_TYPE, build_form((b"prompt", b'; filename="a"', b"a")))
    assert (answer.status_code, parse_openai_error(answer)["param"]) == (400, "prompt")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELD_NAMES = st.sampled_from(sorted({*field_checks.EDIT_JSON_CHECKS, "images", "mask"}))


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.dictionaries(FIELD_NAMES | st.text(max_size=6), JSON_VALUES, max_size=6),
    route=st.sampled_from(["generations", "edits"]),
)
def test_any_fields_are_accepted_or_return_an_openai_error(sandbox, fields, route):
    body = {"model": "gpt-image-2", "prompt": "a", "size": "640x1024", **fields}
    answer = sandbox.http.post(f"/openai/v1/images/{route}", json=body, headers=AUTH_HEADERS)
    assert answer.status_code in (200, 400, 404)
    if answer.is_error:
        parse_openai_error(answer)


# Litestar announces deprecations of handler parameters, which are unrelated to this test.
@pytest.mark.filterwarnings("ignore::litestar.exceptions.LitestarDeprecationWarning")
def test_internal_error_is_logged_and_returned_as_openai_error(monkeypatch, caplog):
    monkeypatch.setattr(image_params, "find_model", lambda _: 1 / 0)
    with TestClient(create_app(SandboxState()), raise_server_exceptions=False) as http:
        answer = http.post("/openai/v1/images/generations", json={"prompt": "a"}, headers=AUTH_HEADERS)
    assert answer.status_code == 500
    assert parse_openai_error(answer)["type"] == "server_error"
    assert "ZeroDivisionError" in caplog.text
