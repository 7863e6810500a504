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


def get_response(flow: OrderFlow, job_id: str, params: dict[str, Any], **headers: str) -> httpx.Response:
    all_headers = {"authorization": f"Bearer {API_KEY}", **headers}
    return flow.gateway.http.get(f"/v1/jobs/{job_id}/events", params=params, headers=all_headers)


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
    for number in range(4):
        expected = ALL_EVENTS[number:]
        assert get_names(read_events(flow.gateway, job_id, starting_after=number)) == expected
        assert get_names(read_events(flow.gateway, job_id, **{"last-event-id": str(number)})) == expected


POSITIONS_AT_THE_END = ["4", "5", "0004", "999999999999999999999999999", "9" * 300]


@pytest.mark.parametrize("position", POSITIONS_AT_THE_END, ids=lambda position: position[:12])
def test_request_after_the_last_event_of_an_ended_job_gets_204(flow: OrderFlow, position: str) -> None:
    job_id = flow.order_images(RUNAPI)["id"]
    for answer in (
        get_response(flow, job_id, {}, **{"last-event-id": position}),
        get_response(flow, job_id, {"starting_after": position}),
        get_response(flow, job_id, {"starting_after": 1}, **{"last-event-id": position}),
    ):
        assert (answer.status_code, answer.content, answer.headers["x-igw-job-id"]) == (204, b"", job_id)
        assert not {"content-type", "transfer-encoding"} & set(answer.headers)


@pytest.mark.parametrize("params", [{}, {"starting_after": 0}, {"starting_after": "000"}, {"starting_after": 2}])
def test_event_source_of_a_browser_ends_with_the_job(flow: OrderFlow, params: dict[str, Any]) -> None:
    flow.sandbox.hold_orders(vendor="runapi")
    job_id = flow.start_job(provider={"only": [RUNAPI]})
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(run_event_source, flow, job_id, params)
        wait_until(lambda: flow.count_orders(RUNAPI) == 1, "the order was sent")
        flow.sandbox.release_orders(vendor="runapi")
        blocks, statuses = future.result()
    assert statuses == [200, 204]
    first = int(params.get("starting_after", 0))
    assert get_names(parse_events(iter(blocks))) == ALL_EVENTS[first:]


def run_event_source(flow: OrderFlow, job_id: str, params: dict[str, Any]) -> tuple[list[str], list[int]]:
    """Acts as the HTML standard demands of EventSource: it connects again, to the same URL and with the id of the last
    event, after every stream that ends, until another status than 200. The pause between is left out."""
    blocks: list[str] = []
    statuses, headers = [], {"authorization": f"Bearer {API_KEY}"}
    while len(statuses) < 5:
        with flow.gateway.http.stream("GET", f"/v1/jobs/{job_id}/events", params=params, headers=headers) as response:
            statuses.append(response.status_code)
            if response.status_code != 200:
                break
            blocks += iterate_blocks(response)
        ids = [block.partition("\n")[0] for block in blocks if block.startswith("id: ")]
        headers["last-event-id"] = ids[-1].removeprefix("id: ")
    return blocks, statuses


def test_events_are_the_same_live_and_replayed(flow: OrderFlow) -> None:
    flow.sandbox.hold_orders(vendor="runapi")
    job_id = flow.start_job(provider={"only": [RUNAPI]}, n=2)
    with open_stream(flow.gateway, job_id) as response:
        blocks = iterate_blocks(response)
        live = [block for block in (next(blocks), next(blocks)) if block.startswith("id: ")]
        flow.sandbox.release_orders(vendor="runapi")
        live += [block for block in blocks if block.startswith("id: ")]
    with open_stream(flow.gateway, job_id) as response:
        replayed = [block for block in iterate_blocks(response) if block.startswith("id: ")]
    assert live == replayed
    jobs = [event["job"] for event in parse_events(iter(replayed))]
    assert [job["status"] for job in jobs] == ["queued", *["in_progress"] * 3, "completed"]
    assert [job["delivered"] for job in jobs] == [0, 0, 1, 2, 2]
    assert jobs[0]["cost"] == 0
    assert {(job["id"], job["n"]) for job in jobs} == {(job_id, 2)}
    job = flow.gateway.get_job(job_id)
    assert jobs[-1]["cost"] == job["usage"]["cost"] > 0


def test_position_of_another_job_is_only_a_number(flow: OrderFlow) -> None:
    """A number beyond the events of a running job means its last one: later events follow."""
    flow.sandbox.hold_orders(vendor="runapi")
    job_id = flow.start_job(provider={"only": [RUNAPI]})
    with open_stream(flow.gateway, job_id, **{"last-event-id": "77"}) as response:
        assert response.status_code == 200
        flow.sandbox.release_orders(vendor="runapi")
        events = parse_events(iterate_blocks(response))
    assert get_names(events)[-2:] == ALL_EVENTS[-2:]


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
        events = future.result()
    assert get_names(events) == ALL_EVENTS
    assert read_events(first, job_id) == events
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
    answers = [get_response(flow, job_id, {"starting_after": position})]
    if position.isascii():
        answers.append(get_response(flow, job_id, {}, **{"last-event-id": position}))
    assert [answer.status_code for answer in answers] == [400] * len(answers)
