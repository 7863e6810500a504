"""Finished jobs whose stored images tests replace, and whose requests they repeat."""

import base64
import json
import os
import socket
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from tests.api.error_responses import IMAGES_PATH, JOBS_PATH
from tests.api.raw_http import POST_IMAGE, RawResponse, connect
from tests.harness.gateway_runner import RunningGateway
from tests.harness.raw_sockets import read_until_closed

# Each of these images is larger than a response that is sent in one piece.
LARGE_IMAGES = {"size": "3840x2160"}
MIB = 1 << 20


class FinishedJob:
    """A finished job, the body and headers of its request, and the files of its images."""

    def __init__(self, gateway: RunningGateway, n: int, *, stream: bool = False, **headers: str) -> None:
        self._gateway, self._headers = gateway, headers
        fields = {"prompt": f"a lighthouse {uuid4()}", "n": n, "stream": stream}
        self._body = json.dumps(fields | LARGE_IMAGES).encode()
        self.id = self.repeat_request().headers["x-igw-job-id"]
        images = gateway.http.get(f"{JOBS_PATH}/{self.id}").json()["images"]
        self.image_urls = [image["url"] for image in images]

    @cached_property
    def files(self) -> list[Path]:
        return [find_image_file(self._gateway, url) for url in self.image_urls]

    def repeat_request(self, **headers: str) -> httpx.Response:
        headers = {"content-type": "application/json", **self._headers, **headers}
        return self._gateway.http.post(IMAGES_PATH, content=self._body, headers=headers)

    def render_request(self, **headers: str) -> bytes:
        """Returns the bytes of the request on a connection that is closed after it."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**self._headers, **headers}.items())
        head = POST_IMAGE + lines.encode() + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(self._body)
        return head + self._body

    def send_request(self, **headers: str) -> socket.socket:
        """Sends the request over a plain socket and reads nothing. Most of the response waits at the gateway."""
        connection = connect(self._gateway)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        connection.sendall(self.render_request(**headers))
        return connection

    def replace_images(self, *sizes: int) -> list[bytes]:
        contents = [os.urandom(size) for size in sizes]
        for file, content in zip(self.files, contents, strict=True):
            file.write_bytes(content)
        return contents


def find_image_file(gateway: RunningGateway, url: str) -> Path:
    """Finds the file of an image by its URL."""
    _, job_id, name = httpx.URL(url).path.removeprefix("/files/").split("/")
    [file] = (gateway.folder / "data" / "images").rglob(f"{job_id}.{name}")
    return file


def decode_contents(body: dict[str, Any]) -> list[bytes]:
    return [base64.b64decode(image["b64_json"], validate=True) for image in body["data"]]


def expect_slow_clients_hold_little_memory(gateway: RunningGateway, job: FinishedJob, contents: list[bytes]) -> None:
    """Requests the job's images, 16 MiB, for twelve clients that read only the beginning."""
    before = gateway.get_resident_bytes()
    connections = [job.send_request() for _ in range(12)]
    starts = [connection.recv(16) for connection in connections]
    assert all(start.startswith(b"HTTP/1.1 200") for start in starts)
    # Another client is served meanwhile. Each response as a whole would need 38 MiB.
    assert decode_contents(job.repeat_request().json()) == contents
    assert gateway.get_resident_bytes() - before < 60 * MIB
    assert decode_contents(json.loads(RawResponse(starts[0] + read_until_closed(connections[0])).body)) == contents
    for connection in connections:
        connection.close()
