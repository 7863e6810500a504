"""A replica is killed while a client waits: the client's retry returns the same job, bought once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from tests.chaos.store_setups import LEASE_SECONDS, StoreSetup
from tests.harness.gateway_process import API_KEY, GatewayProcess, run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.sent_request import SentRequest
from tests.harness.wait import wait_until

REQUEST_COUNT = 3
BODY = {"prompt": "a killed replica", "quality": "low"}


def _post_generation(gateway: GatewayProcess) -> httpx.Response:
    with gateway.make_client() as client:
        return client.post("/v1/images/generations", json=BODY)


def _post_and_retry(killed: GatewayProcess, other_gateway: GatewayProcess, is_up: threading.Event) -> str:
    """Sends a request that fails, and retries it once the gateway is up. Returns the id of the delivered job."""
    with pytest.raises(httpx.HTTPError):
        _post_generation(killed)
    is_up.wait()
    answer = _post_generation(other_gateway)
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]
    return str(answer.headers["x-igw-job-id"])


def _start_gateways(running: ExitStack, store_setup: StoreSetup) -> tuple[GatewayProcess, GatewayProcess]:
    """Starts two replicas, or one where the store takes only one."""
    folder, config, environ = store_setup.folder, store_setup.config, store_setup.environ
    gateway = running.enter_context(run_replica(folder / "1", config, environ))
    if store_setup.kind == "sqlite":
        return gateway, gateway
    return gateway, running.enter_context(run_replica(folder / "2", config, environ))


@pytest.mark.thorough
def test_retries_without_key_after_a_kill_return_the_same_jobs(
    store_setup: StoreSetup, sandbox: RunningSandbox
) -> None:
    sandbox.hold_orders()
    with ExitStack() as running, ThreadPoolExecutor(REQUEST_COUNT) as pool:
        gateway, other_gateway = _start_gateways(running, store_setup)
        is_up = threading.Event()
        futures = [pool.submit(_post_and_retry, gateway, other_gateway, is_up) for _ in range(REQUEST_COUNT)]
        wait_until(lambda: gateway.read_metric("igw_jobs_accepted_total") == REQUEST_COUNT, "all requests are accepted")
        wait_until(lambda: len(sandbox.list_requests("runflow", "submit")) == REQUEST_COUNT, "all orders were sent")
        gateway.kill()
        if other_gateway is gateway:
            gateway.start()
        sandbox.release_orders()
        is_up.set()
        delivered = {future.result() for future in futures}
        other_gateway.wait_until_idle()
        assert other_gateway.stays_idle(LEASE_SECONDS + 1.5)
    assert (len(delivered), len(sandbox.list_charges())) == (REQUEST_COUNT, REQUEST_COUNT)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "stopped"])
def test_retry_after_a_kill_returns_the_job_whose_response_was_not_read(
    store_setup: StoreSetup, sandbox: RunningSandbox, is_killed: bool
) -> None:
    """A stopped replica still sends its responses before it exits, so an equal request afterwards is a new job."""
    with ExitStack() as running:
        gateway, other_gateway = _start_gateways(running, store_setup)
        with SentRequest(f"{gateway.url}/v1/images/generations", API_KEY, BODY):
            wait_until(lambda: len(sandbox.list_charges()) == 1 and gateway.is_idle(), "the job is finished")
            if is_killed:
                gateway.kill()
        if not is_killed:
            gateway.stop()
        if other_gateway is gateway:
            gateway.start()
        retry = _post_generation(other_gateway)
        assert retry.status_code == 200, retry.text
        assert retry.headers.get("idempotent-replayed") == ("true" if is_killed else None)
        other_gateway.wait_until_idle()
        assert other_gateway.stays_idle(LEASE_SECONDS + 1.5)
    assert len(sandbox.list_charges()) == (1 if is_killed else 2)
