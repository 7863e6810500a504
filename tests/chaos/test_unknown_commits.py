"""A request rejected with 503 because its commit's outcome is unknown is bought only if its client retries in time."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx
import openai
import pytest

from gateway.store.redis.scripts import COMMIT_NEW_JOB
from tests.chaos import store_audit
from tests.chaos.process_pauses import STORE_TIMEOUT_SECONDS, pause_process
from tests.chaos.store_setups import LEASE_SECONDS, StoreSetup
from tests.harness.child_spec import ChildSpec
from tests.harness.gateway_process import API_KEY, GatewayProcess, run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import CHAOS_TIMINGS, change_timing
from tests.harness.wait import GUARD_SECONDS, wait_for_value, wait_until
from tests.store.filtering_proxy import run_filtering_proxy
from tests.store.redis_servers import RedisServer

CONFIRMATION_TIMEOUT_SECONDS = 6.0
REQUEST_COUNT = 20
BODY = {"quality": "low", "policy": "runapi"}


@contextmanager
def run_redis_replica(
    redis_setup: StoreSetup, name: str, confirmation_seconds: float = CONFIRMATION_TIMEOUT_SECONDS, **environ: str
) -> Iterator[GatewayProcess]:
    # A request waits for the end of the outage, however long the other replica needs.
    timing = change_timing(
        CHAOS_TIMINGS,
        jobs={"confirmation_timeout_seconds": confirmation_seconds},
        api={"confirmation_timeout_seconds": GUARD_SECONDS},
    )
    child = ChildSpec(timing)
    with run_replica(redis_setup.folder / name, redis_setup.config, redis_setup.environ | environ, child) as gateway:
        yield gateway


@pytest.fixture
def replicas(redis_setup: StoreSetup) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    with ExitStack() as running:
        first, second = (running.enter_context(run_redis_replica(redis_setup, name)) for name in ("1", "2"))
        yield first, second


def post_request(client: httpx.Client, number: int, **headers: str) -> httpx.Response:
    path = "/v1/jobs" if number % 2 else "/v1/images/generations"
    return client.post(path, json={**BODY, "prompt": f"unconfirmed {number}"}, headers=headers)


def post_requests(gateway: GatewayProcess, count: int = REQUEST_COUNT) -> list[httpx.Response]:
    with gateway.make_client() as client, ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda number: post_request(client, number), range(count)))


def make_openai_client(gateway: GatewayProcess, **options: object) -> openai.OpenAI:
    http = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=API_KEY, http_client=http, **options)  # type: ignore[arg-type]


def complete_first_job(gateway: GatewayProcess) -> str:
    """Completes a job before the outage, so that Redis has the scripts and connections are open."""
    with gateway.make_client() as client:
        answer = client.post("/v1/jobs", json={**BODY, "prompt": "before"}, headers={"prefer": "wait=30"})
    assert answer.json()["status"] == "completed"
    return str(answer.json()["id"])


def assert_withdrawn(
    gateway: GatewayProcess, redis_setup: StoreSetup, sandbox: RunningSandbox, earlier_job_id: str
) -> None:
    """The jobs that Redis committed after its pause are withdrawn. It never received the others."""

    def list_jobs() -> list[tuple[str, str, bool]]:
        snapshot = store_audit.read_snapshot(redis_setup.make_store)
        return [(job_id, job.state, job.is_settled) for job_id, job in snapshot.jobs.items()]

    def all_are_settled(jobs: list[tuple[str, str, bool]]) -> bool:
        return len(jobs) > 1 and all(is_settled for _, _, is_settled in jobs)

    wait_for_value(list_jobs, all_are_settled, "the earlier job and at least one more are settled")
    assert gateway.stays_idle(LEASE_SECONDS + 1.5)
    gateway.stop()
    snapshot = store_audit.read_snapshot(redis_setup.make_store)
    unconfirmed_jobs = [job for name, job in snapshot.jobs.items() if name != earlier_job_id]
    assert {(job.state, job.is_withdrawn) for job in unconfirmed_jobs} == {("cancelled", True)}
    store_audit.assert_consistent(snapshot, [earlier_job_id])
    assert len(sandbox.list_charges()) == 1


@pytest.mark.thorough
def test_requests_rejected_by_a_paused_redis_are_not_bought_when_it_resumes(
    redis_setup: StoreSetup, redis_server: RedisServer, sandbox: RunningSandbox
) -> None:
    with run_redis_replica(redis_setup, "1") as gateway:
        earlier = complete_first_job(gateway)
        with pause_process(redis_server.pid, 0.5):
            answers = post_requests(gateway)
        assert {answer.status_code for answer in answers} == {503}
        assert any("it is withdrawn" in answer.text for answer in answers)
        assert_withdrawn(gateway, redis_setup, sandbox, earlier)


@pytest.mark.thorough
def test_another_replica_withdraws_unconfirmed_jobs_of_a_killed_one(
    replicas: tuple[GatewayProcess, GatewayProcess],
    redis_setup: StoreSetup,
    redis_server: RedisServer,
    sandbox: RunningSandbox,
) -> None:
    first, second = replicas
    earlier = complete_first_job(first)
    with pause_process(redis_server.pid, 0.0):
        answers = post_requests(first)
        first.kill()
    assert {answer.status_code for answer in answers} == {503}
    assert any("did not confirm" in answer.text for answer in answers), [answer.text for answer in answers]
    assert_withdrawn(second, redis_setup, sandbox, earlier)


@pytest.mark.thorough
def test_requests_that_never_reached_the_store_are_rejected_as_not_ordered(
    redis_setup: StoreSetup, redis_server: RedisServer, sandbox: RunningSandbox
) -> None:
    with run_redis_replica(redis_setup, "1") as gateway:
        redis_server.stop()
        try:
            answers = post_requests(gateway, 30)
        finally:
            redis_server.start()
        assert {answer.status_code for answer in answers} == {503}
        assert not [answer.text for answer in answers if "did not confirm" in answer.text]
        assert all("You were not charged." in answer.text for answer in answers), answers[0].text
        time.sleep(LEASE_SECONDS + 1.5)
        assert gateway.stays_idle(LEASE_SECONDS + 1.5)
        gateway.stop()
    assert store_audit.read_snapshot(redis_setup.make_store).jobs == {}
    assert sandbox.list_charges() == []


@pytest.mark.thorough
def test_client_that_retries_in_time_is_served_once(
    redis_setup: StoreSetup, redis_server: RedisServer, sandbox: RunningSandbox
) -> None:
    """OpenAI's SDK retries on its own; others retry with their key."""
    with ExitStack() as exit_stack, run_redis_replica(redis_setup, "1") as gateway, ThreadPoolExecutor(12) as pool:
        clients = [exit_stack.enter_context(make_openai_client(gateway, max_retries=3)) for _ in range(4)]
        with pause_process(redis_server.pid, STORE_TIMEOUT_SECONDS + 1.0):
            futures = [
                pool.submit(client.images.generate, prompt=f"by its SDK {number}", extra_body=BODY)
                for number, client in enumerate(clients)
            ]
            with gateway.make_client() as client:
                keyed = list(
                    pool.map(
                        lambda number: post_request(client, number, **{"idempotency-key": f"key-{number}"}), range(4)
                    )
                )
        assert {answer.status_code for answer in keyed} == {503}
        with gateway.make_client() as client:
            retries = [
                post_request(client, number, prefer="wait=30", **{"idempotency-key": f"key-{number}"})
                for number in range(4)
            ]
        assert {answer.status_code for answer in retries} == {200}, [answer.text[:300] for answer in retries]
        assert all(future.result().data for future in futures)
        gateway.wait_until_idle()
        assert gateway.stays_idle(LEASE_SECONDS + 1.5)
        gateway.stop()
    store_audit.audit_store(redis_setup.make_store, sandbox, [])
    assert len(sandbox.list_charges()) == 8


@pytest.mark.thorough
def test_job_accepted_with_202_is_bought_although_its_replica_is_killed(
    replicas: tuple[GatewayProcess, GatewayProcess], redis_setup: StoreSetup, sandbox: RunningSandbox
) -> None:
    first, second = replicas
    with first.make_client() as client:
        job = post_request(client, 1)
        first.kill()
    assert job.status_code == 202
    final_job = second.get(f"/v1/jobs/{job.json()['id']}?wait=30").json()
    assert final_job["status"] == "completed"
    assert len(sandbox.list_charges()) == 1


@contextmanager
def lose_store_after_commit(
    redis_setup: StoreSetup,
    redis_server: RedisServer,
    confirmation_seconds: float,
    has_finished: Callable[[GatewayProcess], object],
) -> Iterator[tuple[httpx.Response, GatewayProcess, GatewayProcess]]:
    """Cuts a replica off from its store right after it commits a job. Yields its response and both replicas."""
    with (
        run_filtering_proxy(redis_server.url) as proxy,
        run_redis_replica(redis_setup, "1", confirmation_seconds, REDIS_URL=proxy.url) as first,
        run_redis_replica(redis_setup, "2", confirmation_seconds) as second,
        first.make_client() as client,
        ThreadPoolExecutor(1) as pool,
    ):
        complete_first_job(first)
        with proxy.block_after_command(COMMIT_NEW_JOB.sha.encode()):
            request = pool.submit(post_request, client, 1)
            wait_until(
                lambda: second.read_metric("igw_jobs_reclaimed_total"), "the other replica has reclaimed the job"
            )
            wait_until(lambda: has_finished(second), "the other replica has finished")
        yield request.result(), first, second


@pytest.mark.thorough
def test_job_reclaimed_by_another_replica_is_bought_if_confirmed_by_its_own(
    redis_setup: StoreSetup, redis_server: RedisServer, sandbox: RunningSandbox
) -> None:
    with lose_store_after_commit(redis_setup, redis_server, 8.0, lambda second: True) as (answer, first, second):
        assert answer.status_code == 202, answer.text
        assert second.get(f"/v1/jobs/{answer.json()['id']}?wait=30").json()["status"] == "completed"
        wait_until(lambda: first.is_idle() and second.is_idle(), "all jobs are settled")
    store_audit.audit_store(redis_setup.make_store, sandbox, [answer.json()["id"]])
    assert len(sandbox.list_charges()) == 2


@pytest.mark.thorough
def test_job_withdrawn_by_another_replica_is_not_confirmed(
    redis_setup: StoreSetup, redis_server: RedisServer, sandbox: RunningSandbox
) -> None:
    with lose_store_after_commit(
        redis_setup,
        redis_server,
        4.0,
        lambda second: not store_audit.read_snapshot(redis_setup.make_store).list_unsettled_jobs(),
    ) as response_and_replicas:
        answer, first, _ = response_and_replicas
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "withdrawn"), answer.text
        assert "retry-after" in answer.headers
        assert len(sandbox.list_charges()) == 1, "only the job before the outage"
        with first.make_client() as client:
            assert post_request(client, 1, prefer="wait=30").json()["status"] == "completed"
    assert len(sandbox.list_charges()) == 2
