"""A replica is killed while a client that counts no retries waits: its repetition gets the job, bought once."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from tests.chaos.gateways import KEY, Gateway, gateway, until
from tests.chaos.places import LEASE, Stored
from tests.vendors import Vendors

ASKED = 3
BODY = {"prompt": "a killed replica", "quality": "low"}
ORDER_SECONDS = 4.0


def _asked(at: Gateway) -> httpx.Response:
    with at.client() as client:
        return client.post("/v1/images/generations", json=BODY)


def _repeated(killed: Gateway, other: Gateway, is_up: threading.Event) -> str:
    """The job that was delivered in the end."""
    with pytest.raises(httpx.HTTPError):
        _asked(killed)
    is_up.wait()
    answer = _asked(other)
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]
    return str(answer.headers["x-igw-job-id"])


def test_plain_repetitions_after_a_kill_buy_nothing_again(stored: Stored, sandbox: Vendors) -> None:
    sandbox.latency(ORDER_SECONDS)
    with ExitStack() as running, ThreadPoolExecutor(ASKED) as pool:
        one = running.enter_context(gateway(stored.folder / "1", stored.config, stored.environ))
        is_single = stored.kind == "sqlite"
        other = one if is_single else running.enter_context(gateway(stored.folder / "2", stored.config, stored.environ))
        is_up = threading.Event()
        asked = [pool.submit(_repeated, one, other, is_up) for _ in range(ASKED)]
        until(lambda: one.metric("igw_jobs_accepted_total") == ASKED, "all are accepted")
        until(lambda: len(sandbox.requests("runflow", "submit")) == ASKED, "all are ordered")
        one.kill()
        if is_single:
            one.start()
        is_up.set()
        delivered = {each.result() for each in asked}
        assert other.is_idle_for(LEASE + 1.5)
    assert (len(delivered), len(sandbox.charges())) == (ASKED, ASKED)


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "stopped"])
def test_repetition_after_a_kill_gets_a_job_that_ended_before_its_answer_was_read(
    stored: Stored, sandbox: Vendors, is_killed: bool
) -> None:
    """A replica that stops in good order has answered its callers: an equal request is another order."""
    with ExitStack() as running:
        one = running.enter_context(gateway(stored.folder / "1", stored.config, stored.environ))
        is_single = stored.kind == "sqlite"
        other = one if is_single else running.enter_context(gateway(stored.folder / "2", stored.config, stored.environ))
        with socket.create_connection(("127.0.0.1", one.port)) as client:
            body = json.dumps(BODY, separators=(",", ":")).encode()
            lines = ["POST /v1/images/generations HTTP/1.1", "host: x", f"authorization: Bearer {KEY}"]
            lines += ["content-type: application/json", f"content-length: {len(body)}", "", ""]
            client.sendall("\r\n".join(lines).encode() + body)
            until(lambda: len(sandbox.charges()) == 1 and one.is_idle(), "it has ended")
            if is_killed:
                one.kill()
        if not is_killed:
            one.stop()
        if is_single:
            one.start()
        again = _asked(other)
        assert again.status_code == 200, again.text
        assert again.headers.get("idempotent-replayed") == ("true" if is_killed else None)
        assert other.is_idle_for(LEASE + 1.5)
    assert len(sandbox.charges()) == (1 if is_killed else 2)
