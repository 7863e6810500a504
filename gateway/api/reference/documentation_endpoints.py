"""Serves the OpenAPI document and the pages that are rendered from it, without an API key.

They are built at the first request after a change of the configuration, in a thread.
"""

import asyncio
from collections.abc import Sequence
from hashlib import sha256

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from gateway.api.access_control import PUBLIC
from gateway.api.api_context import HttpRequest, get_context
from gateway.api.reference.openapi_document import build_openapi_document
from gateway.api.reference.reference_markdown import render_llms_txt, render_markdown
from gateway.api.reference.reference_page import CONTENT_SECURITY_POLICY, render_page
from gateway.catalogue import Catalogue

DISCOVERY_LINKS = '</docs.md>; rel="alternate"; type="text/markdown", </llms.txt>; rel="describedby"; type="text/plain"'


class ServedDocument(Struct, frozen=True):
    """A document as it is served. `etag` changes with its content. Litestar adds the charset to the media type."""

    content: bytes
    media_type: str
    etag: str


class DocumentCache:
    """The documents of the configuration in force."""

    def __init__(self, handlers: Sequence[HTTPRouteHandler]) -> None:
        self._handlers = handlers
        self._catalogue: Catalogue | None = None
        self._documents: dict[str, ServedDocument] = {}

    async def get_document(self, catalogue: Catalogue, name: str) -> ServedDocument:
        if self._catalogue is not catalogue:
            documents = await asyncio.to_thread(self._build_documents, catalogue)
            self._catalogue, self._documents = catalogue, documents
            return documents[name]
        return self._documents[name]

    def _build_documents(self, catalogue: Catalogue) -> dict[str, ServedDocument]:
        document = build_openapi_document(self._handlers, catalogue)
        return {
            "openapi": _make_document(msgspec.json.encode(document), "application/json"),
            "page": _make_document(render_page(document).encode(), "text/html"),
            "markdown": _make_document(render_markdown(document).encode(), "text/markdown"),
            "llms": _make_document(render_llms_txt(document).encode(), "text/plain"),
        }


def _make_document(content: bytes, media_type: str) -> ServedDocument:
    return ServedDocument(content, media_type, f'"{sha256(content).hexdigest()[:20]}"')


@get("/openapi.json", opt=PUBLIC)
async def get_openapi(request: HttpRequest) -> Response[bytes]:
    return await _serve_document(request, "openapi")


@get("/docs", opt=PUBLIC)
async def get_reference_page(request: HttpRequest) -> Response[bytes]:
    return await _serve_document(request, "page")


@get("/docs.md", opt=PUBLIC)
async def get_reference_markdown(request: HttpRequest) -> Response[bytes]:
    return await _serve_document(request, "markdown")


@get("/llms.txt", opt=PUBLIC)
async def get_llms_txt(request: HttpRequest) -> Response[bytes]:
    return await _serve_document(request, "llms")


async def _serve_document(request: HttpRequest, name: str) -> Response[bytes]:
    cache: DocumentCache = request.app.state["documents"]
    document = await cache.get_document(get_context(request).catalogue(), name)
    headers = {
        "etag": document.etag,
        "cache-control": "no-cache",
        "link": DISCOVERY_LINKS,
        "x-content-type-options": "nosniff",
        "content-security-policy": CONTENT_SECURITY_POLICY,
    }
    if _matches_etag(request.headers.get("if-none-match", ""), document.etag):
        return Response(b"", status_code=304, headers=headers)
    return Response(document.content, media_type=document.media_type, headers=headers)


def _matches_etag(condition: str, etag: str) -> bool:
    """Compares weakly (RFC 9110, 13.1.2)."""
    tags = [tag.strip().removeprefix("W/") for tag in condition.split(",")]
    return etag in tags or tags == ["*"]


DOCUMENTATION_HANDLERS = [get_openapi, get_reference_page, get_reference_markdown, get_llms_txt]
