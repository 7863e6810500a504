"""A store that refuses writes: clients read what is wrong with it, and operators what to do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import Struct

from tests.chaos.persistent_clients import post_job
from tests.chaos.store_setups import StoreSetup, create_store_setup
from tests.harness.cli_runner import run_command
from tests.harness.gateway_process import GatewayProcess, run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.tmpfs import fill_disk, mount_tmpfs
from tests.harness.wait import wait_for_value, wait_until
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
            wait_until(lambda: find_readiness(gateway, refusal.remedy), "/readyz says what to do")
            status = 200 if refusal.is_ready else 503
            wait_for_value(lambda: gateway.get("/readyz").status_code, lambda code: code == status, f"it has {status}")
            wait_until(lambda: has_logged(gateway, refusal.remedy), "the log says what to do")
            assert refusal.remedy in run_doctor(redis_setup, gateway)
        wait_until(lambda: post_job(client, "later", "runapi").status_code == 202, "jobs are accepted again")
        wait_until(lambda: gateway.get("/readyz").json()["store"]["warnings"] == [], "the warnings are gone")


@contextmanager
def begin_refusal(server: RedisServer, refusal: WriteRefusal) -> Iterator[None]:
    refusal.begin(server)
    try:
        yield
    finally:
        refusal.end(server)


def wait_for_rejection(client: httpx.Client, words: str) -> httpx.Response:
    """Posts new jobs until one is rejected with these words: a running gateway notices some problems within seconds."""
    numbers = count()

    def post_next() -> httpx.Response:
        body = {"prompt": f"rejected {next(numbers)}", "policy": "runapi", "quality": "low"}
        return client.post("/v1/images/generations", json=body)

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
