"""HTTP of proxies, probes and old clients: methods, ids, framing, half-closed connections and malformed requests."""

import json
import re
import time
from pathlib import Path

import httpx
import pytest

from tests.api import raw_http
from tests.api.error_responses import JOBS_PATH, expect_final_error, parse_error
from tests.api.job_requests import create_finished_job
from tests.harness.gateway_runner import CONFIG, RunningGateway, run_sandboxed_gateway
from tests.harness.raw_sockets import read_until_closed
from tests.harness.wait import wait_for_value, wait_until

BODY = json.dumps({"prompt": "a lighthouse"}).encode()
LENGTH_HEADER = b"Content-Length: %d\r\n" % len(BODY)
LIVEZ_REQUEST = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
GENERATED_ID = re.compile(r"req_[0-9a-f]{32}")


# --- methods


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probe_routes_answer_head_requests(gateway: RunningGateway, path: str) -> None:
    head, full_response = gateway.http.head(path), gateway.http.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(full_response.content))
    assert head.headers["content-type"] == full_response.headers["content-type"]


def test_head_of_an_image_has_its_content_length(gateway: RunningGateway) -> None:
    image_entry = create_finished_job(gateway)["images"][0]
    path = image_entry["url"].removeprefix(gateway.url).encode()
    with raw_http.connect(gateway) as connection:
        connection.sendall(
            b"HEAD %s HTTP/1.1\r\nHost: x\r\n\r\n" % path
            + LIVEZ_REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        )
        received = read_until_closed(connection)
    head = raw_http.RawResponse(received)
    assert head.status == 200
    assert head.headers["content-length"] == str(image_entry["bytes"])
    assert head.headers["content-type"] == "image/png"
    assert head.body.startswith(b"HTTP/1.1 200 "), "the next response follows at once"
    expect_final_error(gateway.http.get(image_entry["url"] + "x"), 403, "link_invalid")
    assert gateway.http.head(image_entry["url"] + "x").status_code == 403


# --- ids


def wait_for_logged_request(gateway: RunningGateway, request_id: str) -> None:
    wait_until(
        lambda: [line for line in gateway.read_log_lines() if line.get("id") == request_id],
        f"the request {request_id} is logged",
    )


@pytest.mark.parametrize("name", ["a", "Root=1-67891233-abcdef012345678912345678", "f" * 128, "a/b+c==", "job:7@eu.1"])
def test_request_id_of_the_client_is_returned_and_logged(gateway: RunningGateway, name: str) -> None:
    answer = gateway.http.get(f"{JOBS_PATH}/job_x", headers={"x-request-id": name})
    assert answer.headers.get_list("x-request-id") == [name]
    assert parse_error(answer)["code"] == "job_not_found"
    assert answer.json()["request_id"] == name
    wait_for_logged_request(gateway, name)


@pytest.mark.parametrize(
    "names", [[b""], [b"f" * 129], [b"a b"], [b"<script>"], [b'a"b'], [b"\xff"], [b"a\tb"], [b"{x}"], [b"a", b"b"]]
)
def test_invalid_request_id_is_replaced(gateway: RunningGateway, names: list[bytes]) -> None:
    lines = b"".join(b"X-Request-Id: " + name + b"\r\n" for name in names)
    with raw_http.connect(gateway) as connection:
        connection.sendall(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
        answer = raw_http.read_response(connection)
    assert answer.status == 404
    assert GENERATED_ID.fullmatch(answer.headers["x-request-id"])
    assert json.loads(answer.body)["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/nowhere", "/v1/images/nowhere", "//v1//images/nowhere", "/openai/x", "/livez/x"])
def test_unknown_route_answers_in_the_error_format_of_its_prefix(gateway: RunningGateway, path: str) -> None:
    assert parse_error(gateway.http.get(path))["code"] == "route_not_found"


# --- framing


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"draw a lighthouse\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_malformed_http_gets_a_problem_body_and_a_logged_id(gateway: RunningGateway, garbage: bytes) -> None:
    with raw_http.connect(gateway) as connection:
        connection.sendall(garbage)
        answer = raw_http.RawResponse(read_until_closed(connection))
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
    assert answer.headers["connection"] == "close"
    problem = json.loads(answer.body)
    assert (problem["status"], problem["error"]["code"]) == (400, "malformed_request")
    assert problem["request_id"] == answer.headers["x-request-id"]
    wait_for_logged_request(gateway, problem["request_id"])


def test_malformed_http_on_an_openai_route_gets_an_openai_error(gateway: RunningGateway) -> None:
    with raw_http.connect(gateway) as connection:
        connection.sendall(raw_http.POST_IMAGE + b"Content-Length: many\r\n\r\n")
        answer = raw_http.RawResponse(read_until_closed(connection))
    assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
    assert json.loads(answer.body).keys() == {"error"}


def test_garbage_after_a_request_does_not_change_its_response(gateway: RunningGateway) -> None:
    gateway.sandbox.hold_orders()
    with raw_http.connect(gateway) as connection:
        connection.sendall(raw_http.POST_IMAGE + LENGTH_HEADER + b"\r\n" + BODY)
        wait_until(lambda: gateway.http.get("/readyz").json()["jobs"], "the job runs")
        connection.sendall(b"\x00\x01garbage\r\n\r\n")
        gateway.sandbox.release_orders()
        answers = [b"HTTP/1.1 " + answer for answer in read_until_closed(connection).split(b"HTTP/1.1 ")[1:]]
    response, error = map(raw_http.RawResponse, answers)
    assert response.status == 200
    assert json.loads(response.body)["data"]
    assert (error.status, json.loads(error.body)["error"]["code"]) == (400, "malformed_request")


@pytest.mark.parametrize("header", [b"X-Note: " + b"a" * 3_000_000, b"X-Note: a\r\n" * 300_000])
def test_too_large_headers_are_rejected_with_431(gateway: RunningGateway, header: bytes) -> None:
    before = gateway.get_resident_bytes()
    with raw_http.connect(gateway) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\n" + header)
        answer = raw_http.RawResponse(read_until_closed(connection))
    assert (answer.status, answer.error["code"]) == (431, "headers_too_large")
    assert gateway.get_resident_bytes() - before < 20 << 20
    assert gateway.http.get("/livez").status_code == 200


def test_trailers_of_a_chunked_body_are_not_used_as_headers(gateway: RunningGateway) -> None:
    """A proxy before the gateway has not checked them, either."""
    body = b"%x\r\n%s\r\n0\r\nIdempotency-Key: \x20\r\nAuthorization: Bearer x\r\n\r\n" % (len(BODY), BODY)
    with raw_http.connect(gateway) as connection:
        connection.sendall(raw_http.POST_JOB + b"Transfer-Encoding: chunked\r\n\r\n" + body)
        assert raw_http.read_response(connection).status == 202


# --- 100 Continue


@pytest.mark.parametrize("head", [raw_http.POST_JOB, raw_http.POST_IMAGE])
def test_expect_100_continue_is_answered(gateway: RunningGateway, head: bytes) -> None:
    with raw_http.connect(gateway) as connection:
        connection.sendall(head + LENGTH_HEADER + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert raw_http.read_response(connection).status in (200, 202)
        connection.sendall(LIVEZ_REQUEST)
        assert raw_http.read_response(connection).status == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (raw_http.POST_JOB.replace(b"igw_sandbox", b"nobody") + LENGTH_HEADER, 401),
        (raw_http.POST_JOB + b"Content-Length: 70000000\r\n", 413),
        (raw_http.POST_JOB.replace(b"/v1/jobs", b"/nowhere") + LENGTH_HEADER, 404),
    ],
)
def test_rejected_request_gets_no_100_continue(gateway: RunningGateway, head: bytes, status: int) -> None:
    """The client's next bytes are not read as the body, which it does not send."""
    with raw_http.connect(gateway) as connection:
        connection.sendall(head + b"Expect: 100-continue\r\n\r\n")
        answer = raw_http.RawResponse(read_until_closed(connection))
    assert (answer.status, answer.headers["connection"]) == (status, "close")


# --- old and odd clients


@pytest.mark.parametrize("head", [raw_http.POST_JOB, raw_http.POST_IMAGE])
def test_http_1_0_request_is_served(gateway: RunningGateway, head: bytes) -> None:
    old = head.replace(b"HTTP/1.1\r\nHost: x\r\n", b"HTTP/1.0\r\n")
    with raw_http.connect(gateway) as connection:
        connection.sendall(old + LENGTH_HEADER + b"\r\n" + BODY)
        answer = raw_http.RawResponse(read_until_closed(connection))
    assert answer.status in (200, 202)
    assert "transfer-encoding" not in answer.headers
    assert json.loads(answer.body)


def test_image_is_served_over_http_1_0(gateway: RunningGateway) -> None:
    image_entry = create_finished_job(gateway)["images"][0]
    with raw_http.connect(gateway) as connection:
        connection.sendall(b"GET %s HTTP/1.0\r\n\r\n" % image_entry["url"].removeprefix(gateway.url).encode())
        answer = raw_http.RawResponse(read_until_closed(connection))
    assert "transfer-encoding" not in answer.headers
    assert len(answer.body) == image_entry["bytes"]


@pytest.mark.parametrize("pause", [0.0, 0.2])
@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_protocol_upgrade_is_ignored(gateway: RunningGateway, protocol: bytes, pause: float) -> None:
    """Java's client requests an upgrade with every first request. The body is read as a body, not as a request."""
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\nHTTP2-Settings: AAMAAABkAAQ\r\n" % protocol
    with raw_http.connect(gateway) as connection:
        for _ in range(2):
            connection.sendall(raw_http.POST_JOB + upgrade + LENGTH_HEADER + b"\r\n")
            time.sleep(pause)
            connection.sendall(BODY)
            assert raw_http.read_response(connection).status == 202
        connection.sendall(LIVEZ_REQUEST.replace(b"Host", upgrade + b"Host"))
        assert raw_http.read_response(connection).status == 200
        connection.sendall(
            raw_http.POST_JOB + upgrade + b"Content-Length: %d\r\n\r\n" % len(LIVEZ_REQUEST) + LIVEZ_REQUEST
        )
        assert raw_http.read_response(connection).error["code"] == "invalid_json"


# --- readiness


def test_readiness_names_config_files_without_their_folder(tmp_path: Path) -> None:
    """The folder's path is not published."""
    config = tmp_path / "canary-folder" / "config"
    config.mkdir(parents=True)
    for path in CONFIG.rglob("*.yaml"):
        copy = config / path.relative_to(CONFIG)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    with run_sandboxed_gateway(tmp_path, "--config", str(config)) as running:
        for name, text in (("policies.yaml", "nonsense: ["), ("offers/runapi.yaml", "nonsense: [")):
            (config / name).write_text(text)
        config_state = wait_for_value(
            lambda: running.http.get("/readyz").json()["config"],
            lambda state: state["last_reload"] == "rejected",
            "the configuration is rejected",
        )
        problems = config_state["problems"]
        assert [problem for problem in problems if problem.startswith("policies.yaml:1: ")], problems
        assert [problem for problem in problems if problem.startswith("offers/runapi.yaml:1: ")], problems
        for path in config.rglob("*.yaml"):
            path.unlink()
        (config / "offers").rmdir()
        config.rmdir()
        wait_for_value(
            lambda: running.http.get("/readyz").json()["config"]["problems"],
            lambda problems: "Folder not found" in json.dumps(problems),
            "the missing folder is reported",
        )
        text = httpx.get(f"{running.url}/readyz", trust_env=False).text
    assert "canary-folder" not in text
    assert str(tmp_path) not in text
