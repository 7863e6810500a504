"""HEAD requests: every GET route answers them like the GET request, without the body, and nothing is ordered."""

import re
from uuid import uuid4

import httpx
import pytest

from gateway.api.access_control import get_declared_scope
from gateway.api.application import ROUTE_HANDLERS
from gateway.api.batches.batch_records import BatchStatus
from gateway.store.api_keys import Scope
from tests.api.error_responses import IMAGES_PATH, JOBS_PATH
from tests.api.raw_http import AUTHORIZATION_HEADER, RawResponse, connect
from tests.api.team_resources import RESOURCE_MAKERS
from tests.harness.gateway_runner import RunningGateway
from tests.harness.key_admin import create_key, create_webhook_target, open_admin_client
from tests.harness.raw_sockets import read_until_closed
from tests.harness.wait import wait_until

GET_ROUTES = sorted(
    (path, get_declared_scope(handler))
    for handler in ROUTE_HANDLERS
    for path in handler.paths
    if "GET" in handler.http_methods
)
# They differ between any two requests.
VARYING_HEADERS = {"x-request-id", "date", "x-igw-overhead-ms"}


def fill_path(gateway: RunningGateway, path: str) -> str:
    """Fills the parameters of a path with ids of new resources."""
    if path.startswith("/files/"):
        job_id = RESOURCE_MAKERS["job_id"](gateway.http)
        return str(gateway.http.get(f"{JOBS_PATH}/{job_id}").json()["images"][0]["url"])
    values = {"index": "0", "model_id": "gpt-image-2"}
    for name in re.findall(r"\{(\w+):", path):
        if name in RESOURCE_MAKERS:
            values[name] = RESOURCE_MAKERS[name](gateway.http)
        elif name == "key_id":
            values[name] = create_key(gateway)["id"]
        elif name == "target_id":
            values[name] = create_webhook_target(gateway)
    return re.sub(r"/?\{(\w+):\w+\}", lambda match: f"/{values[match[1]]}", path)


def wait_until_nothing_changes(gateway: RunningGateway) -> None:
    """Waits until no job is in flight, no batch is worked on and each webhook had its first attempt: a list differs
    between two requests until then."""
    gateway.wait_until_idle()
    wait_until(
        lambda: all(BatchStatus(batch["status"]).has_ended for batch in gateway.http.get("/v1/batches").json()["data"]),
        "all batches have ended",
    )
    wait_until(
        lambda: all(entry["attempts"] for entry in gateway.http.get("/v1/webhooks/deliveries").json()["data"]),
        "all webhooks were attempted",
    )


def get_stable_headers(answer: httpx.Response | RawResponse) -> dict[str, str]:
    return {name: value for name, value in dict(answer.headers).items() if name not in VARYING_HEADERS}


@pytest.mark.parametrize(("path", "scope"), GET_ROUTES)
def test_head_is_answered_like_get_without_the_body(gateway: RunningGateway, path: str, scope: Scope | None) -> None:
    target = fill_path(gateway, path)
    wait_until_nothing_changes(gateway)
    before = len(gateway.sandbox.list_charges())
    with open_admin_client(gateway.url) as admin:
        client = admin if scope is Scope.ADMIN else gateway.http
        got, head = client.get(target), client.head(target)
        assert (got.status_code, head.status_code, head.content) == (200, 200, b""), got.text[:300]
        if not path.startswith(("/metrics", "/v1/admin/keys")):
            is_stream = got.headers.get("transfer-encoding") == "chunked"
            expected = {name: value for name, value in get_stable_headers(got).items() if name != "transfer-encoding"}
            assert get_stable_headers(head) == expected
            assert is_stream or head.headers["content-length"] == str(len(got.content))
        # The connection is still in step.
        assert client.get(target).status_code == 200
    assert len(gateway.sandbox.list_charges()) == before


def test_head_of_the_events_of_a_running_job_does_not_wait_for_them(gateway: RunningGateway) -> None:
    gateway.sandbox.hold_orders()
    job = gateway.http.post(JOBS_PATH, json={"prompt": f"a lighthouse {uuid4()}"}).json()
    head = gateway.http.head(f"{JOBS_PATH}/{job['id']}/events", timeout=5)
    assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert gateway.http.get(f"{JOBS_PATH}/{job['id']}").json()["status"] != "completed"
    gateway.sandbox.release_orders()
    gateway.wait_until_idle()
    gateway.expect_no_problem()


@pytest.mark.parametrize("path", [IMAGES_PATH, f"{JOBS_PATH}/job_x/cancel", "/v1/quotes"])
def test_head_of_a_route_without_get_is_not_allowed(gateway: RunningGateway, path: str) -> None:
    before = len(gateway.sandbox.list_charges())
    answer = gateway.http.request("HEAD", path, json={"prompt": "a lighthouse"})
    assert (answer.status_code, answer.headers["allow"], answer.content) == (405, "POST", b"")
    gateway.wait_until_idle()
    assert len(gateway.sandbox.list_charges()) == before


def test_allow_header_lists_head_wherever_get_is(gateway: RunningGateway) -> None:
    answer = gateway.http.request("PUT", JOBS_PATH)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    assert "HEAD" in gateway.http.put("/livez").headers["allow"]


@pytest.mark.parametrize(
    ("path", "status"), [("/nope", 404), (f"{JOBS_PATH}/job_unknown", 404), (f"{JOBS_PATH}?zzz=1", 400)]
)
def test_errors_of_head_have_no_body(gateway: RunningGateway, path: str, status: int) -> None:
    got, head = gateway.http.get(path), gateway.http.head(path)
    assert (head.status_code, got.status_code, head.content) == (status, status, b"")
    assert head.headers["x-should-retry"] == "false"
    assert head.headers["content-type"] == got.headers["content-type"]


def test_head_without_a_key_is_401(gateway: RunningGateway) -> None:
    assert httpx.head(f"{gateway.url}{JOBS_PATH}", trust_env=False).status_code == 401


def test_range_and_validators_apply_to_head(gateway: RunningGateway) -> None:
    url = fill_path(gateway, "/files/{key:path}")
    head = gateway.http.head(url)
    not_modified = gateway.http.head(url, headers={"if-none-match": head.headers["etag"]})
    assert not_modified.status_code == 304
    part = gateway.http.head(url, headers={"range": "bytes=0-9"})
    assert (part.status_code, part.headers["content-length"]) == (206, "10")


def test_pipelined_head_and_get_are_answered_in_order(gateway: RunningGateway) -> None:
    lines = b" /v1/models HTTP/1.1\r\nHost: x\r\n" + AUTHORIZATION_HEADER
    with connect(gateway) as connection:
        connection.sendall(b"HEAD" + lines + b"\r\nGET" + lines + b"Connection: close\r\n\r\n")
        received = read_until_closed(connection)
    head, _, rest = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert rest.startswith(b"HTTP/1.1 200 OK"), "no body of the first response"
    assert RawResponse(rest).body.startswith(b'{"object":"list"')


def test_head_is_counted_as_head(gateway: RunningGateway) -> None:
    before = gateway.read_metric("igw_http_requests_total", method="HEAD", route="/v1/models", status="200")
    gateway.http.head("/v1/models")
    after = gateway.read_metric("igw_http_requests_total", method="HEAD", route="/v1/models", status="200")
    assert after == before + 1
