"""A call, composed into the request that leaves: to the account's own origin with its key, or elsewhere without."""

import re
from collections.abc import Mapping
from functools import lru_cache

import httpx

from gateway.catalogue import Account, Seller
from gateway.upstream.bodies import Outgoing, form
from gateway.upstream.transport import Journey
from providers.spec import Call

USER_AGENT = "image-gateway"
HTTPS_PORT = 443
_DEFAULTS = {"user-agent": USER_AGENT, "accept": "*/*"}
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*", re.ASCII)
# What frames a message or steers the connection is ours to say. Headers of uploads come from the seller's answers.
_OURS = {
    *("connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "trailer", "transfer-encoding"),
    *("upgrade", "expect"),
}
_WITH_BODY = {"POST", "PUT", "PATCH"}
# Printable, and nothing that one reader of addresses takes for a slash, another for a letter.
_WHOLE_URL = re.compile(r"https?://[^\x00-\x20\\\x7f-\U0010ffff]+", re.ASCII | re.IGNORECASE)
_BELOW = re.compile(r"(?!.*/\.{1,2}(?:[/?#]|$))/[^\x00-\x20\\\x7f-\U0010ffff]*", re.ASCII)
_NAMES_PORT = re.compile(r"https?://[^/]*:[0-9]+(?:/|$)", re.ASCII)


class Unsendable(ValueError):
    """It cannot be put on the wire as it is, so nothing was sent. Says nothing about what it holds."""


class BadAddress(Unsendable):
    """No address that we may send this to."""


class BadHeader(Unsendable):
    """A header that is not allowed, or would be more than one line."""


class BadBody(Unsendable):
    """A form that cannot be written."""


class NoSecret(Unsendable):
    """The account has no key, so it is disabled."""


def compose(call: Call, seller: Seller, journey: Journey, connect_seconds: float) -> tuple[httpx.Request, Outgoing]:
    """The request, and its body."""
    url = address_of(call, seller.account)
    content_type, body = _body(call)
    credentials = {} if call.presigned else _credentials(seller)
    headers = _DEFAULTS | _checked(call.headers, url, body) | _lower(credentials)
    headers |= {"host": url.netloc.decode("ascii"), "accept-encoding": "identity"}
    if content_type:
        headers["content-type"] = content_type
    if body.size or call.method.upper() in _WITH_BODY:
        headers["content-length"] = str(body.size)
    request = httpx.Request(
        call.method,
        url,
        headers=_raw(headers),
        stream=body,
        extensions={"journey": journey, "timeout": {"connect": connect_seconds}, "tenant": seller.account.name},
    )
    return request, body


def address_of(call: Call, account: Account) -> httpx.URL:
    if call.presigned:
        return whole_address(call.location, account.private)
    if not _BELOW.fullmatch(call.location):
        raise BadAddress
    if not account.private and _is_plain(account.base_url):
        raise BadAddress
    return _known(account.base_url + call.location)


@lru_cache(maxsize=1_024)
def _known(url: str) -> httpx.URL:
    """The same order is asked about again and again, and taking an address apart is a fifth of what asking costs."""
    return _parsed(url)


def whole_address(url: str, private: bool) -> httpx.URL:
    """An address that somebody else gave us: to public https only, unless they may live in our own network."""
    if not _WHOLE_URL.fullmatch(url):
        raise BadAddress
    parsed = _parsed(url)
    is_public = parsed.scheme == "https" and parsed.port in (None, HTTPS_PORT)
    if parsed.userinfo or not (private or is_public):
        raise BadAddress
    return parsed


def _is_plain(base_url: str) -> bool:
    """Plain HTTP through the public internet has to be asked for, by naming the port."""
    return base_url.startswith("http:") and not _NAMES_PORT.match(base_url)


def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
        # Some hosts are found to be malformed only when they are looked at.
        is_whole = bool(parsed.host) and parsed.scheme in ("http", "https")
    except (httpx.InvalidURL, ValueError):
        is_whole = False
    if not is_whole:
        raise BadAddress
    return parsed


def _body(call: Call) -> tuple[str, Outgoing]:
    if isinstance(call.body, bytes):
        return "", Outgoing((call.body,) if call.body else ())
    try:
        return form(call.body)
    except ValueError:
        raise BadBody from None


def _credentials(seller: Seller) -> Mapping[str, str]:
    if seller.account.secret is None:
        raise NoSecret
    return seller.adapter.authorize(seller.account.secret.reveal())


def _checked(given: Mapping[str, str], url: httpx.URL, body: Outgoing) -> dict[str, str]:
    headers = _lower(given)
    ours = {"host": url.netloc.decode("ascii"), "content-length": str(body.size)}
    if headers.keys() & _OURS or any(headers.get(name, value).lower() != value for name, value in ours.items()):
        raise BadHeader
    return headers


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    for name, value in headers.items():
        if not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
            raise BadHeader
    return [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
