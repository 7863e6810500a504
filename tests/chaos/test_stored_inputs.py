"""Stored inputs without a job are deleted; jobs whose stored input is missing fail."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.job_batches import INPUT_DATA_URI, wait_for_jobs
from tests.chaos.persistent_clients import post_job
from tests.chaos.store_setups import StoreSetup
from tests.harness.child_spec import ChildSpec
from tests.harness.crashes import make_crash_hook
from tests.harness.gateway_process import CHAOS_CHILD, OTHER_TEAM_KEY, GatewayProcess, run_replica
from tests.harness.sample_images import make_image
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import CHAOS_TIMINGS
from tests.harness.wait import wait_until

# Larger than what is received in memory.
LARGE_IMAGE = make_image(512, 512) + bytes(2 << 20)
PostEdit = Callable[[GatewayProcess], httpx.Response]
REQUEST_HEADERS = {"authorization": f"Bearer {OTHER_TEAM_KEY}", "idempotency-key": "one-edit"}


def make_crashing_child(point: str) -> ChildSpec:
    return ChildSpec(CHAOS_TIMINGS, (make_crash_hook(point),))


def list_image_files(store_setup: StoreSetup) -> list[Path]:
    """Returns all image files in the storage."""
    storage_folder = Path(store_setup.environ.get("IGW_ASSETS", store_setup.folder / "data" / "images"))
    return [path for path in storage_folder.rglob("*.*") if path.is_file()]


def get_stored_path(path: Path) -> str:
    """Returns the path of an image file in the storage folder, which the log names."""
    return str(path.relative_to(path.parents[2]))


@pytest.mark.thorough
def test_inputs_without_a_job_are_deleted_and_others_stay(store_setup: StoreSetup, sandbox: RunningSandbox) -> None:
    with run_replica(
        store_setup.folder, store_setup.config, store_setup.environ, make_crashing_child("commit")
    ) as gateway:
        with gateway.make_client() as client:
            (job,) = wait_for_jobs(
                gateway, [post_job(client, "key", "runflow-runs", image=INPUT_DATA_URI).json()["id"]]
            )
        assert job["status"] == "completed"
        before = list_image_files(store_setup)
        assert len(before) == 2, "the job's input and output image"
        post_edit_until_crash(gateway)
        assert len(list_image_files(store_setup)) == 3
        gateway.start()
        wait_until(lambda: list_image_files(store_setup) == before, "the input without a job is deleted")
        assert gateway.get(f"/v1/jobs/{job['id']}").json()["status"] == "completed"


def post_edit(gateway: GatewayProcess) -> httpx.Response:
    """Sends the same edit, from the other team."""
    params = {"operation": "edit", "prompt": "a lighthouse", "quality": "low", "image": INPUT_DATA_URI}
    return httpx.post(f"{gateway.url}/v1/jobs", json=params, headers=REQUEST_HEADERS, trust_env=False)


def post_large_form(gateway: GatewayProcess) -> httpx.Response:
    """Sends the same edit as a form, whose image is received on the disk. Its boundary is another one each time."""
    files = {"image": ("a.png", LARGE_IMAGE)}
    params = {"prompt": "a lighthouse", "quality": "low", "provider[only][]": "runflow-runs"}
    return httpx.post(
        f"{gateway.url}/v1/images/edits",
        data=params,
        files=files,
        headers=REQUEST_HEADERS,
        timeout=60.0,
        trust_env=False,
    )


def post_edit_until_crash(gateway: GatewayProcess, post: PostEdit = post_edit) -> None:
    with contextlib.suppress(httpx.TransportError):
        post(gateway)
    gateway.wait_for_exit()


@contextlib.contextmanager
def crash_before_ordering(redis_setup: StoreSetup, post: PostEdit = post_edit) -> Iterator[tuple[GatewayProcess, Path]]:
    """Yields a gateway that crashed before its first order, and the path of its job's input."""
    with run_replica(
        redis_setup.folder, redis_setup.config, redis_setup.environ, make_crashing_child("submit")
    ) as gateway:
        post_edit_until_crash(gateway, post)
        (input_path,) = list_image_files(redis_setup)
        gateway.child = CHAOS_CHILD
        yield gateway, input_path


def test_form_edit_survives_a_crash_before_its_order(redis_setup: StoreSetup, sandbox: RunningSandbox) -> None:
    """The input is in the storage before the job is accepted. A retry gets the job, and pays once."""
    with crash_before_ordering(redis_setup, post_large_form) as (gateway, input_path):
        assert input_path.read_bytes() == LARGE_IMAGE
        gateway.start()
        answer = post_large_form(gateway)
        assert (answer.status_code, answer.headers["idempotent-replayed"]) == (200, "true"), answer.text[:500]
        assert input_path.read_bytes() == LARGE_IMAGE
    assert len(sandbox.list_charges()) == 1


def wait_for_edit(gateway: GatewayProcess) -> dict[str, Any]:
    job = post_edit(gateway).json()["id"]
    answer = httpx.get(f"{gateway.url}/v1/jobs/{job}?wait=30", headers=REQUEST_HEADERS, timeout=40.0, trust_env=False)
    return dict(answer.json())


REPLACEMENTS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "a folder": Path.mkdir,
    "a link": lambda path: path.symlink_to("/etc/passwd"),
    "a pipe": os.mkfifo,
}


@pytest.mark.one_in(4)
@pytest.mark.parametrize("replacement", REPLACEMENTS)
def test_edit_with_missing_input_fails_with_input_missing(
    replacement: str, redis_setup: StoreSetup, sandbox: RunningSandbox
) -> None:
    """No seller gets an order. An unexpected file in the input's place is reported as an internal error."""
    with crash_before_ordering(redis_setup) as (gateway, input_path):
        input_path.unlink()
        REPLACEMENTS[replacement](input_path)
        gateway.start()
        final_job = wait_for_edit(gateway)
        assert (final_job["status"], final_job["error"]["code"], final_job["attempts"]) == (
            "failed",
            "input_missing",
            [],
        )
        wait_until(gateway.is_idle, "all jobs are settled")
        assert gateway.read_metric("igw_internal_errors_total") == (replacement != "nothing")
        if replacement == "nothing":
            assert get_stored_path(input_path) not in gateway.read_log()
        else:
            wait_until(lambda: get_stored_path(input_path) in gateway.read_log(), "the log names the file")
    assert sandbox.list_charges() == []
    assert [order for vendor in ("runflow", "runapi") for order in sandbox.list_requests(vendor, "submit")] == []


@pytest.mark.thorough
def test_edit_waits_for_an_unreachable_input(redis_setup: StoreSetup, sandbox: RunningSandbox) -> None:
    """The folder is missing for a moment, as during a remount."""
    with crash_before_ordering(redis_setup) as (gateway, input_path):
        folder, elsewhere = input_path.parents[1], redis_setup.folder / "elsewhere"
        folder.rename(elsewhere)
        folder.symlink_to(elsewhere)
        gateway.start()
        # The job is ordered only if its client retries, because the client got no response.
        post_edit(gateway)
        wait_until(lambda: gateway.read_metric("igw_internal_errors_total"), "the missing input is reported")
        folder.unlink()
        elsewhere.rename(folder)
        assert wait_for_edit(gateway)["status"] == "completed"
    assert len(sandbox.list_charges()) == 1


def test_link_in_place_of_an_image_is_logged_and_not_followed(redis_setup: StoreSetup, sandbox: RunningSandbox) -> None:
    with (
        run_replica(redis_setup.folder, redis_setup.config, redis_setup.environ) as gateway,
        gateway.make_client() as client,
    ):
        (job,) = wait_for_jobs(gateway, [post_job(client, "key", "runflow-runs").json()["id"]])
        (image,) = list_image_files(redis_setup)
        image.unlink()
        image.symlink_to("/etc/passwd")
        answer = client.get(job["images"][0]["url"])
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "images_unavailable")
        assert "root:" not in answer.text
        wait_until(lambda: get_stored_path(image) in gateway.read_log(), "the error is logged")
