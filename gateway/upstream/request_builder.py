"""Builds the HTTP request for a call: to the base URL of the account with its API key, or to a presigned URL without a
key.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

import httpx

from gateway.catalogue import Seller, SellerAccount
from gateway.config.value_types import BaseUrl
from gateway.upstream.request_body_encoder import RequestBody, encode_multipart
from gateway.upstream.transport import SendProgress
from providers.adapter import Call

USER_AGENT = "image-gateway"
HTTPS_PORT = 443
_DEFAULT_HEADERS = {"user-agent": USER_AGENT, "accept": "*/*"}
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*", re.ASCII)
# Headers that frame the message or control the connection. Headers of uploads come from the seller's answers.
_RESERVED_HEADERS = {
    *("connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "trailer", "transfer-encoding"),
    *("upgrade", "expect"),
}
_METHODS_WITH_BODY = {"POST", "PUT", "PATCH"}
# Printable characters without a backslash, which some URL parsers read as a slash.
_ABSOLUTE_URL = re.compile(r"https?://[^\x00-\x20\\\x7f-\U0010ffff]+", re.ASCII | re.IGNORECASE)
_SAFE_PATH = re.compile(r"(?!.*/\.{1,2}(?:[/?#]|$))/[^\x00-\x20\\\x7f-\U0010ffff]*", re.ASCII)


class UnsendableRequest(ValueError):
    """The request is malformed, so nothing was sent. The message contains no part of the request."""


class BadUrl(UnsendableRequest):
    """The URL is invalid or not allowed."""


class BadHeader(UnsendableRequest):
    """A header is not allowed, or contains a line break."""


class BadBody(UnsendableRequest):
    """A form cannot be encoded."""


class MissingApiKey(UnsendableRequest):
    """The account has no API key, so it is disabled."""


def build_request(
    call: Call, seller: Seller, progress: SendProgress, connect_timeout_seconds: float
) -> tuple[httpx.Request, RequestBody]:
    """Returns the request and its body. Raises UnsendableRequest."""
    url = resolve_url(call, seller.account)
    content_type, body = _encode_body(call)
    credentials = {} if call.is_presigned else _make_credentials(seller)
    host = url.netloc.decode("ascii")
    headers = {**_DEFAULT_HEADERS, **_validate_headers(call.headers, host, body), **credentials}
    headers |= {"host": host, "accept-encoding": "identity"}
    if content_type:
        headers["content-type"] = content_type
    if body.size or call.method.upper() in _METHODS_WITH_BODY:
        headers["content-length"] = str(body.size)
    request = httpx.Request(
        call.method,
        url,
        headers=_encode_headers(headers),
        stream=body,
        extensions={
            "progress": progress,
            "timeout": {"connect": connect_timeout_seconds},
            "tenant": seller.account.name,
        },
    )
    return request, body


def resolve_url(call: Call, account: SellerAccount) -> httpx.URL:
    if call.is_presigned:
        return validate_external_url(call.location, account.allows_private_addresses)
    if not _SAFE_PATH.fullmatch(call.location):
        raise BadUrl
    if not account.allows_private_addresses and BaseUrl(account.base_url).is_plain_http:
        raise BadUrl
    return _parse_url_cached(account.base_url + call.location)


@lru_cache(maxsize=1_024)
def _parse_url_cached(url: str) -> httpx.URL:
    """Parses a URL, with a cache: the same order is polled many times, and parsing its URL is a fifth of the cost of a
    poll."""
    return _parse_url(url)


def validate_external_url(url: str, private: bool) -> httpx.URL:
    """Parses a URL from a seller or a client. Allows only https to the default port, unless `private`."""
    if not _ABSOLUTE_URL.fullmatch(url):
        raise BadUrl
    parsed = _parse_url(url)
    is_public = parsed.scheme == "https" and parsed.port in (None, HTTPS_PORT)
    if parsed.userinfo or not (private or is_public):
        raise BadUrl
    return parsed


def _parse_url(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
        # httpx detects some malformed hosts only when the host is accessed.
        is_absolute = bool(parsed.host) and parsed.scheme in ("http", "https")
    except (httpx.InvalidURL, ValueError):
        is_absolute = False
    if not is_absolute:
        raise BadUrl
    return parsed


def _encode_body(call: Call) -> tuple[str, RequestBody]:
    if isinstance(call.body, bytes):
        return "", RequestBody((call.body,) if call.body else ())
    try:
        return encode_multipart(call.body)
    except ValueError:
        raise BadBody from None


def _make_credentials(seller: Seller) -> Mapping[str, str]:
    if seller.account.api_key is None:
        raise MissingApiKey
    return seller.adapter.build_auth_headers(seller.account.api_key.reveal())


def _validate_headers(requested: Mapping[str, str], host: str, body: RequestBody) -> dict[str, str]:
    headers, length = {name.lower(): value for name, value in requested.items()}, str(body.size)
    is_for_host = headers.get("host", host).lower() == host
    if headers.keys() & _RESERVED_HEADERS or not is_for_host or headers.get("content-length", length) != length:
        raise BadHeader
    return headers


def _encode_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    encoded = []
    for name, value in headers.items():
        if not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
            raise BadHeader
        encoded.append((name.encode("ascii"), value.encode("ascii")))
    return encoded
