"""Stored files: images with signed URLs to download, and slots to upload to. Served on their own port."""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from litestar import Request, Response, get, put
from litestar.datastructures import State
from litestar.params import FromPath

from sandbox.image_renderer import MEDIA_TYPES, ImageRecipe, RenderCache
from sandbox.vendors import RouteKind, Vendor

MAX_IMAGES = 50_000
MAX_UPLOADS = 50_000
MAX_UPLOAD_BYTES = 1 << 30


@dataclass(slots=True)
class UploadSlot:
    """A presigned upload: accepts bytes with exactly these headers until it expires."""

    id: str
    vendor: Vendor
    name: str
    media_type: str
    size_bytes: int
    required_headers: Mapping[str, str]
    expires_at: float
    md5: str | None = None
    data: bytes | None = field(default=None, repr=False)


class FileStore:
    """Stores images as recipes and uploads as bytes; the oldest are dropped beyond a limit."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._images: OrderedDict[str, ImageRecipe] = OrderedDict()
        self._uploads: OrderedDict[str, UploadSlot] = OrderedDict()
        self._render_cache = RenderCache()
        self._upload_bytes = 0
        self.base_url = ""

    def add_image(self, file_id: str, image: ImageRecipe) -> None:
        self._images[file_id] = image
        while len(self._images) > MAX_IMAGES:
            self._images.popitem(last=False)

    def make_image_url(self, vendor: Vendor, file_id: str, extension: str, ttl_seconds: float) -> str:
        """Returns a signed URL that expires after `ttl_seconds`; with a negative number it has already expired."""
        return self._sign_url("GET", f"/files/{vendor}/{file_id}.{extension}", ttl_seconds)

    def add_upload(self, upload: UploadSlot) -> str:
        self._uploads[upload.id] = upload
        while len(self._uploads) > MAX_UPLOADS:
            self._drop_oldest_upload()
        return self._sign_url("PUT", f"/files/{upload.vendor}/uploads/{upload.id}", upload.expires_at - time.time())

    def get_upload(self, upload_id: str) -> UploadSlot | None:
        return self._uploads.get(upload_id)

    def make_download_url(self, upload: UploadSlot, ttl_seconds: float) -> str:
        return self._sign_url("GET", f"/files/{upload.vendor}/uploads/{upload.id}", ttl_seconds)

    def store_upload(self, upload: UploadSlot, data: bytes) -> None:
        # The slot may have been dropped while its bytes were arriving.
        if upload.id not in self._uploads:
            return
        self._upload_bytes += len(data) - len(upload.data or b"")
        upload.data = data
        while self._upload_bytes > MAX_UPLOAD_BYTES:
            self._drop_oldest_upload()

    def _drop_oldest_upload(self) -> None:
        _, upload = self._uploads.popitem(last=False)
        self._upload_bytes -= len(upload.data or b"")
        # A vendor may still hold the slot, but must not keep its bytes in memory.
        upload.data = b""

    async def render_image(self, image: ImageRecipe) -> bytes:
        return await asyncio.to_thread(self._render_cache.get_or_render, image)

    def get_image(self, file_id: str) -> ImageRecipe | None:
        return self._images.get(file_id)

    def clear(self) -> None:
        self._images.clear()
        self._uploads.clear()
        self._upload_bytes = 0

    def _sign_url(self, method: str, path: str, ttl_seconds: float) -> str:
        expires_at = f"{time.time() + ttl_seconds:.3f}"
        return (
            f"{self.base_url}{path}?expires={expires_at}&signature={self._compute_signature(method, path, expires_at)}"
        )

    def _compute_signature(self, method: str, path: str, expires_at: str) -> str:
        return hmac.new(self._secret, f"{method} {path}?{expires_at}".encode(), hashlib.sha256).hexdigest()

    def is_valid_url(self, method: str, path: str, query: Mapping[str, str]) -> bool:
        """Returns whether a URL is signed for this method and path, and has not expired."""
        expires_at = query.get("expires", "")
        expected_signature = self._compute_signature(method, path, expires_at).encode()
        return (
            hmac.compare_digest(query.get("signature", "").encode(), expected_signature)
            and float(expires_at) > time.time()
        )


def _access_denied_response() -> Response[bytes]:
    body = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
    return Response(body, status_code=403, media_type="application/xml")


def _not_found_response() -> Response[bytes]:
    return Response(b"<Error><Code>NoSuchKey</Code></Error>", status_code=404, media_type="application/xml")


@get("/{vendor:str}/{name:str}", opt={"route": RouteKind.DOWNLOAD})
async def download_image(request: Request[object, object, State], state: State, name: FromPath[str]) -> Response[bytes]:
    file_store: FileStore = state.sandbox.file_store
    if not file_store.is_valid_url("GET", request.url.path, request.query_params):
        return _access_denied_response()
    if (image := file_store.get_image(name.rpartition(".")[0])) is None:
        return _not_found_response()
    return Response(await file_store.render_image(image), media_type=MEDIA_TYPES[image.format])


@get("/{vendor:str}/uploads/{upload_id:str}", opt={"route": RouteKind.DOWNLOAD})
async def download_upload(
    request: Request[object, object, State], state: State, upload_id: FromPath[str]
) -> Response[bytes]:
    file_store: FileStore = state.sandbox.file_store
    if not file_store.is_valid_url("GET", request.url.path, request.query_params):
        return _access_denied_response()
    upload = file_store.get_upload(upload_id)
    if upload is None or upload.data is None:
        return _not_found_response()
    return Response(upload.data, media_type=upload.media_type)


@put("/{vendor:str}/uploads/{upload_id:str}", opt={"route": RouteKind.UPLOAD}, request_max_body_size=64 << 20)
async def receive_upload(
    request: Request[object, object, State], state: State, upload_id: FromPath[str]
) -> Response[bytes]:
    """Accepts an upload to a presigned URL: no credentials allowed, headers and checksum verified."""
    file_store: FileStore = state.sandbox.file_store
    upload = file_store.get_upload(upload_id)
    if upload is None or not file_store.is_valid_url("PUT", request.url.path, request.query_params):
        return _access_denied_response()
    if "authorization" in request.headers:
        return Response(b"<Error><Code>InvalidRequest</Code></Error>", status_code=400, media_type="application/xml")
    if any(request.headers.get(name) != value for name, value in upload.required_headers.items()):
        return _access_denied_response()
    data = await request.body()
    if len(data) != upload.size_bytes or (upload.md5 and hashlib.md5(data).hexdigest() != upload.md5):  # noqa: S324 - the vendor's checksum
        return Response(b"<Error><Code>BadDigest</Code></Error>", status_code=400, media_type="application/xml")
    file_store.store_upload(upload, data)
    return Response(b"", status_code=200)


HANDLERS = [download_image, download_upload, receive_upload]
