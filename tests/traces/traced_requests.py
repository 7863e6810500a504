"""Requests with a trace of their own, and the trees of their spans."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
from msgspec import Struct

from gateway.jobs.commit import decode_job
from gateway.jobs.job import Job
from gateway.trace_context import make_span_id, make_trace_id
from tests.harness.gateway_process import GatewayProcess
from tests.harness.trace_collector import ReceivedSpan
from tests.harness.wait import wait_until

GENERATIONS, JOBS = "/v1/images/generations", "/v1/jobs"
# The gateway's clock for jobs follows corrections of the system clock slowly.
CLOCK_TOLERANCE = 0.05
TRACESTATE = "congo=t61rcWkgMzE,fw529a3039@dt=FfAAAA;x"
BODY: dict[str, object] = {"prompt": "a lighthouse at dawn", "quality": "low"}


class ClientSpan(Struct, frozen=True):
    """The span of a client that sends a request."""

    trace_id: str
    span_id: str
    flags: str = "01"

    @property
    def headers(self) -> dict[str, str]:
        return {"traceparent": f"00-{self.trace_id}-{self.span_id}-{self.flags}"}


def make_client_span(flags: str = "01") -> ClientSpan:
    return ClientSpan(make_trace_id(), make_span_id(), flags)


def post(gateway: GatewayProcess, path: str, client_span: ClientSpan | None = None, **fields: object) -> httpx.Response:
    """Sends a request for an image, and waits for the image."""
    headers = {"prefer": "wait=30", "tracestate": TRACESTATE, **(client_span.headers if client_span else {})}
    prompt = {} if "input" in fields else BODY
    with gateway.make_client() as client:
        answer = client.post(path, json=prompt | fields, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def load_stored_job(gateway: GatewayProcess, job_id: str) -> Job:
    """Reads a job from the gateway's SQLite database."""
    with closing(sqlite3.connect(f"{(gateway.folder / 'data' / 'gateway.db').as_uri()}?mode=ro", uri=True)) as database:
        [(encoded_job,)] = database.execute("SELECT encoded_job FROM jobs WHERE id = ?", (job_id,))
    return decode_job(encoded_job)


def render_tree(spans: list[ReceivedSpan]) -> list[str]:
    """Renders each span below its parent, by start time, with its seller."""
    known_ids = {span.span_id for span in spans}
    assert len(known_ids) == len(spans), "each span is exported once"

    def render(span: ReceivedSpan, depth: int) -> Iterator[str]:
        seller, error = span.attributes.get("igw.seller"), span.attributes.get("error.type")
        yield "  " * depth + " ".join(text for text in (span.name, seller, error) if text)
        for child in sorted(spans, key=lambda child: child.started_at):
            if child.parent_id == span.span_id:
                yield from render(child, depth + 1)

    return [line for span in spans if span.parent_id not in known_ids for line in render(span, 0)]


def wait_for_log_lines(gateway: GatewayProcess, event: str, **fields: object) -> list[dict[str, Any]]:
    """Returns the lines of an event that have these fields, once there is one."""

    def find_lines() -> list[dict[str, Any]]:
        lines = gateway.read_log_lines()
        return [line for line in lines if line["event"] == event and fields.items() <= line.items()]

    return wait_until(find_lines, f"the log has a line {event!r} with {fields}")
