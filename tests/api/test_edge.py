"""HTTP as it is spoken by proxies, probes and old clients: methods, ids, halves of connections, and no HTTP at all."""

import json
import re
import time
from pathlib import Path

import httpx
import pytest

from tests.api.answers import JOBS, refused, told
from tests.api.sockets import POST_IMAGE, POST_JOB, Answer, connected, one_answer, to_the_end, within
from tests.api.test_jobs import made
from tests.serving import CONFIG, Serving, serving

WISHES = json.dumps({"prompt": "a lighthouse"}).encode()
LENGTH = b"Content-Length: %d\r\n" % len(WISHES)
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
OWN = re.compile(r"req_[0-9a-f]{32}")


# --- methods


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_probe_may_ask_for_the_head_only(gateway: Serving, path: str) -> None:
    head, whole = gateway.http.head(path), gateway.http.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))
    assert head.headers["content-type"] == whole.headers["content-type"]


def test_the_head_of_a_picture_says_how_large_it_is(gateway: Serving) -> None:
    picture = made(gateway)["images"][0]
    path = picture["url"].removeprefix(gateway.url).encode()
    with connected(gateway) as connection:
        connection.sendall(
            b"HEAD %s HTTP/1.1\r\nHost: x\r\n\r\n" % path + LIVEZ.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        )
        got = to_the_end(connection)
    head = Answer(got)
    assert head.status == 200
    assert head.headers["content-length"] == str(picture["bytes"])
    assert head.headers["content-type"] == "image/png"
    assert head.body.startswith(b"HTTP/1.1 200 "), "the next answer follows at once"
    refused(gateway.http.get(picture["url"] + "x"), 403, "link_invalid")
    assert gateway.http.head(picture["url"] + "x").status_code == 403


# --- ids


@pytest.mark.parametrize("name", ["a", "Root=1-67891233-abcdef012345678912345678", "f" * 128, "a/b+c==", "job:7@eu.1"])
def test_a_caller_may_name_his_request(gateway: Serving, name: str) -> None:
    answer = gateway.http.get(f"{JOBS}/job_x", headers={"x-request-id": name})
    assert answer.headers.get_list("x-request-id") == [name]
    assert told(answer)["code"] == "job_not_found"
    assert answer.json()["request_id"] == name
    for _ in within(10):
        if [line for line in gateway.log_lines() if line.get("id") == name]:
            break


@pytest.mark.parametrize(
    "names", [[b""], [b"f" * 129], [b"a b"], [b"<script>"], [b'a"b'], [b"\xff"], [b"a\tb"], [b"{x}"], [b"a", b"b"]]
)
def test_a_name_that_cannot_be_passed_on_is_replaced(gateway: Serving, names: list[bytes]) -> None:
    lines = b"".join(b"X-Request-Id: " + name + b"\r\n" for name in names)
    with connected(gateway) as connection:
        connection.sendall(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
        answer = one_answer(connection)
    assert answer.status == 404
    assert OWN.fullmatch(answer.headers["x-request-id"])
    assert json.loads(answer.body)["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/nowhere", "/v1/images/nowhere", "/v1/models/nowhere", "/livez/x"])
def test_what_is_not_there_is_told_in_the_form_of_its_routes(gateway: Serving, path: str) -> None:
    assert told(gateway.http.get(path))["code"] == "route_not_found"


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
def test_what_is_no_http_is_told_so_in_our_words(gateway: Serving, garbage: bytes) -> None:
    with connected(gateway) as connection:
        connection.sendall(garbage)
        answer = Answer(to_the_end(connection))
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
    assert answer.headers["connection"] == "close"
    said = json.loads(answer.body)
    assert (said["status"], said["error"]["code"]) == (400, "malformed_request")
    assert said["request_id"] == answer.headers["x-request-id"]
    for _ in within(10):
        if [line for line in gateway.log_lines() if line.get("id") == said["request_id"]]:
            break


def test_what_is_no_http_on_a_route_of_openai_is_told_in_its_form(gateway: Serving) -> None:
    with connected(gateway) as connection:
        connection.sendall(POST_IMAGE + b"Content-Length: many\r\n\r\n")
        answer = Answer(to_the_end(connection))
    assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
    assert json.loads(answer.body).keys() == {"error"}


def test_garbage_after_a_request_is_no_answer_to_it(gateway: Serving) -> None:
    gateway.vendors.latency(1.0)
    with connected(gateway) as connection:
        connection.sendall(POST_IMAGE + LENGTH + b"\r\n" + WISHES)
        time.sleep(0.3)
        connection.sendall(b"\x00\x01garbage\r\n\r\n")
        answer = Answer(to_the_end(connection))
    assert answer.status == 200
    assert json.loads(answer.body)["data"]


@pytest.mark.parametrize("header", [b"X-Note: " + b"a" * 3_000_000, b"X-Note: a\r\n" * 300_000])
def test_headers_without_end_are_431(gateway: Serving, header: bytes) -> None:
    before = gateway.resident_bytes()
    with connected(gateway) as connection:
        try:
            connection.sendall(b"GET /livez HTTP/1.1\r\n" + header)
        except OSError:
            pytest.skip("hung up on before it was said")
        try:
            answer = Answer(to_the_end(connection))
        except ConnectionError:
            answer = None
    if answer is not None:
        assert (answer.status, answer.error["code"]) == (431, "headers_too_large")
    assert gateway.resident_bytes() - before < 20 << 20
    assert gateway.http.get("/livez").status_code == 200


def test_what_follows_a_body_is_no_header(gateway: Serving) -> None:
    """A proxy in front has not looked at it, either."""
    body = b"%x\r\n%s\r\n0\r\nIdempotency-Key: \x20\r\nAuthorization: Bearer x\r\n\r\n" % (len(WISHES), WISHES)
    with connected(gateway) as connection:
        connection.sendall(POST_JOB + b"Transfer-Encoding: chunked\r\n\r\n" + body)
        assert one_answer(connection).status == 202


# --- going on


@pytest.mark.parametrize("head", [POST_JOB, POST_IMAGE])
def test_whoever_expects_to_be_told_to_go_on_is_told(gateway: Serving, head: bytes) -> None:
    with connected(gateway) as connection:
        connection.sendall(head + LENGTH + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(WISHES)
        assert one_answer(connection).status in (200, 202)
        connection.sendall(LIVEZ)
        assert one_answer(connection).status == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (POST_JOB.replace(b"igw_sandbox", b"nobody") + LENGTH, 401),
        (POST_JOB + b"Content-Length: 70000000\r\n", 413),
        (POST_JOB.replace(b"/v1/jobs", b"/nowhere") + LENGTH, 404),
    ],
)
def test_whoever_is_refused_before_that_is_not_told_to_go_on(gateway: Serving, head: bytes, status: int) -> None:
    """And what else he sends is not taken for the body, which he keeps."""
    with connected(gateway) as connection:
        connection.sendall(head + b"Expect: 100-continue\r\n\r\n")
        answer = Answer(to_the_end(connection))
    assert (answer.status, answer.headers["connection"]) == (status, "close")


# --- old and odd clients


@pytest.mark.parametrize("head", [POST_JOB, POST_IMAGE])
def test_http_1_0_is_served(gateway: Serving, head: bytes) -> None:
    old = head.replace(b"HTTP/1.1\r\nHost: x\r\n", b"HTTP/1.0\r\n")
    with connected(gateway) as connection:
        connection.sendall(old + LENGTH + b"\r\n" + WISHES)
        answer = Answer(to_the_end(connection))
    assert answer.status in (200, 202)
    assert "transfer-encoding" not in answer.headers
    assert json.loads(answer.body)


def test_a_picture_over_http_1_0(gateway: Serving) -> None:
    picture = made(gateway)["images"][0]
    with connected(gateway) as connection:
        connection.sendall(b"GET %s HTTP/1.0\r\n\r\n" % picture["url"].removeprefix(gateway.url).encode())
        answer = Answer(to_the_end(connection))
    assert "transfer-encoding" not in answer.headers
    assert len(answer.body) == picture["bytes"]


@pytest.mark.parametrize("pause", [0.0, 0.2])
@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_whoever_wants_another_protocol_gets_this_one(gateway: Serving, protocol: bytes, pause: float) -> None:
    """As Java's client asks with every first request; its body is a body, and no request of its own."""
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\nHTTP2-Settings: AAMAAABkAAQ\r\n" % protocol
    with connected(gateway) as connection:
        for _ in range(2):
            connection.sendall(POST_JOB + upgrade + LENGTH + b"\r\n")
            time.sleep(pause)
            connection.sendall(WISHES)
            assert one_answer(connection).status == 202
        connection.sendall(LIVEZ.replace(b"Host", upgrade + b"Host"))
        assert one_answer(connection).status == 200
        connection.sendall(POST_JOB + upgrade + b"Content-Length: %d\r\n\r\n" % len(LIVEZ) + LIVEZ)
        assert one_answer(connection).error["code"] == "invalid_json"


# --- what strangers are told


def test_readiness_names_files_and_no_folders(tmp_path: Path) -> None:
    """Whoever asks, it is nobody's business where on this machine they are."""
    config = tmp_path / "canary-folder" / "config"
    config.mkdir(parents=True)
    for path in CONFIG.rglob("*.yaml"):
        copy = config / path.relative_to(CONFIG)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    with serving(tmp_path, "--config", str(config)) as running:
        for name, text in (("policies.yaml", "nonsense: ["), ("offers/runapi.yaml", "nonsense: [")):
            (config / name).write_text(text)
        for _ in within(20):
            config_state = running.http.get("/readyz").json()["config"]
            if config_state["last_reload"] == "refused":
                break
        problems = config_state["problems"]
        assert [problem for problem in problems if problem.startswith("policies.yaml:1: ")], problems
        assert [problem for problem in problems if problem.startswith("offers/runapi.yaml:1: ")], problems
        for path in config.rglob("*.yaml"):
            path.unlink()
        (config / "offers").rmdir()
        config.rmdir()
        for _ in within(20):
            config_state = running.http.get("/readyz").json()["config"]
            if "no such folder" in json.dumps(config_state["problems"]):
                break
        text = httpx.get(f"{running.url}/readyz", trust_env=False).text
    assert "canary-folder" not in text
    assert str(tmp_path) not in text
