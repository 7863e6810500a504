"""Requests of other people's clients, replayed byte for byte over a socket: each gets images that it can read."""

import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.clients.pictures import opened
from tests.serving import Serving

RECORDED = sorted((Path(__file__).parent / "requests").glob("*.http"))
TIMEOUT_SECONDS = 30.0


def recorded(path: Path) -> tuple[set[str], bytes]:
    """The forms that the client reads, and its request."""
    client, reads, request = path.read_bytes().split(b"\n", 2)
    assert client.startswith(b"# client: ")
    assert reads.startswith(b"# reads: ")
    return set(reads.removeprefix(b"# reads: ").decode().split(" and ")), request


def replayed(gateway: Serving, request: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of the answer."""
    address = urlsplit(gateway.url)
    assert address.hostname is not None
    with socket.create_connection((address.hostname, address.port or 80), timeout=TIMEOUT_SECONDS) as connection:
        connection.sendall(request)
        answer = connection.makefile("rb")
        status = int(answer.readline().split()[1])
        lines = iter(lambda: answer.readline().strip().decode(), "")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return status, headers, json.loads(answer.read(int(headers["content-length"])))


@pytest.mark.parametrize("path", RECORDED, ids=[path.stem for path in RECORDED])
def test_recorded_client_gets_images_in_the_form_that_it_reads(gateway: Serving, path: Path) -> None:
    reads, request = recorded(path)
    status, headers, said = replayed(gateway, request)
    assert status == 200, said
    assert headers["x-igw-job-id"].startswith("job_")
    (image,) = said["data"]
    assert reads <= set(image)
    size = tuple(map(int, said["size"].split("x")))
    if "b64_json" in image:
        assert opened(image["b64_json"]).size == size
    if "url" in image:
        assert httpx.get(image["url"], trust_env=False).raise_for_status().headers["content-type"].startswith("image/")


def test_every_recorded_request_is_about_another_client_or_form() -> None:
    requests = [recorded(path)[1] for path in RECORDED]
    assert len(set(requests)) == len(requests) >= 20
