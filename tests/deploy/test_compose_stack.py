"""The profile `sandbox` of the compose file draws images through one address, also while replicas drain or crash."""

import base64
import io
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from PIL import Image

from tests.deploy.compose_stack import ComposeStack, run_sandbox_stack
from tests.harness.gateway_process import API_KEY
from tests.harness.wait import wait_until

BODY = {"prompt": "a lighthouse", "quality": "low"}


@pytest.fixture(scope="module")
def running_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeStack]:
    with run_sandbox_stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture
def stack(running_stack: ComposeStack) -> ComposeStack:
    """The services, all running, without any job."""
    running_stack.sandbox.release_orders()
    for replica in running_stack.replicas:
        if not replica.is_running:
            replica.start_again()
        replica.wait_until_idle()
    running_stack.wait_until_all_serve()
    return running_stack


def test_picture_is_drawn_without_any_key_of_a_seller(stack: ComposeStack) -> None:
    with stack.make_client() as client:
        response = client.post("/v1/images/generations", json=BODY)
        assert response.status_code == 200, response.text
        with Image.open(io.BytesIO(base64.b64decode(response.json()["data"][0]["b64_json"]))) as image:
            assert (image.format, image.size) == ("PNG", (1024, 1024))


def test_jobs_of_both_replicas_are_read_at_the_address(stack: ComposeStack) -> None:
    """The address sends one request after the other to another replica, so that each reads jobs of both."""
    ids = []
    for replica in stack.replicas:
        with replica.make_client(timeout_seconds=60, api_key=API_KEY) as client:
            ids.append(client.post("/v1/jobs", json=BODY, headers={"prefer": "wait=60"}).json()["id"])
        assert replica.read_metric("igw_jobs_accepted_total") > 0
    with stack.make_client() as client:
        jobs = [client.get(f"/v1/jobs/{job_id}").json() for job_id in sorted(ids * 2)]
    assert [job["status"] for job in jobs] == ["completed"] * 4


def test_callbacks_of_simulated_sellers_arrive_at_the_address(stack: ComposeStack) -> None:
    def count_callbacks() -> float:
        return sum(
            replica.read_metric("igw_callbacks_total", adapter="runapi", outcome=outcome)
            for replica in stack.replicas
            for outcome in ("accepted", "duplicate", "late")
        )

    before = count_callbacks()
    with stack.make_client() as client:
        body = {**BODY, "provider": {"only": ["runapi"]}}
        job = client.post("/v1/jobs", json=body, headers={"prefer": "wait=60"}).json()
    assert job["status"] == "completed"
    assert job["images"][0]["url"].startswith("http://127.0.0.1:8080/"), "clients get the public URL"
    wait_until(lambda: count_callbacks() > before, "a callback arrives")


@pytest.mark.thorough
def test_metrics_are_hidden_behind_the_address(stack: ComposeStack) -> None:
    with stack.make_client() as client:
        assert client.get("/metrics").status_code == 404
        assert client.get("/readyz").status_code == 200


def test_stream_is_passed_on_before_it_ends(stack: ComposeStack) -> None:
    stack.sandbox.hold_orders()
    with stack.make_client() as client:
        job_id = client.post("/v1/jobs", json=BODY).json()["id"]
        with client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
            lines = response.iter_lines()
            first = next(line for line in lines if line.startswith("event:"))
            stack.sandbox.release_orders()
            events = [line for line in lines if line.startswith("event:")]
    assert first != events[-1]


def test_draining_replica_costs_no_request(stack: ComposeStack) -> None:
    """One replica drains for as long as its job takes. Until then it refuses new jobs, which the other one gets."""
    stack.sandbox.hold_orders(vendor="runflow")
    with ThreadPoolExecutor() as pool, stack.make_client() as client:
        held_body = {**BODY, "provider": {"only": ["runflow-runs"]}}
        held = pool.submit(client.post, "/v1/images/generations", json=held_body)
        draining = stack.find_busy_replica()
        draining.send_signal(signal.SIGTERM)
        wait_until(lambda: draining.get("/readyz").status_code == 503, "the replica drains")
        body = {**BODY, "provider": {"only": ["runapi"]}}
        answers = [client.post("/v1/images/generations", json=body) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 6
        stack.sandbox.release_orders()
        assert held.result().status_code == 200
    wait_until(draining.has_exited, "the replica has drained")


def test_replicas_restarted_one_at_a_time_fail_no_request(stack: ComposeStack) -> None:
    """Four clients send one request after another, as fast as they get images."""
    charges_before, is_upgraded = len(stack.sandbox.list_charges()), Event()
    stack.sandbox.set_latency(0.2)

    def send_requests(client_number: int) -> list[int]:
        statuses = []
        with stack.make_client() as client:
            while not is_upgraded.is_set():
                body = {**BODY, "prompt": f"request {len(statuses)} of client {client_number}"}
                statuses.append(client.post("/v1/images/generations", json=body).status_code)
        return statuses

    with ThreadPoolExecutor() as pool:
        clients = [pool.submit(send_requests, number) for number in range(4)]
        try:
            for replica in stack.replicas:
                wait_until(lambda replica=replica: replica.read_metric("igw_jobs_in_flight"), "the replica has jobs")
                replica.stop()
                replica.start_again()
                wait_until(lambda replica=replica: replica.read_metric("igw_jobs_accepted_total"), "it serves again")
        finally:
            is_upgraded.set()
        statuses = [status for client in clients for status in client.result()]
    assert set(statuses) == {200}, Counter(statuses)
    assert len(stack.sandbox.list_charges()) == charges_before + len(statuses)


def test_killed_replica_costs_no_image_and_no_second_purchase(stack: ComposeStack) -> None:
    charges_before, orders_before = (
        len(stack.sandbox.list_charges()),
        len(stack.sandbox.list_requests("runapi", "submit")),
    )
    body = {**BODY, "provider": {"only": ["runapi"]}}
    stack.sandbox.hold_orders()
    with ThreadPoolExecutor() as pool, stack.make_client() as client:
        lost = pool.submit(client.post, "/v1/images/generations", json=body)
        killed = stack.find_busy_replica()
        wait_until(lambda: stack.sandbox.list_requests("runapi", "submit")[orders_before:], "the image is ordered")
        killed.kill()
        # The image was perhaps bought: nginx does not send the request to the other replica.
        assert lost.result().status_code == 502
        stack.sandbox.release_orders()
        others = [client.post("/v1/images/generations", json={**BODY, "prompt": f"{n}"}) for n in range(4)]
        assert [answer.status_code for answer in others] == [200] * 4
        repeated = client.post("/v1/images/generations", json=body)
        assert repeated.status_code == 200, "the other replica has finished the job of the killed one"
    assert len(stack.sandbox.list_charges()) == charges_before + 5


def test_address_answers_while_no_replica_runs(stack: ComposeStack) -> None:
    for replica in stack.replicas:
        replica.stop()
    with stack.make_client() as client:
        assert client.post("/v1/images/generations", json=BODY).status_code == 502
