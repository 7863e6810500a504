"""A request whose response is read later, or never: its client disconnects."""

import json
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Self
from urllib.parse import urlsplit

import httpx

TIMEOUT_SECONDS = 60.0


class SentRequest:
    """A `POST` with a JSON body, as an object or as bytes. It is sent completely when the constructor returns."""

    def __init__(self, url: str, api_key: str, body: object, headers: Mapping[str, str] | None = None) -> None:
        target = urlsplit(url)
        self._connection = HTTPConnection(target.netloc, timeout=TIMEOUT_SECONDS)
        all_headers = {"authorization": f"Bearer {api_key}", "content-type": "application/json", **(headers or {})}
        # Objects are encoded as httpx does it, so that both clients can send equal requests.
        content = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
        self._connection.request("POST", target.path, content, all_headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    def read_response(self) -> httpx.Response:
        response = self._connection.getresponse()
        return httpx.Response(response.status, headers=response.getheaders(), content=response.read())

    def disconnect(self) -> None:
        self._connection.close()
