"""Bodies that no SDK would send: OpenAI answers every one of them in its own words, and buys nothing."""

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient

from sandbox import openai_fields, openai_request
from sandbox.app import create_app
from sandbox.world import World
from tests.vendors import Vendors

KEY = {"authorization": "Bearer sk-sandbox"}
JSON, FORM = "application/json", "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'


def send(sandbox: Vendors, route: str, content_type: str, body: bytes) -> httpx.Response:
    return sandbox.http.post(f"/openai/v1/images/{route}", content=body, headers={**KEY, "content-type": content_type})


def form(*parts: tuple[bytes, bytes, bytes]) -> bytes:
    """Each part a name, further header text, and what is in it."""
    return b"".join(PART % part for part in parts) + b"--x--\r\n"


def in_openais_words(answer: httpx.Response) -> dict[str, Any]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]
    return dict(error)


@pytest.mark.parametrize("route", ["generations", "edits"])
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"7", b"\xff", b"[" * 100_000, b'{"prompt": "\\ud800"}'],
    ids=["empty", "cut off", "list", "number", "no text", "nested too deeply", "half a letter"],
)
def test_broken_json_is_a_callers_mistake(sandbox, route, body):
    answer = send(sandbox, route, JSON, body)
    assert answer.status_code == 400
    assert "JSON body" in in_openais_words(answer)["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        form((b"prompt", b"", b"\xff\xfe")),
        form((b"prompt", b"\r\nContent-Type: text/plain; charset=nope", b"a")),
        form((b"prompt", b"", b"a"))[:-20],
    ],
    ids=["nothing", "no text", "no such charset", "cut off"],
)
def test_a_broken_form_is_a_callers_mistake(sandbox, body):
    answer = send(sandbox, "edits", FORM, body)
    assert answer.status_code == 400
    assert "multipart form" in in_openais_words(answer)["message"]


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary="])
def test_a_form_without_a_boundary_is_a_callers_mistake(sandbox, content_type):
    assert in_openais_words(send(sandbox, "edits", content_type, b"--x"))
    assert send(sandbox, "edits", content_type, b"--x").status_code == 400


@pytest.mark.parametrize(
    ("route", "content_type"),
    [("generations", FORM), ("generations", "text/plain"), ("edits", "text/plain"), ("edits", "")],
)
def test_another_content_type_is_not_supported(sandbox, route, content_type):
    answer = send(sandbox, route, content_type, b'{"prompt": "a"}')
    assert answer.status_code == 415
    assert in_openais_words(answer)["code"] == "unsupported_content_type"


def test_a_picture_sent_as_a_text_is_refused_by_name(sandbox):
    answer = send(sandbox, "edits", FORM, form((b"prompt", b"", b"a"), (b"image[]", b"", b"text")))
    error = in_openais_words(answer)
    assert (answer.status_code, error["param"], error["code"]) == (400, "image", "invalid_type")


def test_a_prompt_sent_as_a_file_is_refused_by_name(sandbox):
    answer = send(sandbox, "edits", FORM, form((b"prompt", b'; filename="a"', b"a")))
    assert (answer.status_code, in_openais_words(answer)["param"]) == (400, "prompt")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(sorted({*openai_fields.EDIT_JSON, "images", "mask"}))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.dictionaries(NAMES | st.text(max_size=6), VALUES, max_size=6),
    route=st.sampled_from(["generations", "edits"]),
)
def test_any_fields_are_sold_or_refused_in_openais_words(sandbox, fields, route):
    body = {"model": "gpt-image-2", "prompt": "a", "size": "640x1024", **fields}
    answer = sandbox.http.post(f"/openai/v1/images/{route}", json=body, headers=KEY)
    assert answer.status_code in (200, 400, 404)
    if answer.is_error:
        in_openais_words(answer)


# Litestar announces new spellings for parameters of its handlers: nothing that a mistake could hide in.
@pytest.mark.filterwarnings("ignore::litestar.exceptions.LitestarDeprecationWarning")
def test_a_mistake_of_the_sandbox_itself_is_logged_and_told_in_the_vendors_words(monkeypatch, caplog):
    monkeypatch.setattr(openai_request, "model_of", lambda _: 1 / 0)
    with TestClient(create_app(World()), raise_server_exceptions=False) as http:
        answer = http.post("/openai/v1/images/generations", json={"prompt": "a"}, headers=KEY)
    assert answer.status_code == 500
    assert in_openais_words(answer)["type"] == "server_error"
    assert "ZeroDivisionError" in caplog.text
