"""A request whose response is read later, or never: its client disconnects."""

import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPResponse
from typing import Any, Self
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 60.0


class SentRequest:
    """A `POST` with a JSON body. When the constructor returns, the whole request has been sent."""

    def __init__(self, url: str, api_key: str, body: object, headers: Mapping[str, str] | None = None) -> None:
        target = urlsplit(url)
        self._connection = HTTPConnection(target.netloc, timeout=TIMEOUT_SECONDS)
        all_headers = {"authorization": f"Bearer {api_key}", "content-type": "application/json", **(headers or {})}
        # As httpx writes it, so that both clients can send equal requests.
        content = json.dumps(body, separators=(",", ":")).encode()
        self._connection.request("POST", target.path, content, all_headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    def read_response(self) -> tuple[HTTPResponse, Any]:
        """Waits for the response. Returns it and its JSON body."""
        response = self._connection.getresponse()
        return response, json.loads(response.read())

    def disconnect(self) -> None:
        self._connection.close()
