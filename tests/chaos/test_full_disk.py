"""A gateway starts with a full disk: it serves existing images and accepts new jobs once there is space."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.persistent_clients import post_job
from tests.chaos.store_setups import create_store_setup
from tests.harness.gateway_process import GatewayProcess, run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.tmpfs import fill_disk, mount_tmpfs
from tests.harness.wait import wait_until

DISK_MB = 32


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mount_tmpfs(tmp_path / "disk", DISK_MB) as disk:
        yield disk


def get_readiness(gateway: GatewayProcess, status: int) -> Any:
    answer = gateway.get("/readyz")
    return answer.json() if answer.status_code == status else None


@pytest.mark.thorough
def test_gateway_starts_with_a_full_image_disk(tmp_path: Path, disk: Path, sandbox: RunningSandbox) -> None:
    setup = create_store_setup(tmp_path, sandbox, None)
    with (
        run_replica(setup.folder, setup.config, {"IGW_ASSETS": str(disk)}) as gateway,
        gateway.make_client() as client,
    ):
        finished_job = post_job(client, "done", "runapi", wait_seconds=20).json()
        assert gateway.get("/readyz").json()["storage"] == {"takes_images": True, "problem": None}
        sandbox.hold_orders()
        running = post_job(client, "running", "runflow-runs").json()["id"]
        wait_until(lambda: sandbox.list_requests("runflow", "submit"), "the order was sent")
        with fill_disk(disk):
            gateway.kill()
            gateway.start()
            state = wait_until(lambda: get_readiness(gateway, 503), "/readyz reports not ready")
            assert state["storage"] == {"takes_images": False, "problem": "there is no room for another image"}
            assert state["store"]["takes_writes"]
            assert str(disk) not in str(state)
            rejected = post_job(client, "refused", "runapi")
            assert (rejected.status_code, rejected.headers["retry-after"]) == (503, "10")
            assert rejected.json()["error"]["code"] == "storage_unavailable"
            assert client.get(finished_job["images"][0]["url"]).status_code == 200
            assert post_job(client, "done", "runapi", wait_seconds=20).json()["id"] == finished_job["id"], (
                "a retry returns its job"
            )
            poll_count = len(sandbox.list_requests("runflow", "poll"))
            sandbox.release_orders()
            wait_until(
                lambda: len(sandbox.list_requests("runflow", "poll")) > poll_count, "the finished order is polled"
            )
            assert client.get(f"/v1/jobs/{running}").json()["status"] == "in_progress"
        wait_until(lambda: get_readiness(gateway, 200), "/readyz reports ready again")
        assert client.get(f"/v1/jobs/{running}", params={"wait": 20}).json()["status"] == "completed"
        assert post_job(client, "refused", "runapi", wait_seconds=20).json()["status"] == "completed"
    assert len(sandbox.list_charges()) == 3


@pytest.mark.thorough
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_gateway_starts_with_a_full_image_and_database_disk(
    tmp_path: Path, disk: Path, sandbox: RunningSandbox, end: signal.Signals
) -> None:
    """The database is on the same disk: it is readable, and is written again once there is space."""
    setup = create_store_setup(tmp_path, sandbox, None)
    with run_replica(disk / "gateway", setup.config) as gateway, gateway.make_client() as client:
        finished_job = post_job(client, "done", "runapi", wait_seconds=20).json()
        gateway.send_signal(end)
        gateway.wait_for_exit()
        gateway.log_folder = tmp_path
        with fill_disk(disk):
            gateway.start()
            state = wait_until(lambda: get_readiness(gateway, 503), "/readyz reports not ready")
            assert state["storage"]["problem"] == "there is no room for another image"
            assert client.get(finished_job["images"][0]["url"]).status_code == 200
            assert client.get(f"/v1/jobs/{finished_job['id']}").json()["status"] == "completed"
            assert post_job(client, "refused", "runapi").status_code == 503
            state = wait_until(lambda: _get_readiness_without_writes(gateway), "/readyz reports a store without writes")
            assert "engine.publish_health" in state["tasks"]["down"]
        wait_until(lambda: get_readiness(gateway, 200), "/readyz reports ready again")
        assert post_job(client, "refused", "runapi", wait_seconds=20).json()["status"] == "completed"
    assert len(sandbox.list_charges()) == 2


def _get_readiness_without_writes(gateway: GatewayProcess) -> Any:
    state = gateway.get("/readyz").json()
    return None if state["store"]["takes_writes"] else state


def test_running_gateway_with_a_full_disk_rejects_new_jobs(tmp_path: Path, disk: Path, sandbox: RunningSandbox) -> None:
    """The first image that cannot be written makes the gateway unready. It is stored once there is space."""
    setup = create_store_setup(tmp_path, sandbox, None)
    with (
        run_replica(setup.folder, setup.config, {"IGW_ASSETS": str(disk)}) as gateway,
        gateway.make_client() as client,
    ):
        post_job(client, "first", "runapi", wait_seconds=20)
        with fill_disk(disk):
            last_job_id = post_job(client, "last", "runapi").json()["id"]
            wait_until(lambda: get_readiness(gateway, 503), "/readyz reports not ready")
            assert post_job(client, "refused", "runapi").status_code == 503
            assert gateway.read_metric("igw_storage_takes_images") == 0
        wait_until(lambda: get_readiness(gateway, 200), "/readyz reports ready again")
        assert gateway.read_metric("igw_storage_takes_images") == 1
        assert client.get(f"/v1/jobs/{last_job_id}", params={"wait": 20}).json()["status"] == "completed"
    assert len(sandbox.list_charges()) == 2


def test_gateway_does_not_start_with_a_read_only_folder(tmp_path: Path, sandbox: RunningSandbox) -> None:
    setup = create_store_setup(tmp_path, sandbox, None)
    with mount_tmpfs(tmp_path / "read-only", DISK_MB, "ro") as disk:
        gateway = GatewayProcess(setup.folder, setup.config, {"IGW_ASSETS": str(disk)})
        with pytest.raises(AssertionError, match="may not be used by this process"):
            gateway.start()
        assert gateway.wait_for_exit() == 1
