"""The store fails while a client requests a paid image: a retry returns the image, and nothing is bought twice."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import httpx
import openai
import pytest
from msgspec.structs import replace

from gateway.store.redis.scripts import COMMIT_NEW_JOB
from tests.flow.callback_url_edits import get_callback_url
from tests.flow.flow_config import API_KEY, PRICE_MICROS, GatewaySetup
from tests.flow.forgotten_images import FORGET_IMAGES
from tests.flow.gateway_on_store import GatewayAndStore
from tests.flow.order_flow import FlowGateway, OrderFlow, run_flow_gateway
from tests.harness.gateway_environ import make_redis_environ
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import FAST_TIMINGS, change_timing
from tests.harness.wait import wait_until
from tests.store import redis_servers
from tests.store.filtering_proxy import FilteringProxy, run_filtering_proxy
from tests.store.raw_redis import RawRedis

IMAGE_DOCUMENT_COMMAND = (b"HMGET", b"document:image")
SETUP = GatewaySetup(
    timing=change_timing(FAST_TIMINGS, store={"command_timeout_seconds": 0.5}, api={"store_retry_after_seconds": 1})
)
FORGETFUL_SETUP = replace(SETUP, hooks=(FORGET_IMAGES,))
RUNAPI_PARAMS = {"provider": {"only": ["runapi"]}, "quality": "low"}


@pytest.fixture(scope="module")
def proxy_and_redis(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[FilteringProxy, redis_servers.RedisServer]]:
    with (
        redis_servers.run_single_server(tmp_path_factory.mktemp("away") / "redis") as server,
        run_filtering_proxy(server.url) as proxy,
    ):
        yield proxy, server


@pytest.fixture(scope="module")
def gateway_and_store(
    proxy_and_redis: tuple[FilteringProxy, redis_servers.RedisServer],
    sandbox_process: RunningSandbox,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[GatewayAndStore]:
    folder = tmp_path_factory.mktemp("away")
    environ = make_redis_environ(proxy_and_redis[0].url, folder / "images")
    with (
        run_flow_gateway(folder, sandbox_process, environ, FORGETFUL_SETUP) as gateway,
        closing(RawRedis(proxy_and_redis[1].make_client())) as raw,
    ):
        yield gateway, raw


def expect_store_unavailable(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == "store_unavailable"
    assert ("retry-after" in answer.headers) is (status == 503)
    assert answer.headers["x-should-retry"] == ("true" if status == 503 else "false")
    return str(error["message"])


def get_job_response(gateway: FlowGateway, job_id: str) -> httpx.Response:
    return gateway.http.get(f"/v1/jobs/{job_id}", headers={"authorization": f"Bearer {API_KEY}"})


def test_retry_with_key_after_a_store_outage_returns_the_image(
    flow: OrderFlow, proxy_and_redis: tuple[FilteringProxy, redis_servers.RedisServer]
) -> None:
    order = {"prompt": "a lighthouse", **RUNAPI_PARAMS}
    with proxy_and_redis[0].block_commands(*IMAGE_DOCUMENT_COMMAND):
        answer = flow.gateway.post_generation(order, idempotency_key="mine")
    assert "to get that job" in expect_store_unavailable(answer, 503)
    retry = flow.gateway.post_generation(order, idempotency_key="mine")
    assert (retry.status_code, retry.headers["idempotent-replayed"]) == (200, "true")
    assert retry.headers["x-igw-job-id"] == answer.headers["x-igw-job-id"]
    assert flow.sum_ledger_by_line() == {("runapi", "capture"): PRICE_MICROS["runapi"]}


def test_openai_sdk_retries_after_a_store_outage_and_gets_the_image(
    flow: OrderFlow, proxy_and_redis: tuple[FilteringProxy, redis_servers.RedisServer]
) -> None:
    http = openai.DefaultHttpxClient(trust_env=False)
    with (
        openai.OpenAI(base_url=f"{flow.gateway.url}/v1", api_key=API_KEY, http_client=http) as client,
        proxy_and_redis[0].block_briefly(1.5, *IMAGE_DOCUMENT_COMMAND),
    ):
        raw = client.images.with_raw_response.generate(prompt=f"a lighthouse {uuid4()}", extra_body=RUNAPI_PARAMS)
    assert raw.headers["idempotent-replayed"] == "true"
    assert raw.parse().data[0].b64_json
    assert flow.sum_ledger_by_line() == {("runapi", "capture"): PRICE_MICROS["runapi"]}


def test_request_without_key_gets_its_job_id_in_a_store_outage(
    flow: OrderFlow, proxy_and_redis: tuple[FilteringProxy, redis_servers.RedisServer]
) -> None:
    with proxy_and_redis[0].block_commands(*IMAGE_DOCUMENT_COMMAND):
        answer = flow.gateway.post_generation({"prompt": "a lighthouse", **RUNAPI_PARAMS})
        job = answer.headers["x-igw-job-id"]
        assert f"GET /v1/jobs/{job}" in expect_store_unavailable(answer, 424)
        job_response = get_job_response(flow.gateway, job)
    assert "charged" not in expect_store_unavailable(job_response, 503)
    assert job_response.headers["x-igw-job-id"] == job
    assert len(flow.fetch_images(get_job_response(flow.gateway, job).json())) == 1
    assert flow.sum_ledger_by_line() == {("runapi", "capture"): PRICE_MICROS["runapi"]}


def test_request_returns_the_image_that_was_just_saved_in_a_store_outage(
    proxy_and_redis: tuple[FilteringProxy, redis_servers.RedisServer], sandbox: RunningSandbox, tmp_path: Path
) -> None:
    proxy, _ = proxy_and_redis
    environ = make_redis_environ(proxy.url, tmp_path / "images")
    with (
        run_flow_gateway(tmp_path, sandbox, environ, SETUP) as gateway,
        proxy.block_commands(*IMAGE_DOCUMENT_COMMAND),
    ):
        answer = gateway.post_generation({"prompt": "a lighthouse", **RUNAPI_PARAMS})
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"][0]["b64_json"]


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [({"idempotency-key": "unconfirmed"}, 503, "to get that job"), ({}, 424, "GET /v1/jobs/")],
    ids=["with key", "without key"],
)
def test_job_whose_confirmation_is_not_saved_in_time_is_named(
    flow: OrderFlow,
    proxy_and_redis: tuple[FilteringProxy, redis_servers.RedisServer],
    headers: dict[str, str],
    status: int,
    words: str,
) -> None:
    """The store fails right after it has saved the job. Its client does not wait for the end of the outage."""
    flow.order_images("runapi")
    order = {"prompt": "a lighthouse", **RUNAPI_PARAMS}
    with proxy_and_redis[0].block_after_command(COMMIT_NEW_JOB.sha.encode()):
        answer = flow.gateway.post_job(order, prefer="wait=0", **headers)
        assert words in expect_store_unavailable(answer, status)
    job = answer.headers["x-igw-job-id"]
    if headers:
        assert flow.gateway.post_job(order, **headers).json()["id"] == job
    assert flow.gateway.get_job(job)["status"] == "completed"
    assert flow.sum_ledger_by_line() == {("runapi", "capture"): 2 * PRICE_MICROS["runapi"]}


def test_partly_delivered_job_is_readable_after_a_store_outage(
    flow: OrderFlow, proxy_and_redis: tuple[FilteringProxy, redis_servers.RedisServer]
) -> None:
    """The job is in memory, but its image's record is only in the store."""
    flow.sandbox.hold_responses("runapi", times=1)
    job = flow.gateway.post_job({"prompt": "a lighthouse", "n": 2, **RUNAPI_PARAMS}, prefer="wait=0").json()["id"]
    wait_until(lambda: len(get_job_response(flow.gateway, job).json()["images"]) == 1, "one image is delivered")
    with proxy_and_redis[0].block_commands(*IMAGE_DOCUMENT_COMMAND):
        expect_store_unavailable(get_job_response(flow.gateway, job), 503)
    flow.sandbox.release_orders()
    assert len(flow.gateway.get_job(job)["images"]) == 2


def test_store_outage_response_names_the_job(
    flow: OrderFlow, proxy_and_redis: tuple[FilteringProxy, redis_servers.RedisServer]
) -> None:
    job = str(flow.order_images("runapi")["id"])
    flow.gateway.wait_until_idle()
    with proxy_and_redis[0].block_commands():
        answer = get_job_response(flow.gateway, job)
    expect_store_unavailable(answer, 503)
    assert answer.headers["x-igw-job-id"] == job
    assert get_job_response(flow.gateway, job).status_code == 200


def test_nothing_is_ordered_during_a_store_outage(
    flow: OrderFlow, proxy_and_redis: tuple[FilteringProxy, redis_servers.RedisServer]
) -> None:
    with proxy_and_redis[0].block_commands():
        answer = flow.gateway.post_generation({"prompt": "a lighthouse", **RUNAPI_PARAMS}, idempotency_key="other")
        assert "You were not charged." in expect_store_unavailable(answer, 503)
        assert "x-igw-job-id" not in answer.headers
        expect_store_unavailable(get_job_response(flow.gateway, f"job_00{uuid4().hex[:26]}"), 503)
    assert flow.sum_ledger_by_line() == {}


def test_callback_during_a_store_outage_is_asked_to_retry(
    flow: OrderFlow, proxy_and_redis: tuple[FilteringProxy, redis_servers.RedisServer]
) -> None:
    flow.order_images("runapi")
    flow.gateway.wait_until_idle()
    with proxy_and_redis[0].block_commands():
        answer = httpx.post(get_callback_url(flow, "runapi"), json={}, trust_env=False)
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True), answer.text
