"""Inputs that lie there without a job, and jobs whose inputs lie there no more."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.clients import post
from tests.chaos.gateways import STRANGERS_KEY, Gateway, gateway, until
from tests.chaos.places import Stored
from tests.chaos.test_crashes import INPUT
from tests.chaos.test_replicas import ended
from tests.vendors import Vendors

HEADERS = {"authorization": f"Bearer {STRANGERS_KEY}", "idempotency-key": "one-edit"}


def kept(stored: Stored) -> list[Path]:
    """All files of images, whosever they are."""
    shelf = Path(stored.environ.get("IGW_ASSETS", stored.folder / "data" / "images"))
    return [path for path in shelf.rglob("*.*") if path.is_file()]


def test_inputs_that_became_no_job_are_swept_and_others_are_not(stored: Stored, sandbox: Vendors) -> None:
    with gateway(stored.folder, stored.config, {**stored.environ, "CHAOS_POISON": "accepting"}) as one:
        with one.client() as client:
            (job,) = ended(one, [post(client, "key", "runflow-runs", image=INPUT).json()["id"]])
        assert job["status"] == "completed"
        before = kept(stored)
        assert len(before) == 2, "its input, and its picture"
        asked_and_died(one)
        assert len(kept(stored)) == 3
        one.start()
        until(lambda: kept(stored) == before, "what became no job is gone")
        assert one.get(f"/v1/jobs/{job['id']}").json()["status"] == "completed"


def asked(one: Gateway) -> httpx.Response:
    """Always the same, by a stranger."""
    wishes = {"operation": "edit", "prompt": "a lighthouse", "quality": "low", "image": INPUT}
    return httpx.post(f"{one.url}/v1/jobs", json=wishes, headers=HEADERS, trust_env=False)


def asked_and_died(one: Gateway) -> None:
    with contextlib.suppress(httpx.TransportError):
        asked(one)
    one.ended()


@contextlib.contextmanager
def edit_before_it_is_bought(shared: Stored) -> Iterator[tuple[Gateway, Path]]:
    """A gateway that died before it ordered anything, and the input of its job. It may be started again."""
    with gateway(shared.folder, shared.config, {**shared.environ, "CHAOS_POISON": "buying"}) as one:
        asked_and_died(one)
        (given,) = kept(shared)
        del one.environ["CHAOS_POISON"]
        yield one, given


def found_at_its_end(one: Gateway) -> dict[str, Any]:
    job = asked(one).json()["id"]
    answer = httpx.get(f"{one.url}/v1/jobs/{job}?wait=30", headers=HEADERS, timeout=40.0, trust_env=False)
    return dict(answer.json())


REPLACED: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "a folder": Path.mkdir,
    "a link": lambda path: path.symlink_to("/etc/passwd"),
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("lies_there", REPLACED)
def test_an_edit_whose_input_is_gone_fails_once_and_by_name(lies_there: str, shared: Stored, sandbox: Vendors) -> None:
    """There are several sellers, and none is asked. Only what somebody has laid there is told to the operator."""
    with edit_before_it_is_bought(shared) as (one, given):
        given.unlink()
        REPLACED[lies_there](given)
        one.start()
        found = found_at_its_end(one)
        assert (found["status"], found["error"]["code"], found["attempts"]) == ("failed", "input_missing", [])
        until(one.is_idle, "all is settled")
        assert one.metric("igw_troubles_total") == (lies_there != "nothing")
        assert (str(given.relative_to(given.parents[2])) in one.said()) == (lies_there != "nothing")
    assert sandbox.charges() == []
    assert [one for vendor in ("runflow", "runapi") for one in sandbox.requests(vendor, "submit")] == []


def test_an_edit_whose_input_cannot_be_reached_waits_for_it(shared: Stored, sandbox: Vendors) -> None:
    """As when a disk is mounted elsewhere for a moment."""
    with edit_before_it_is_bought(shared) as (one, given):
        folder, elsewhere = given.parents[1], shared.folder / "elsewhere"
        folder.rename(elsewhere)
        folder.symlink_to(elsewhere)
        one.start()
        # Nothing is bought for a caller that got no answer, unless it asks again.
        asked(one)
        until(lambda: one.metric("igw_troubles_total"), "it was tried")
        folder.unlink()
        elsewhere.rename(folder)
        assert found_at_its_end(one)["status"] == "completed"
    assert len(sandbox.charges()) == 1
