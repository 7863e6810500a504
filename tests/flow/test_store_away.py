"""The store is away while a client requests a paid image: a retry finds the image, and nothing is bought twice."""

from collections.abc import Iterator
from contextlib import closing
from uuid import uuid4

import httpx
import openai
import pytest

from tests.flow.configuration import KEY, Setup
from tests.flow.gateways import Flow, Gateway, running
from tests.flow.places import Kept
from tests.flow.test_callbacks import address_in
from tests.flow.test_orders_under_fault import PRICE
from tests.store import servers
from tests.store.gate import Gate, gate_to
from tests.store.raw_redis import RawRedis
from tests.vendors import Vendors

PICTURES = (b"HMGET", b"document:picture")
SETUP = Setup(
    constants={
        "gateway.store.redis.lane.PATIENCE_SECONDS": 0.5,
        "gateway.api.interruption.STORE_SECONDS": 1,
    }
)
RUNAPI = {"provider": {"only": ["runapi"]}, "quality": "low"}


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gate, servers.Server]]:
    with servers.single(tmp_path_factory.mktemp("away") / "redis") as server, gate_to(server.url) as gate:
        yield gate, server


@pytest.fixture(scope="module")
def kept(
    gate: tuple[Gate, servers.Server], sandbox_process: Vendors, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("away")
    environ = {
        "REDIS_URL": gate[0].url,
        "IGW_SECRET": "a secret of the flow tests",
        "IGW_ASSETS": str(folder / "images"),
        "IGW_ASSETS_SHARED": "yes",
    }
    with running(folder, sandbox_process, environ, SETUP) as gateway, closing(RawRedis(gate[1].client())) as raw:
        yield gateway, raw


def expect_message(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == "store_unavailable"
    assert ("retry-after" in answer.headers) is (status == 503)
    assert ("x-should-retry" in answer.headers) is (status != 503)
    return str(error["message"])


def shown(gateway: Gateway, job: str) -> httpx.Response:
    return gateway.http.get(f"/v1/jobs/{job}", headers={"authorization": f"Bearer {KEY}"})


def test_client_with_a_key_retries_and_finds_its_picture(flow: Flow, gate: tuple[Gate, servers.Server]) -> None:
    order = {"prompt": "a lighthouse", **RUNAPI}
    with gate[0].shut(*PICTURES):
        answer = flow.gateway.generate(order, idempotency_key="mine")
    assert "leads to that job" in expect_message(answer, 503)
    again = flow.gateway.generate(order, idempotency_key="mine")
    assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    assert again.headers["x-igw-job-id"] == answer.headers["x-igw-job-id"]
    assert flow.booked() == {("runapi", "capture"): PRICE["runapi"]}


def test_openais_sdk_asks_again_by_itself_and_gets_its_picture(flow: Flow, gate: tuple[Gate, servers.Server]) -> None:
    http = openai.DefaultHttpxClient(trust_env=False)
    with (
        openai.OpenAI(base_url=f"{flow.gateway.url}/v1", api_key=KEY, http_client=http) as client,
        gate[0].shut_for_a_moment(1.5, *PICTURES),
    ):
        raw = client.images.with_raw_response.generate(prompt=f"a lighthouse {uuid4()}", extra_body=RUNAPI)
    assert raw.headers["idempotent-replayed"] == "true"
    assert raw.parse().data[0].b64_json
    assert flow.booked() == {("runapi", "capture"): PRICE["runapi"]}


def test_client_that_would_buy_again_gets_the_address_of_its_job(flow: Flow, gate: tuple[Gate, servers.Server]) -> None:
    with gate[0].shut(*PICTURES):
        answer = flow.gateway.generate({"prompt": "a lighthouse", **RUNAPI})
        job = answer.headers["x-igw-job-id"]
        assert f"GET /v1/jobs/{job}" in expect_message(answer, 424)
        reading = shown(flow.gateway, job)
    assert "Nothing was ordered" not in expect_message(reading, 503)
    assert reading.headers["x-igw-job-id"] == job
    assert len(flow.pictures(shown(flow.gateway, job).json())) == 1
    assert flow.booked() == {("runapi", "capture"): PRICE["runapi"]}


def test_a_job_whose_first_picture_is_there_is_read_when_the_store_is_back(
    flow: Flow, gate: tuple[Gate, servers.Server]
) -> None:
    """Its worker knows the job, and the store alone what its picture is."""
    flow.sandbox.fault("slow", vendor="runapi", route="submit", seconds=1.5, times=1)
    job = flow.gateway.ask({"prompt": "a lighthouse", "n": 2, **RUNAPI}, prefer="wait=0").json()["id"]
    flow.gateway.until("one is there", lambda: len(shown(flow.gateway, job).json()["images"]) == 1)
    with gate[0].shut(*PICTURES):
        expect_message(shown(flow.gateway, job), 503)
    assert len(flow.gateway.job(job)["images"]) == 2


def test_answer_names_the_job_that_cannot_be_read(flow: Flow, gate: tuple[Gate, servers.Server]) -> None:
    job = str(flow.buy("runapi")["id"])
    flow.gateway.until_idle()
    with gate[0].shut():
        answer = shown(flow.gateway, job)
    expect_message(answer, 503)
    assert answer.headers["x-igw-job-id"] == job
    assert shown(flow.gateway, job).status_code == 200


def test_nothing_is_ordered_while_nothing_can_be_looked_up_or_kept(
    flow: Flow, gate: tuple[Gate, servers.Server]
) -> None:
    with gate[0].shut():
        answer = flow.gateway.generate({"prompt": "a lighthouse", **RUNAPI}, idempotency_key="other")
        assert "Nothing was ordered" in expect_message(answer, 503)
        assert "x-igw-job-id" not in answer.headers
        expect_message(shown(flow.gateway, f"job_00{uuid4().hex[:26]}"), 503)
    assert flow.booked() == {}


def test_a_callback_that_cannot_be_looked_up_is_to_come_again(flow: Flow, gate: tuple[Gate, servers.Server]) -> None:
    flow.buy("runapi")
    flow.gateway.until_idle()
    with gate[0].shut():
        answer = httpx.post(address_in(flow, "runapi"), json={}, trust_env=False)
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True), answer.text
