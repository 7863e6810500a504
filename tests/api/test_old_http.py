"""HTTP/1.0 clients, and request lines with scheme and host, as proxies send them."""

import json

import pytest

from tests.api.error_responses import IMAGES_PATH, JOBS_PATH
from tests.api.raw_http import AUTHORIZATION_HEADER, RawResponse, connect
from tests.harness.gateway_runner import RunningGateway

IMAGE = {"prompt": "a lighthouse", "quality": "low"}
RESPONSE = {"model": "gpt-image-2", "input": "a lighthouse", "tools": [{"type": "image_generation", "quality": "low"}]}
HTTP_1_0, HTTP_1_1 = "HTTP/1.0", "HTTP/1.1"


def send_and_read_to_end(gateway: RunningGateway, line: str, body: object = None, headers: str = "") -> RawResponse:
    """Sends a request and reads until the gateway closes the connection."""
    content = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{line}\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n{headers}".encode()
    )
    with connect(gateway) as connection:
        connection.sendall(head + AUTHORIZATION_HEADER + b"\r\n" + content)
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    return RawResponse(received)


@pytest.mark.parametrize("headers", ["", "Connection: keep-alive\r\n", "TE: chunked\r\n"])
@pytest.mark.parametrize(
    ("path", "body", "last_event"),
    [
        (IMAGES_PATH, {**IMAGE, "stream": True}, "image_generation.completed"),
        ("/v1/responses", {**RESPONSE, "stream": True}, "response.completed"),
    ],
)
def test_stream_to_an_http_1_0_client_ends_with_its_connection(
    gateway: RunningGateway, path: str, body: object, last_event: str, headers: str
) -> None:
    answer = send_and_read_to_end(gateway, f"POST {path} {HTTP_1_0}", body, headers)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert not answer.headers.keys() & {"transfer-encoding", "content-length"}
    events = [event for event in answer.body.decode().split("\n\n") if event.startswith("event: ")]
    assert answer.body.startswith((b"event: ", b": "))
    assert events[-1].startswith(f"event: {last_event}\n")
    assert answer.body.endswith(b"\n\n"), "no chunk follows the last event"


def test_events_of_a_job_reach_an_http_1_0_client(gateway: RunningGateway) -> None:
    job = gateway.http.post(JOBS_PATH, json=IMAGE, headers={"prefer": "wait=30"}).json()
    answer = send_and_read_to_end(gateway, f"GET {JOBS_PATH}/{job['id']}/events {HTTP_1_0}")
    assert "transfer-encoding" not in answer.headers
    assert answer.body.endswith(b"\n\n")


@pytest.mark.parametrize("body", [IMAGE, {"prompt": "a lighthouse", "size": "2048x2048", "n": 2}])
def test_images_reach_an_http_1_0_client_as_base64(gateway: RunningGateway, body: dict[str, object]) -> None:
    answer = send_and_read_to_end(gateway, f"POST {IMAGES_PATH} {HTTP_1_0}", body)
    assert "transfer-encoding" not in answer.headers
    assert len(json.loads(answer.body)["data"]) == body.get("n", 1)
    assert len(answer.body) == int(answer.headers["content-length"])


def test_error_reaches_an_http_1_0_client(gateway: RunningGateway) -> None:
    answer = send_and_read_to_end(gateway, f"POST {IMAGES_PATH} {HTTP_1_0}", {"prompt": "", "stream": True})
    assert (answer.status, answer.error["param"]) == (400, "prompt")


@pytest.mark.parametrize("prefix", ["http://gateway.example", "HTTPS://user@gateway.example:8443"])
@pytest.mark.parametrize("path", [IMAGES_PATH, "/v1/images/nothing", "/v1/responses", JOBS_PATH, "/v1/nothing"])
@pytest.mark.parametrize("headers", ["Connection: close\r\n", "Content-Length: 1\r\n"])
def test_request_line_with_a_host_gets_the_error_of_its_path(
    gateway: RunningGateway, prefix: str, path: str, headers: str
) -> None:
    """Also if the request is malformed, so that it reaches no route."""
    with_host = send_and_read_to_end(gateway, f"POST {prefix}{path} {HTTP_1_1}", headers=headers)
    without_host = send_and_read_to_end(gateway, f"POST {path} {HTTP_1_1}", headers=headers)
    assert (with_host.status, with_host.error) == (without_host.status, without_host.error)
    assert with_host.headers["content-type"] == without_host.headers["content-type"]
    assert 400 <= with_host.status < 500


@pytest.mark.parametrize("method", ["OPTIONS", "PUT"])
def test_error_names_the_method(gateway: RunningGateway, method: str) -> None:
    answer = send_and_read_to_end(gateway, f"{method} {IMAGES_PATH} {HTTP_1_0}")
    assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
    assert answer.error["message"].startswith(f"This route does not support {method}.")
