"""Inputs that lie there without a job, and jobs whose inputs lie there no more."""

import contextlib
from pathlib import Path

import httpx

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


def test_an_edit_whose_input_is_gone_fails_once_and_by_name(shared: Stored, sandbox: Vendors) -> None:
    """Its gateway died before it had ordered anything. There are several sellers, and none is asked."""
    with gateway(shared.folder, shared.config, {**shared.environ, "CHAOS_POISON": "buying"}) as one:
        asked_and_died(one)
        (given,) = kept(shared)
        given.unlink()
        del one.environ["CHAOS_POISON"]
        one.start()
        job = asked(one).json()["id"]
        found = httpx.get(f"{one.url}/v1/jobs/{job}?wait=30", headers=HEADERS, timeout=40.0, trust_env=False).json()
        assert (found["status"], found["error"]["code"], found["attempts"]) == ("failed", "input_missing", [])
        until(one.is_idle, "all is settled")
        assert one.metric("igw_troubles_total") == 0
    assert sandbox.charges() == []
    assert [one for vendor in ("runflow", "runapi") for one in sandbox.requests(vendor, "submit")] == []
