"""What was refused with 503 is not bought later, unless its caller asks again in time: also if the process dies."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx
import openai
import pytest

from gateway.store.redis.scripts import ACCEPT
from tests.chaos import books
from tests.chaos.gateways import KEY, Gateway, gateway, until
from tests.chaos.places import LEASE, Stored
from tests.chaos.test_standing_still import PATIENCE, standing_still
from tests.store.gate import gate_to
from tests.store.servers import Server
from tests.vendors import Vendors

CONFIRM = 6.0
ASKED = 20
BODY = {"quality": "low", "policy": "runapi"}


@contextmanager
def replica(shared: Stored, name: str, confirm: float = CONFIRM, **environ: str) -> Iterator[Gateway]:
    environ = {**shared.environ, "CHAOS_CONFIRM_SECONDS": str(confirm), **environ}
    with gateway(shared.folder / name, shared.config, environ) as one:
        yield one


@pytest.fixture
def replicas(shared: Stored) -> Iterator[tuple[Gateway, Gateway]]:
    with ExitStack() as running:
        one, two = (running.enter_context(replica(shared, name)) for name in ("1", "2"))
        yield one, two


def ask(client: httpx.Client, number: int, **headers: str) -> httpx.Response:
    path = "/v1/jobs" if number % 2 else "/v1/images/generations"
    return client.post(path, json={**BODY, "prompt": f"unsure {number}"}, headers=headers)


def asked(at: Gateway, number: int = ASKED) -> list[httpx.Response]:
    with at.client() as client, ThreadPoolExecutor(number) as pool:
        return list(pool.map(lambda one: ask(client, one), range(number)))


def sdk(at: Gateway, **options: object) -> openai.OpenAI:
    http = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=f"{at.url}/v1", api_key=KEY, http_client=http, **options)  # type: ignore[arg-type]


def served(at: Gateway) -> str:
    """One job before the trouble: Redis knows the scripts by then, and connections are open."""
    with at.client() as client:
        answer = client.post("/v1/jobs", json={**BODY, "prompt": "before"}, headers={"prefer": "wait=30"})
    assert answer.json()["status"] == "completed"
    return str(answer.json()["id"])


def assert_withdrawn(at: Gateway, shared: Stored, sandbox: Vendors, earlier: str) -> None:
    """Those that Redis carried out when it was back; the others it never got."""

    def all_have_ended() -> bool:
        saved = books.read(shared.make)
        return len(saved.jobs) > 1 and not saved.unsettled()

    until(all_have_ended, "all have ended", seconds=CONFIRM + 15)
    assert at.is_idle_for(LEASE + 1.5)
    at.stop()
    saved = books.read(shared.make)
    late = [job for name, job in saved.jobs.items() if name != earlier]
    assert {(job.state, job.withdrawn) for job in late} == {("cancelled", True)}
    books.assert_in_order(saved, [earlier])
    assert len(sandbox.charges()) == 1


def test_requests_that_a_silent_redis_did_not_answer_are_not_bought_when_it_is_back(
    shared: Stored, redis_server: Server, sandbox: Vendors
) -> None:
    with replica(shared, "1") as one:
        earlier = served(one)
        with standing_still(redis_server.pid, 0.5):
            answers = asked(one)
        assert {answer.status_code for answer in answers} == {503}
        assert any("it is withdrawn" in answer.text for answer in answers)
        assert_withdrawn(one, shared, sandbox, earlier)


def test_they_are_withdrawn_by_another_replica_if_theirs_has_died(
    replicas: tuple[Gateway, Gateway], shared: Stored, redis_server: Server, sandbox: Vendors
) -> None:
    one, two = replicas
    earlier = served(one)
    with standing_still(redis_server.pid, 0.0):
        answers = asked(one)
        one.kill()
    assert {answer.status_code for answer in answers} == {503}
    assert_withdrawn(two, shared, sandbox, earlier)


def test_requests_that_the_store_never_got_are_refused_for_sure(
    shared: Stored, redis_server: Server, sandbox: Vendors
) -> None:
    with replica(shared, "1") as one:
        redis_server.stop()
        try:
            answers = asked(one, 30)
        finally:
            redis_server.start()
        assert {answer.status_code for answer in answers} == {503}
        assert all("Nothing was ordered" in answer.text for answer in answers), answers[0].text
        time.sleep(LEASE + 1.5)
        assert one.is_idle_for(LEASE + 1.5)
        one.stop()
    assert books.read(shared.make).jobs == {}
    assert sandbox.charges() == []


def test_caller_that_asks_again_in_time_is_served_once(shared: Stored, redis_server: Server, sandbox: Vendors) -> None:
    """OpenAI's SDK does so by itself; others with their key, or simply with the same request."""
    with ExitStack() as open_ones, replica(shared, "1") as one, ThreadPoolExecutor(12) as pool:
        clients = [open_ones.enter_context(sdk(one, max_retries=3)) for _ in range(4)]
        with standing_still(redis_server.pid, PATIENCE + 1.0):
            pictures = [
                pool.submit(client.images.generate, prompt=f"by its SDK {number}", extra_body=BODY)
                for number, client in enumerate(clients)
            ]
            with one.client() as client:
                keyed = list(pool.map(lambda one: ask(client, one, **{"idempotency-key": f"key-{one}"}), range(4)))
        assert {answer.status_code for answer in keyed} == {503}
        with one.client() as client:
            again = [
                ask(client, number, prefer="wait=30", **{"idempotency-key": f"key-{number}"}) for number in range(4)
            ]
        assert {answer.status_code for answer in again} == {200}, [answer.text[:300] for answer in again]
        assert all(picture.result().data for picture in pictures)
        assert one.is_idle_for(LEASE + 1.5)
        one.stop()
    saved = books.read(shared.make)
    books.assert_in_order(saved, [])
    books.assert_invoice_is_explained(saved, sandbox)
    assert len(sandbox.charges()) == 8


def test_what_was_promised_with_202_is_bought_though_its_process_dies_at_once(
    replicas: tuple[Gateway, Gateway], shared: Stored, sandbox: Vendors
) -> None:
    one, two = replicas
    with one.client() as client:
        job = ask(client, 1)
        one.kill()
    assert job.status_code == 202
    ended = two.get(f"/v1/jobs/{job.json()['id']}?wait=30").json()
    assert ended["status"] == "completed"
    assert len(sandbox.charges()) == 1


@contextmanager
def overtaken(
    shared: Stored, redis_server: Server, confirm: float, is_over: Callable[[Gateway], object]
) -> Iterator[tuple[httpx.Response, Gateway, Gateway]]:
    """The answer of a replica that lost its store once it had accepted the job, until that is over at another one."""
    with (
        gate_to(redis_server.url) as gate,
        replica(shared, "1", confirm, REDIS_URL=gate.url) as one,
        replica(shared, "2", confirm) as two,
        one.client() as client,
        ThreadPoolExecutor(1) as pool,
    ):
        served(one)
        with gate.shut_after(ACCEPT.sha.encode()):
            asking = pool.submit(ask, client, 1)
            until(lambda: two.metric("igw_rescues_total"), "the other replica takes it over")
            until(lambda: is_over(two), "that is over")
        yield asking.result(), one, two


def test_job_that_another_replica_has_taken_over_is_bought_if_its_own_promises_it(
    shared: Stored, redis_server: Server, sandbox: Vendors
) -> None:
    with overtaken(shared, redis_server, 8.0, lambda two: True) as (answer, one, two):
        assert answer.status_code == 202, answer.text
        assert two.get(f"/v1/jobs/{answer.json()['id']}?wait=30").json()["status"] == "completed"
        until(lambda: one.is_idle() and two.is_idle(), "all is settled")
    saved = books.read(shared.make)
    books.assert_in_order(saved, [answer.json()["id"]])
    books.assert_invoice_is_explained(saved, sandbox)
    assert len(sandbox.charges()) == 2


def test_job_that_another_replica_has_withdrawn_is_not_promised(
    shared: Stored, redis_server: Server, sandbox: Vendors
) -> None:
    with overtaken(shared, redis_server, 4.0, lambda two: not books.read(shared.make).unsettled()) as found:
        answer, one, _ = found
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "withdrawn"), answer.text
        assert "retry-after" in answer.headers
        assert len(sandbox.charges()) == 1, "only what was served before the trouble"
        with one.client() as client:
            assert ask(client, 1, prefer="wait=30").json()["status"] == "completed"
    assert len(sandbox.charges()) == 2
