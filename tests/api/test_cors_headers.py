"""Web pages of configured origins may call the API from a browser (CORS), and no others."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.config.value_types import WebOrigin
from tests.api.error_responses import IMAGES_PATH, JOBS_PATH
from tests.api.raw_http import AUTHORIZATION_HEADER, connect, read_response
from tests.harness.gateway_runner import API_KEY, CONFIG, RunningGateway, run_sandboxed_gateway
from tests.harness.wait import wait_until

ORIGIN, OTHER_ORIGIN = "https://app.example.com", "https://app.example.com.evil.example"
ORIGINS = [ORIGIN, "http://localhost:5173", "tauri://localhost"]
ADMIN_KEYS_PATH = "/v1/admin/keys"
PREFLIGHT = {
    "origin": ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os",
}
IMAGE_BODY = {"prompt": "a lighthouse", "quality": "low"}


def write_origins(folder: Path, origins: list[str]) -> None:
    (folder / "config" / "gateway.yaml").write_text(f"cors: {{origins: {origins}}}\n")


@pytest.fixture(scope="module")
def open_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("open")
    shutil.copytree(CONFIG, folder / "config")
    write_origins(folder, ORIGINS)
    with run_sandboxed_gateway(folder, "--config", str(folder / "config")) as running:
        running.sandbox.set_latency(0.0)
        yield running


def list_cross_origin_headers(answer: httpx.Response) -> dict[str, str]:
    """Returns the headers. Of those with which the response varies, only the origin counts."""
    headers = {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}
    return headers | ({"vary": "origin"} if "origin" in answer.headers.get("vary", "").lower() else {})


ALLOWED = {"access-control-allow-origin": ORIGIN, "access-control-expose-headers": "*", "vary": "origin"}
REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "models": ("GET", "/v1/models", {}),
    "job": ("POST", JOBS_PATH, {"json": IMAGE_BODY}),
    "images": ("POST", IMAGES_PATH, {"json": IMAGE_BODY}),
    "large images": ("POST", IMAGES_PATH, {"json": {"prompt": "a lighthouse", "size": "2048x2048", "n": 2}}),
    "event stream": ("POST", IMAGES_PATH, {"json": {**IMAGE_BODY, "stream": True}}),
    "invalid body": ("POST", IMAGES_PATH, {"content": b"{"}),
    "unknown route": ("GET", "/v1/nothing", {}),
    "wrong method": ("PUT", IMAGES_PATH, {}),
    "unknown job": ("GET", f"{JOBS_PATH}/unknown", {}),
    "wrong key": ("GET", "/v1/models", {"headers": {"authorization": "Bearer x"}}),
    "unsigned file": ("GET", "/files/00/x", {}),
    "documentation": ("GET", "/openapi.json", {}),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", REQUESTS)
def test_every_response_to_an_allowed_origin_can_be_read(open_gateway: RunningGateway, name: str) -> None:
    method, path, options = REQUESTS[name]
    headers = {"origin": ORIGIN, "content-type": "application/json", **options.get("headers", {})}
    answer = open_gateway.http.request(method, path, **{**options, "headers": headers})
    assert list_cross_origin_headers(answer) == ALLOWED, answer.text


def test_signed_image_can_be_read(open_gateway: RunningGateway) -> None:
    job = open_gateway.http.post(JOBS_PATH, json=IMAGE_BODY, headers={"prefer": "wait=20"}).json()
    answer = open_gateway.http.get(job["images"][0]["url"], headers={"origin": ORIGIN, "range": "bytes=0-3"})
    assert (answer.status_code, list_cross_origin_headers(answer)) == (206, ALLOWED)


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("path", [IMAGES_PATH, "/images/edits", JOBS_PATH, "/v1/nothing"])
def test_preflight_of_an_allowed_origin_is_answered(open_gateway: RunningGateway, origin: str, path: str) -> None:
    """Also without an API key, and for a path without a route: the real request gets the error."""
    answer = httpx.options(open_gateway.url + path, headers=PREFLIGHT | {"origin": origin}, trust_env=False)
    assert (answer.status_code, answer.content) == (204, b"")
    assert list_cross_origin_headers(answer) == {
        "access-control-allow-origin": origin,
        "access-control-allow-headers": PREFLIGHT["access-control-request-headers"],
        "access-control-allow-methods": "GET, HEAD, POST, PATCH, DELETE",
        "access-control-max-age": "600",
        "vary": "origin",
    }
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "origin", [OTHER_ORIGIN, "null", "", "https://app.example.com/", "http://app.example.com", "*"]
)
def test_other_origins_are_not_allowed(open_gateway: RunningGateway, origin: str) -> None:
    """The response still varies with the origin, so that a cache does not serve it to an allowed one."""
    answer = open_gateway.http.get("/v1/models", headers={"origin": origin})
    assert (answer.status_code, list_cross_origin_headers(answer)) == (200, {"vary": "origin"})
    refused = open_gateway.http.options(IMAGES_PATH, headers=PREFLIGHT | {"origin": origin})
    assert (refused.status_code, list_cross_origin_headers(refused)) == (405, {"vary": "origin"})


@pytest.mark.parametrize(
    "path", ["/metrics", "//metrics", "/readyz", "/livez", ADMIN_KEYS_PATH, "/v1//admin/keys", "/callbacks/a/b/1/c"]
)
def test_routes_of_operators_and_sellers_are_never_open(open_gateway: RunningGateway, path: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        assert (
            list_cross_origin_headers(open_gateway.http.request(method, open_gateway.url + path, headers=PREFLIGHT))
            == {}
        )


def test_request_without_an_origin_only_varies_with_it(open_gateway: RunningGateway) -> None:
    assert list_cross_origin_headers(open_gateway.http.get("/v1/models")) == {"vary": "origin"}
    answer = open_gateway.http.options(IMAGES_PATH)
    assert (answer.status_code, list_cross_origin_headers(answer)) == (405, {"vary": "origin"})


def test_header_names_with_other_characters_are_not_sent_back(open_gateway: RunningGateway) -> None:
    with connect(open_gateway) as connection:
        head = (
            f"OPTIONS {IMAGES_PATH} HTTP/1.1\r\nHost: x\r\nOrigin: {ORIGIN}\r\nAccess-Control-Request-Method: POST\r\n"
        )
        connection.sendall(head.encode() + b'Access-Control-Request-Headers: a, "<b>\r\n\r\n')
        answer = read_response(connection)
    assert (answer.status, answer.headers.get("access-control-allow-headers")) == (204, None)


def test_gateway_without_origins_sends_no_headers(gateway: RunningGateway) -> None:
    for method, path in (("GET", "/v1/models"), ("OPTIONS", IMAGES_PATH), ("GET", "/v1/nothing")):
        assert list_cross_origin_headers(gateway.http.request(method, path, headers=PREFLIGHT)) == {}
    assert gateway.http.options(IMAGES_PATH, headers=PREFLIGHT).status_code == 405


def test_reload_changes_the_origins_and_star_allows_all_without_credentials(open_gateway: RunningGateway) -> None:
    def request_models() -> dict[str, str]:
        return list_cross_origin_headers(open_gateway.http.get("/v1/models", headers={"origin": OTHER_ORIGIN}))

    write_origins(open_gateway.folder, ["*"])
    try:
        expected = {"access-control-allow-origin": "*", "access-control-expose-headers": "*"}
        wait_until(lambda: request_models() == expected, "all origins are allowed")
        answer = open_gateway.http.options(IMAGES_PATH, headers=PREFLIGHT | {"origin": "null"})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, "*")
        assert "access-control-allow-credentials" not in answer.headers
    finally:
        write_origins(open_gateway.folder, ORIGINS)
        wait_until(lambda: request_models() == {"vary": "origin"}, "only the listed origins are allowed")


def test_preflight_keeps_the_connection_open(open_gateway: RunningGateway) -> None:
    with connect(open_gateway) as connection:
        head = (
            f"OPTIONS {JOBS_PATH} HTTP/1.1\r\nHost: x\r\nOrigin: {ORIGIN}\r\nAccess-Control-Request-Method: GET\r\n\r\n"
        )
        connection.sendall(head.encode())
        assert read_response(connection).status == 204
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + AUTHORIZATION_HEADER + b"\r\n")
        assert read_response(connection).status == 200
    assert API_KEY not in open_gateway.stderr


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://App.Example.com", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://localhost:80", "http://localhost"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("*", "*"),
    ],
)
def test_origin_is_normalized_as_browsers_write_it(text: str, origin: str) -> None:
    assert WebOrigin.parse(text) == origin


@pytest.mark.parametrize(
    "text",
    ["app.example.com", "https://", "https://*.example.com", "https://a/b", "https://a/", "null", "", "https://u@a"],
)
def test_invalid_origin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Invalid origin"):
        WebOrigin.parse(text)
