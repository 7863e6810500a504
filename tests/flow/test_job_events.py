"""`GET /v1/jobs/{id}/events` on both stores, at the worker's replica and at another one."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.flow.flow_config import API_KEY, OTHER_TEAM_KEY, RUNAPI, GatewaySetup
from tests.flow.gateway_on_store import (
    Replicas,
    make_fixture_beside_replicas,
    make_gateway_fixture,
    make_replicas_fixture,
)
from tests.flow.job_checks import make_unknown_id
from tests.flow.order_flow import FlowGateway, OrderFlow
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import FAST_TIMINGS, change_timing
from tests.harness.wait import wait_until

HEARTBEAT_SECONDS = 0.3
SETUP = GatewaySetup(timing=change_timing(FAST_TIMINGS, api={"event_heartbeat_seconds": HEARTBEAT_SECONDS}))
Event = dict[str, Any]

sqlite_gateway = make_gateway_fixture(SETUP, store="sqlite")
redis_replicas = make_replicas_fixture(SETUP)
gateway_and_store = make_fixture_beside_replicas()


@contextmanager
def open_stream(
    gateway: FlowGateway, job_id: str, key: str = API_KEY, starting_after: int | None = None, **headers: str
) -> Iterator[httpx.Response]:
    params = {} if starting_after is None else {"starting_after": starting_after}
    all_headers = {"authorization": f"Bearer {key}", **headers}
    with gateway.http.stream("GET", f"/v1/jobs/{job_id}/events", params=params, headers=all_headers) as response:
        yield response


def iterate_blocks(response: httpx.Response) -> Iterator[str]:
    """Yields the blocks of the stream, which an empty line ends."""
    text = ""
    for chunk in response.iter_text():
        *blocks, text = (text + chunk).split("\n\n")
        yield from blocks
    assert text == "", "the last event is incomplete"


def parse_events(blocks: Iterator[str]) -> list[Event]:
    """Checks and parses the events among the blocks."""
    events = []
    for block in blocks:
        if block.startswith("id: "):
            fields = dict(line.split(": ", 1) for line in block.split("\n"))
            event = json.loads(fields["data"])
            assert (fields["id"], fields["event"]) == (str(event["number"]), event["type"])
            events.append(event)
        else:
            assert block == ": heartbeat" or block.startswith("retry: "), block
    return events


def read_events(gateway: FlowGateway, job_id: str, **options: Any) -> list[Event]:
    with open_stream(gateway, job_id, **options) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        return parse_events(iterate_blocks(response))


def get_names(events: list[Event]) -> list[tuple[int, str]]:
    return [(event["number"], event["type"]) for event in events]


ALL_EVENTS = [(1, "job.queued"), (2, "job.in_progress"), (3, "job.image"), (4, "job.completed")]


def test_stream_follows_a_running_job_and_ends_with_it(flow: OrderFlow) -> None:
    flow.sandbox.hold_orders(vendor="runapi")
    job_id = flow.start_job(provider={"only": [RUNAPI]})
    with open_stream(flow.gateway, job_id) as response:
        blocks = iterate_blocks(response)
        assert next(blocks) == "retry: 2000"
        started_at = time.monotonic()
        while next(blocks) != ": heartbeat":
            pass
        assert time.monotonic() - started_at < 10
        flow.sandbox.release_orders(vendor="runapi")
        events = parse_events(blocks)
    assert get_names(events)[-2:] == ALL_EVENTS[-2:]
    final = events[-1]["job"]
    assert (final["id"], final["status"], final["delivered"]) == (job_id, "completed", 1)
    assert "image" in events[-2]
    assert flow.gateway.get_job(job_id)["status"] == "completed"


def test_stream_of_an_ended_job_replays_its_events(flow: OrderFlow) -> None:
    job_id = flow.order_images(RUNAPI)["id"]
    assert get_names(read_events(flow.gateway, job_id)) == ALL_EVENTS
    for number in range(6):
        expected = ALL_EVENTS[number:]
        assert get_names(read_events(flow.gateway, job_id, starting_after=number)) == expected
        assert get_names(read_events(flow.gateway, job_id, **{"last-event-id": str(number)})) == expected


def test_reconnected_listener_misses_and_repeats_nothing(flow: OrderFlow) -> None:
    flow.sandbox.hold_orders(vendor="runapi")
    job_id = flow.start_job(provider={"only": [RUNAPI]}, n=2)
    with open_stream(flow.gateway, job_id) as response:
        first_block = next(block for block in iterate_blocks(response) if block.startswith("id: "))
    assert first_block.startswith("id: 1\n")
    flow.sandbox.release_orders(vendor="runapi")
    rest = read_events(flow.gateway, job_id, **{"last-event-id": "1"})
    assert [event["number"] for event in rest] == [2, 3, 4, 5]
    assert sorted(event["image"] for event in rest if event["type"] == "job.image") == [0, 1]


def test_disconnected_listeners_change_nothing(flow: OrderFlow) -> None:
    flow.sandbox.hold_orders(vendor="runapi")
    job_id = flow.start_job(provider={"only": [RUNAPI]})
    request = f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n\r\n"
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", httpx.URL(flow.gateway.url).port or 0)) as connection:
            connection.sendall(request.encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
    flow.sandbox.release_orders(vendor="runapi")
    assert flow.gateway.get_job(job_id)["status"] == "completed"
    assert len(flow.sandbox.list_charges()) == 1


def test_many_listeners_of_one_job_get_all_events(flow: OrderFlow) -> None:
    flow.sandbox.hold_orders(vendor="runapi")
    job_id = flow.start_job(provider={"only": [RUNAPI]})
    with ThreadPoolExecutor(30) as pool:
        futures = [pool.submit(read_events, flow.gateway, job_id) for _ in range(30)]
        wait_until(lambda: flow.count_orders(RUNAPI) == 1, "the order was sent")
        flow.sandbox.release_orders(vendor="runapi")
        assert [get_names(future.result()) for future in futures] == [ALL_EVENTS] * 30


def test_listener_at_another_replica_gets_events_at_once(redis_replicas: Replicas, sandbox: RunningSandbox) -> None:
    (first, second), (_, raw) = redis_replicas
    flow = OrderFlow(first, sandbox, raw)
    flow.sandbox.hold_orders(vendor="runapi")
    job_id = flow.start_job(provider={"only": [RUNAPI]})
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(read_events, second, job_id)
        wait_until(lambda: flow.count_orders(RUNAPI) == 1, "the order was sent")
        flow.sandbox.release_orders(vendor="runapi")
        assert get_names(future.result()) == ALL_EVENTS
    flow.check_ledger_matches_invoice()


def test_job_of_another_team_has_no_events(flow: OrderFlow) -> None:
    job_id = flow.order_images(RUNAPI)["id"]
    bodies = []
    for name, key in ((job_id, OTHER_TEAM_KEY), (make_unknown_id(job_id), API_KEY)):
        with open_stream(flow.gateway, name, key) as response:
            assert response.status_code == 404
            bodies.append(json.loads(response.read())["error"])
    assert bodies[0] == bodies[1]


@pytest.mark.parametrize("position", ["-1", "x", "1.5", "²"])
def test_invalid_position_is_refused(flow: OrderFlow, position: str) -> None:
    job_id = flow.order_images(RUNAPI)["id"]
    url, headers = f"/v1/jobs/{job_id}/events", {"authorization": f"Bearer {API_KEY}"}
    answers = [flow.gateway.http.get(url, params={"starting_after": position}, headers=headers)]
    if position.isascii():
        answers.append(flow.gateway.http.get(url, headers={**headers, "last-event-id": position}))
    assert [answer.status_code for answer in answers] == [400] * len(answers)
