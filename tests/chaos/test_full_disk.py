"""A gateway that dies while the disk is full starts again: it serves what is there, and takes new jobs once it can."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from tests.chaos.clients import post
from tests.chaos.gateways import Gateway, gateway, until
from tests.chaos.places import place
from tests.vendors import Vendors

DISK_MB = 32


@contextmanager
def mounted(disk: Path, *options: str) -> Iterator[Path]:
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join((f"size={DISK_MB}m,mode=700", *options)), "images", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no disk can be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)  # noqa: S607


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk") as disk:
        yield disk


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Not a byte is left, until the block ends."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        _fill(file)
    try:
        yield
    finally:
        filler.unlink()


def _fill(file: IO[bytes]) -> None:
    while True:
        file.write(bytes(4_096))


def readiness(one: Gateway, status: int) -> Any:
    answer = one.get("/readyz")
    return answer.json() if answer.status_code == status else None


def test_gateway_starts_with_a_full_disk_of_images(tmp_path: Path, disk: Path, sandbox: Vendors) -> None:
    stored = place(tmp_path, sandbox, None)
    with gateway(stored.folder, stored.config, {"IGW_ASSETS": str(disk)}) as one, one.client() as client:
        done = post(client, "done", "runapi", wait=20).json()
        assert one.get("/readyz").json()["storage"] == {"takes_images": True, "problem": None}
        sandbox.latency(1.5)
        running = post(client, "running", "runflow-runs").json()["id"]
        until(lambda: sandbox.requests("runflow", "submit"), "it is ordered")
        with full(disk):
            one.kill()
            one.start()
            state = until(lambda: readiness(one, 503), "it says that it is not ready")
            assert state["storage"] == {"takes_images": False, "problem": "there is no room for another image"}
            assert state["store"]["takes_writes"]
            assert str(disk) not in str(state)
            refused = post(client, "refused", "runapi")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
            assert refused.json()["error"]["code"] == "storage_unavailable"
            assert client.get(done["images"][0]["url"]).status_code == 200
            assert post(client, "done", "runapi", wait=20).json()["id"] == done["id"], (
                "a repeated request finds its job"
            )
            until(lambda: sandbox.requests("runflow", "poll"), "the running order is asked about")
            assert client.get(f"/v1/jobs/{running}").json()["status"] == "in_progress"
        until(lambda: readiness(one, 200), "it is ready again")
        assert client.get(f"/v1/jobs/{running}", params={"wait": 20}).json()["status"] == "completed"
        assert post(client, "refused", "runapi", wait=20).json()["status"] == "completed"
    assert len(sandbox.charges()) == 3


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_gateway_starts_with_a_full_disk_of_everything(
    tmp_path: Path, disk: Path, sandbox: Vendors, end: signal.Signals
) -> None:
    """Its database included: that can be read, and is written again as soon as there is room."""
    stored = place(tmp_path, sandbox, None)
    with gateway(disk / "gateway", stored.config) as one, one.client() as client:
        done = post(client, "done", "runapi", wait=20).json()
        one.signal(end)
        one.ended()
        one.log = tmp_path / "log"
        with full(disk):
            one.start()
            state = until(lambda: readiness(one, 503), "it says that it is not ready")
            assert state["storage"]["problem"] == "there is no room for another image"
            assert client.get(done["images"][0]["url"]).status_code == 200
            assert client.get(f"/v1/jobs/{done['id']}").json()["status"] == "completed"
            assert post(client, "refused", "runapi").status_code == 503
            state = until(lambda: _silent(one), "the store takes no writes")
            assert "engine.share" in state["tasks"]["down"]
        until(lambda: readiness(one, 200), "it is ready again")
        assert post(client, "refused", "runapi", wait=20).json()["status"] == "completed"
    assert len(sandbox.charges()) == 2


def _silent(one: Gateway) -> Any:
    state = one.get("/readyz").json()
    return None if state["store"]["takes_writes"] else state


def test_running_gateway_that_runs_out_of_room_takes_no_new_jobs(tmp_path: Path, disk: Path, sandbox: Vendors) -> None:
    """The first image that does not fit shows it, and is stored as soon as there is room."""
    stored = place(tmp_path, sandbox, None)
    with gateway(stored.folder, stored.config, {"IGW_ASSETS": str(disk)}) as one, one.client() as client:
        post(client, "first", "runapi", wait=20)
        with full(disk):
            last = post(client, "last", "runapi").json()["id"]
            until(lambda: readiness(one, 503), "it says that it is not ready")
            assert post(client, "refused", "runapi").status_code == 503
        until(lambda: readiness(one, 200), "it is ready again")
        assert client.get(f"/v1/jobs/{last}", params={"wait": 20}).json()["status"] == "completed"
    assert len(sandbox.charges()) == 2


def test_folder_that_may_not_be_written_is_still_refused(tmp_path: Path, sandbox: Vendors) -> None:
    stored = place(tmp_path, sandbox, None)
    with mounted(tmp_path / "read-only", "ro") as disk:
        one = Gateway(stored.folder, stored.config, {"IGW_ASSETS": str(disk)})
        with pytest.raises(AssertionError, match="may not be used by this process"):
            one.start()
        assert one.ended() == 1
