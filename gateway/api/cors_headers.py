"""Lets web pages of configured origins call the API from a browser (CORS). Off by default.

Cookies and other credentials of browsers are never allowed: a page sends its API key itself. So every header of a
response may be exposed.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from gateway.api.api_errors import merge_slashes

RawHeaders = list[tuple[bytes, bytes]]
Origins = Callable[[], Collection[str]]
# Routes for operators and sellers. A page must not read what is protected only by the operator's network.
_EXCLUDED_PREFIXES = ("/v1/admin/", "/callbacks/", "/metrics", "/readyz", "/livez")
# How long browsers remember the response to a preflight request.
PREFLIGHT_TTL_SECONDS = 600
_ALLOWED_METHODS = b"GET, HEAD, POST, PATCH, DELETE"
# Any header may be sent: SDKs add many of their own. Only the form of the names is checked, since they are sent back.
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, \t-]{1,4000}")


class CrossOriginHeaders:
    """Builds the headers. `get_origins`: returns the origins of the configuration in force."""

    def __init__(self, get_origins: Origins) -> None:
        self._get_origins = get_origins

    def build(self, scope: Mapping[str, Any]) -> RawHeaders:
        """Returns the headers of a response. If they depend on the origin, `vary` says so, for caches."""
        origins = self._get_origins()
        if not origins or merge_slashes(scope["path"]).startswith(_EXCLUDED_PREFIXES):
            return []
        if "*" in origins:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", b"*")]
        origin, vary = _find_header(scope, b"origin"), (b"vary", b"origin")
        if origin.decode("latin-1") not in origins:
            return [vary]
        return [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", b"*"), vary]

    def build_preflight(self, scope: Mapping[str, Any]) -> RawHeaders | None:
        """Returns the headers of the response to a preflight request.

        Returns None for any other request, and if the origin may not call this path.
        """
        if scope["method"] != "OPTIONS" or not _find_header(scope, b"access-control-request-method"):
            return None
        if len(headers := self.build(scope)) < 2:
            return None
        headers = [header for header in headers if header[0] != b"access-control-expose-headers"]
        names = _find_header(scope, b"access-control-request-headers")
        if _HEADER_NAMES.fullmatch(names):
            headers.append((b"access-control-allow-headers", names))
        headers.append((b"access-control-allow-methods", _ALLOWED_METHODS))
        return [*headers, (b"access-control-max-age", b"%d" % PREFLIGHT_TTL_SECONDS)]


def _find_header(scope: Mapping[str, Any], name: bytes) -> bytes:
    return next((value for header_name, value in scope["headers"] if header_name == name), b"")
