"""The overhead of a request is the gateway's own time: without the seller's, and without the client's."""

import json
import time

from tests.api.raw_http import POST_JOB, connect, read_response
from tests.harness.gateway_runner import RunningGateway

SELLER_SECONDS = CLIENT_SECONDS = 0.6
# The gateway takes milliseconds; the machine may be busy.
MAX_OVERHEAD_SECONDS = 0.4


def read_overhead(gateway: RunningGateway) -> tuple[float, float]:
    labels = {"route": "/v1/jobs"}
    count = gateway.read_metric("igw_http_overhead_seconds_count", **labels)
    return count, gateway.read_metric("igw_http_overhead_seconds_sum", **labels)


def test_overhead_excludes_the_seller_and_a_slow_client(gateway: RunningGateway) -> None:
    gateway.sandbox.set_latency(SELLER_SECONDS)
    body = json.dumps({"prompt": "a slow upload"}).encode()
    count, seconds = read_overhead(gateway)
    started_at = time.monotonic()
    with connect(gateway) as connection:
        connection.sendall(POST_JOB + b"Prefer: wait=30\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:10])
        time.sleep(CLIENT_SECONDS)
        connection.sendall(body[10:])
        answer = read_response(connection)
    assert time.monotonic() - started_at >= SELLER_SECONDS + CLIENT_SECONDS
    assert json.loads(answer.body)["status"] == "completed"
    new_count, new_seconds = read_overhead(gateway)
    assert new_count == count + 1
    assert 0 < new_seconds - seconds < MAX_OVERHEAD_SECONDS
    assert int(answer.headers["x-igw-overhead-ms"]) < MAX_OVERHEAD_SECONDS * 1_000


def test_requests_without_a_job_have_no_overhead(gateway: RunningGateway) -> None:
    before = gateway.read_metric("igw_http_overhead_seconds_count")
    assert gateway.http.get("/v1/models").status_code == 200
    assert gateway.http.post("/v1/jobs", json={"prompt": ""}).status_code == 400
    assert gateway.read_metric("igw_http_overhead_seconds_count") == before
