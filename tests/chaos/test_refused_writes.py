"""A store that refuses writes: clients read what is wrong with it, and operators what to do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import Struct

from tests.chaos import store_audit
from tests.chaos.persistent_clients import post_job
from tests.chaos.store_setups import LEASE_SECONDS, StoreSetup, create_store_setup
from tests.harness.cli_runner import run_command
from tests.harness.gateway_process import GatewayProcess, run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.tmpfs import fill_disk, mount_tmpfs
from tests.harness.wait import wait_for_value, wait_until
from tests.store import redis_servers
from tests.store.redis_servers import RedisServer

# No internals of the gateway, and no name of a product.
INTERNALS = ("redis", "sqlite", "127.0.0.1", "maxmemory", "replica")
DISK_MB = 32


class WriteRefusal(Struct, frozen=True):
    """How to make a Redis refuse writes, and to undo it. `words`: what clients read. `remedy`: what operators read.

    `is_ready`: `/readyz` is 200, because updates of existing jobs are recorded."""

    begin: Callable[[RedisServer], object]
    end: Callable[[RedisServer], object]
    words: str
    remedy: str
    is_ready: bool = False


def set_option(name: str, value: str) -> Callable[[RedisServer], object]:
    return lambda server: server.execute("CONFIG", "SET", name, value)


def run(*command: object) -> Callable[[RedisServer], object]:
    return lambda server: server.execute(*command)


REFUSALS = {
    "full": WriteRefusal(
        begin=set_option("maxmemory", "1mb"),
        end=set_option("maxmemory", "0"),
        words="The job store of this gateway is full",
        remedy="Raise maxmemory",
        is_ready=True,
    ),
    "replica": WriteRefusal(
        begin=run("REPLICAOF", "127.0.0.1", "1"),
        end=run("REPLICAOF", "NO", "ONE"),
        words="The job store of this gateway is read-only",
        remedy="Let REDIS_URL lead to the primary",
    ),
    "without replicas": WriteRefusal(
        begin=set_option("min-replicas-to-write", "1"),
        end=set_option("min-replicas-to-write", "0"),
        words="The job store of this gateway is read-only",
        remedy="Start the replicas, or lower min-replicas-to-write",
    ),
    "evicting": WriteRefusal(
        begin=set_option("maxmemory-policy", "allkeys-lru"),
        end=set_option("maxmemory-policy", "noeviction"),
        words="The job store of this gateway might lose jobs",
        remedy="CONFIG SET maxmemory-policy noeviction",
        is_ready=True,
    ),
}


@pytest.fixture(params=REFUSALS)
def refusal(request: pytest.FixtureRequest) -> WriteRefusal:
    return REFUSALS[request.param]


def test_refused_write_is_explained_to_clients_and_operators(
    redis_setup: StoreSetup, redis_server: RedisServer, refusal: WriteRefusal
) -> None:
    with (
        run_replica(redis_setup.folder, redis_setup.config, redis_setup.environ) as gateway,
        gateway.make_client() as client,
    ):
        finished = post_job(client, "finished", "runapi", wait_seconds=30).json()
        with begin_refusal(redis_server, refusal):
            expect_explained_rejection(wait_for_rejection(client, refusal.words))
            assert client.get(f"/v1/jobs/{finished['id']}").json()["status"] == "completed"
            status = 200 if refusal.is_ready else 503
            wait_for_value(lambda: gateway.get("/readyz").status_code, lambda code: code == status, f"it has {status}")
            expect_remedy(redis_setup, gateway, refusal.remedy)
        wait_until(lambda: post_job(client, "later", "runapi").status_code == 202, "jobs are accepted again")
        wait_until(lambda: gateway.get("/readyz").json()["store"]["warnings"] == [], "the warnings are gone")


@contextmanager
def begin_refusal(server: RedisServer, refusal: WriteRefusal) -> Iterator[None]:
    refusal.begin(server)
    try:
        yield
    finally:
        refusal.end(server)


def wait_for_rejection(client: httpx.Client, words: str, path: str = "/v1/images/generations") -> httpx.Response:
    """Posts new jobs until one is rejected with these words: a running gateway notices some problems within seconds."""
    numbers = count()

    def post_next() -> httpx.Response:
        body = {"prompt": f"rejected {next(numbers)}", "policy": "runapi", "quality": "low"}
        return client.post(path, json=body)

    return wait_for_value(post_next, lambda response: words in response.text, f"clients read {words!r}")


def expect_explained_rejection(response: httpx.Response) -> None:
    assert response.status_code == 503
    assert (response.headers["retry-after"], response.headers["x-should-retry"]) == ("5", "true")
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == "store_unavailable"
    assert error["message"].endswith("Retry the request. You were not charged.")
    assert [word for word in INTERNALS if word in error["message"].lower()] == []


def find_readiness(gateway: GatewayProcess, remedy: str) -> Any:
    readiness = gateway.get("/readyz").json()
    texts = [*readiness["store"]["warnings"], *(task["error"] for task in readiness["tasks"]["down"].values())]
    return readiness if any(remedy in text for text in texts) else None


def has_logged(gateway: GatewayProcess, remedy: str) -> bool:
    return any(
        line["event"] == "error reported" and line["component"] == "store" and remedy in line["message"]
        for line in gateway.read_problem_lines()
    )


def run_doctor(setup: StoreSetup, gateway: GatewayProcess) -> str:
    arguments = (
        "doctor",
        "--json",
        "--config",
        str(setup.config),
        "--data",
        str(setup.folder / "data"),
        "--url",
        gateway.url,
    )
    result = run_command(*arguments, "--timeout", "50", folder=setup.folder, **gateway.environ)
    return result.stdout + result.stderr


def test_full_disk_of_the_database_is_explained(tmp_path: Path, sandbox: RunningSandbox) -> None:
    setup = create_store_setup(tmp_path, sandbox, None)
    with (
        mount_tmpfs(tmp_path / "disk", DISK_MB) as disk,
        run_replica(disk / "gateway", setup.config, {"IGW_ASSETS": str(tmp_path / "images")}) as gateway,
        gateway.make_client() as client,
    ):
        post_job(client, "finished", "runapi", wait_seconds=30)
        with fill_disk(disk):
            expect_explained_rejection(wait_for_rejection(client, "The job store of this gateway is full"))
            readiness = wait_until(lambda: find_readiness(gateway, "Free some space"), "/readyz says what to do")
            assert str(disk) not in str(readiness["tasks"]), "/readyz shows no path"
        wait_until(lambda: post_job(client, "later", "runapi").status_code == 202, "jobs are accepted again")


class FullDisk(Struct, frozen=True):
    """A Redis that cannot write to its disk. `options`: of the server. `has_ended`: it ends then. `is_snapshot`: only
    its snapshots are on that disk."""

    options: tuple[str, ...]
    words: str = "The job store of this gateway is read-only"
    has_ended: bool = False
    is_snapshot: bool = False


FULL_DISKS = {
    "append-only file": FullDisk(("--appendfsync", "everysec")),
    "append-only file, always": FullDisk(
        ("--appendfsync", "always"), words="The job store is unavailable", has_ended=True
    ),
    "snapshot": FullDisk(
        (*("--save", "1", "1", "--stop-writes-on-bgsave-error", "yes"), "--enable-protected-configs", "yes"),
        is_snapshot=True,
    ),
}
RUNNING_ORDERS = ("runapi", "runflow-runs", "openai")


@pytest.mark.thorough
@pytest.mark.parametrize("case", FULL_DISKS)
def test_full_disk_of_redis_is_explained_and_running_orders_end(
    case: str, tmp_path: Path, sandbox: RunningSandbox
) -> None:
    full_disk = FULL_DISKS[case]
    with (
        mount_tmpfs(tmp_path / "disk", DISK_MB) as disk,
        redis_servers.run_single_server(
            (tmp_path if full_disk.is_snapshot else disk) / "redis", *full_disk.options
        ) as server,
    ):
        setup = create_store_setup(tmp_path, sandbox, server)
        with run_replica(setup.folder, setup.config, setup.environ) as gateway, gateway.make_client() as client:
            server.wait_for_aof_rewrite()
            if full_disk.is_snapshot:
                server.execute("CONFIG", "SET", "dir", str(disk))
            sandbox.hold_orders()
            running = [post_job(client, f"running-{seller}", seller).json()["id"] for seller in RUNNING_ORDERS]
            wait_until(lambda: count_orders(sandbox) == len(RUNNING_ORDERS), "all orders are sent")
            with fill_disk(disk):
                expect_explained_rejection(wait_for_rejection(client, full_disk.words, "/v1/jobs"))
                wait_for_value(lambda: gateway.get("/readyz").status_code, lambda code: code == 503, "it is unready")
                if not full_disk.has_ended:
                    expect_remedy(setup, gateway, "Make room on that disk")
                sandbox.release_orders()
                wait_until(lambda: len(sandbox.list_charges()) >= len(RUNNING_ORDERS), "the orders have ended")
            if full_disk.has_ended:
                server.kill()
                server.start()
            for job_id in running:
                assert client.get(f"/v1/jobs/{job_id}", params={"wait": 60}).json()["status"] == "completed"
            wait_until(lambda: gateway.get("/readyz").status_code == 200, "/readyz reports ready again")
            later = post_job(client, "later", "runapi", wait_seconds=30).json()
            assert later["status"] == "completed"
            wait_until(lambda: gateway.stays_idle(LEASE_SECONDS), "all jobs are settled")
            gateway.stop()
        store_audit.audit_store(setup.make_store, sandbox, [*running, later["id"]])


def expect_remedy(setup: StoreSetup, gateway: GatewayProcess, remedy: str) -> None:
    wait_until(lambda: find_readiness(gateway, remedy), "/readyz says what to do")
    wait_until(lambda: has_logged(gateway, remedy), "the log says what to do")
    assert remedy in run_doctor(setup, gateway)


def count_orders(sandbox: RunningSandbox) -> int:
    return sum(len(sandbox.list_requests(vendor, "submit")) for vendor in ("runapi", "runflow", "openai"))
