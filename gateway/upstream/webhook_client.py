"""Sends webhooks: one POST to a URL of a team, without credentials of the gateway, and without following redirects."""

import asyncio
import re
from collections.abc import Mapping

import httpx
from msgspec import Struct

from gateway.upstream.dns_lookup import LookupTimeout, TenantLookupLimitReached, TotalLookupLimitReached
from gateway.upstream.request_body_encoder import RequestBody
from gateway.upstream.request_builder import USER_AGENT, UnsendableRequest, validate_external_url
from gateway.upstream.response_body_decoder import get_response_stream
from gateway.upstream.transport_pool import HostSource, TransportOptions, TransportPoolProtocol

# A response is read up to this size, so that its sender sees no broken connection.
MAX_RESPONSE_BYTES = 64 << 10
_FAILURES = {
    "AddressBlocked": "address_blocked",
    "InvalidUrlClientError": "address_blocked",
    "gaierror": "name_not_found",
    LookupTimeout.__name__: "name_not_found",
    TotalLookupLimitReached.__name__: "gateway_busy",
    TenantLookupLimitReached.__name__: "gateway_busy",
    "TimeoutError": "timeout",
}
_TLS_ERROR = re.compile(r".*(SSL|Certificate).*", re.ASCII)
_RETRY_AFTER = re.compile(r"[0-9]{1,9}", re.ASCII)


class WebhookRequest(Struct, frozen=True, kw_only=True):
    """A webhook to send. `is_private`: its URL may lead into the network of the operator, by http too."""

    url: str
    is_private: bool
    tenant: str
    headers: Mapping[str, str]
    body: bytes


class WebhookAnswer(Struct, frozen=True, kw_only=True):
    """The answer to a webhook: its status, or the reason why there is none. `retry_after`: in seconds. `body`: empty if
    it is incomplete or too large. The sender of webhooks ignores it."""

    status: int | None = None
    failure: str | None = None
    retry_after: float = 0.0
    body: bytes = b""


class WebhookClient:
    """Sends webhooks for one process. It keeps no connections, since most targets get few webhooks."""

    def __init__(self, transport_pool: TransportPoolProtocol) -> None:
        self._transports = {
            is_private: transport_pool.get(
                TransportOptions(private=is_private, fresh_connection=True, source=HostSource.WEBHOOK)
            )
            for is_private in (False, True)
        }

    async def send(self, request: WebhookRequest, timeout_seconds: float) -> WebhookAnswer:
        """Sends the webhook, and returns the answer. Raises only CancelledError."""
        try:
            http_request = _build_request(request, timeout_seconds)
        except UnsendableRequest:
            return WebhookAnswer(failure="address_blocked")
        try:
            async with asyncio.timeout(timeout_seconds):
                response = await self._transports[request.is_private].handle_async_request(http_request)
                return await _read_answer(response)
        except (TimeoutError, httpx.ConnectTimeout):
            return WebhookAnswer(failure="timeout")
        except httpx.PoolTimeout:
            return WebhookAnswer(failure="gateway_busy")
        except httpx.ConnectError as error:
            return WebhookAnswer(failure=_name_connect_failure(str(error)))
        except httpx.TransportError:
            return WebhookAnswer(failure="connection_lost")


def _build_request(request: WebhookRequest, connect_timeout_seconds: float) -> httpx.Request:
    url = validate_external_url(request.url, request.is_private)
    headers = {
        "user-agent": USER_AGENT,
        "accept": "*/*",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": str(len(request.body)),
        **request.headers,
        "host": url.netloc.decode("ascii"),
    }
    extensions = {"tenant": request.tenant, "timeout": {"connect": connect_timeout_seconds}}
    return httpx.Request("POST", url, headers=headers, stream=RequestBody((request.body,)), extensions=extensions)


async def _read_answer(response: httpx.Response) -> WebhookAnswer:
    """Reads the rest of the response. An error there does not change its status."""
    stream, body = get_response_stream(response), bytearray()
    try:
        async for chunk in stream:
            body += chunk
            if len(body) > MAX_RESPONSE_BYTES:
                body.clear()
                break
    except httpx.TransportError:
        body.clear()
    finally:
        await stream.aclose()
    retry_after = response.headers.get("retry-after", "")
    is_number = _RETRY_AFTER.fullmatch(retry_after) is not None
    seconds = float(retry_after) if is_number else 0.0
    return WebhookAnswer(status=response.status_code, retry_after=seconds, body=bytes(body))


def _name_connect_failure(error_name: str) -> str:
    if _TLS_ERROR.fullmatch(error_name):
        return "tls_failed"
    return _FAILURES.get(error_name, "connect_failed")
