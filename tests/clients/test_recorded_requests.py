"""Recorded requests of third-party clients, replayed byte for byte: each gets images that it can read."""

import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.harness.gateway_runner import RunningGateway
from tests.harness.sample_images import decode_image

RECORDED_REQUESTS = sorted((Path(__file__).parent / "requests").glob("*.http"))
TIMEOUT_SECONDS = 30.0


def parse_recording(path: Path) -> tuple[set[str], bytes]:
    """Returns the response forms that the client reads, and its request."""
    client, reads, request = path.read_bytes().split(b"\n", 2)
    assert client.startswith(b"# client: ")
    assert reads.startswith(b"# reads: ")
    return set(reads.removeprefix(b"# reads: ").decode().split(" and ")), request


def replay_request(gateway: RunningGateway, request: bytes) -> tuple[int, dict[str, str], Any]:
    """Returns status, headers and JSON of the response."""
    address = urlsplit(gateway.url)
    assert address.hostname is not None
    with socket.create_connection((address.hostname, address.port or 80), timeout=TIMEOUT_SECONDS) as connection:
        connection.sendall(request)
        answer = connection.makefile("rb")
        status = int(answer.readline().split()[1])
        lines = iter(lambda: answer.readline().strip().decode(), "")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return status, headers, json.loads(answer.read(int(headers["content-length"])))


@pytest.mark.parametrize("path", RECORDED_REQUESTS, ids=[path.stem for path in RECORDED_REQUESTS])
def test_recorded_client_gets_images_in_the_form_that_it_reads(gateway: RunningGateway, path: Path) -> None:
    reads, request = parse_recording(path)
    status, headers, body = replay_request(gateway, request)
    assert status == 200, body
    assert headers["x-igw-job-id"].startswith("job_")
    (image,) = body["data"]
    assert reads <= set(image)
    size = tuple(map(int, body["size"].split("x")))
    if "b64_json" in image:
        assert decode_image(image["b64_json"]).size == size
    if "url" in image:
        assert httpx.get(image["url"], trust_env=False).raise_for_status().headers["content-type"].startswith("image/")


def test_recorded_requests_are_all_different() -> None:
    requests = [parse_recording(path)[1] for path in RECORDED_REQUESTS]
    assert len(set(requests)) == len(requests) >= 20
