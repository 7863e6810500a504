"""Stored files: pictures to download by signed links, and places to upload to. Served on a port of their own."""

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

from sandbox.mischief import Route, Vendor
from sandbox.pictures import MEDIA_TYPES, DrawnCache, Picture

KEPT_LINKS = 50_000
KEPT_UPLOADS = 50_000
KEPT_UPLOAD_BYTES = 1 << 30


@dataclass(slots=True)
class Upload:
    """A place somebody may put bytes into, until it expires, if they come with exactly these headers."""

    id: str
    vendor: Vendor
    name: str
    media_type: str
    size: int
    required: Mapping[str, str]
    expires: float
    md5: str | None = None
    data: bytes | None = field(default=None, repr=False)


class Files:
    """Pictures are kept as recipes; uploads as bytes, the oldest dropped beyond a limit."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._uploads: OrderedDict[str, Upload] = OrderedDict()
        self._drawn = DrawnCache()
        self._kept_bytes = 0
        self.base_url = ""

    def add(self, file_id: str, picture: Picture) -> None:
        self._pictures[file_id] = picture
        while len(self._pictures) > KEPT_LINKS:
            self._pictures.popitem(last=False)

    def link(self, vendor: Vendor, file_id: str, kind: str, seconds: float) -> str:
        """A signed URL that stops working after `seconds`; a negative number makes one that never worked."""
        return self._signed("GET", f"/files/{vendor}/{file_id}.{kind}", seconds)

    def open_upload(self, upload: Upload) -> str:
        self._uploads[upload.id] = upload
        while len(self._uploads) > KEPT_UPLOADS:
            self._drop_oldest_upload()
        return self._signed("PUT", f"/files/{upload.vendor}/uploads/{upload.id}", upload.expires - time.time())

    def upload(self, upload_id: str) -> Upload | None:
        return self._uploads.get(upload_id)

    def download_link(self, upload: Upload, seconds: float) -> str:
        return self._signed("GET", f"/files/{upload.vendor}/uploads/{upload.id}", seconds)

    def fill(self, upload: Upload, data: bytes) -> None:
        # It may have been dropped while its bytes were still on their way.
        if upload.id not in self._uploads:
            return
        self._kept_bytes += len(data) - len(upload.data or b"")
        upload.data = data
        while self._kept_bytes > KEPT_UPLOAD_BYTES:
            self._drop_oldest_upload()

    def _drop_oldest_upload(self) -> None:
        _, old = self._uploads.popitem(last=False)
        self._kept_bytes -= len(old.data or b"")
        # A vendor may still know the upload, but must not keep its bytes alive.
        old.data = b""

    async def draw(self, picture: Picture) -> bytes:
        return await asyncio.to_thread(self._drawn.get, picture)

    def picture(self, file_id: str) -> Picture | None:
        return self._pictures.get(file_id)

    def clear(self) -> None:
        self._pictures.clear()
        self._uploads.clear()
        self._kept_bytes = 0

    def _signed(self, method: str, path: str, seconds: float) -> str:
        expires = f"{time.time() + seconds:.3f}"
        return f"{self.base_url}{path}?expires={expires}&signature={self._signature(method, path, expires)}"

    def _signature(self, method: str, path: str, expires: str) -> str:
        return hmac.new(self._secret, f"{method} {path}?{expires}".encode(), hashlib.sha256).hexdigest()

    def admits(self, method: str, path: str, query: Mapping[str, str]) -> bool:
        """Whether a link is genuine, meant for this and still good."""
        expires = query.get("expires", "")
        genuine = self._signature(method, path, expires).encode()
        return hmac.compare_digest(query.get("signature", "").encode(), genuine) and float(expires) > time.time()


def _denied() -> Response[bytes]:
    body = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
    return Response(body, status_code=403, media_type="application/xml")


def _missing() -> Response[bytes]:
    return Response(b"<Error><Code>NoSuchKey</Code></Error>", status_code=404, media_type="application/xml")


@get("/{vendor:str}/{name:str}", opt={"route": Route.DOWNLOAD})
async def download(request: Request[object, object, State], state: State, name: FromPath[str]) -> Response[bytes]:
    files: Files = state.world.files
    if not files.admits("GET", request.url.path, request.query_params):
        return _denied()
    if (picture := files.picture(name.rpartition(".")[0])) is None:
        return _missing()
    return Response(await files.draw(picture), media_type=MEDIA_TYPES[picture.format])


@get("/{vendor:str}/uploads/{upload_id:str}", opt={"route": Route.DOWNLOAD})
async def download_upload(
    request: Request[object, object, State], state: State, upload_id: FromPath[str]
) -> Response[bytes]:
    files: Files = state.world.files
    if not files.admits("GET", request.url.path, request.query_params):
        return _denied()
    upload = files.upload(upload_id)
    if upload is None or upload.data is None:
        return _missing()
    return Response(upload.data, media_type=upload.media_type)


@put("/{vendor:str}/uploads/{upload_id:str}", opt={"route": Route.UPLOAD}, request_max_body_size=64 << 20)
async def receive_upload(
    request: Request[object, object, State], state: State, upload_id: FromPath[str]
) -> Response[bytes]:
    """Presigned storage: no credentials wanted, every promised header and byte checked."""
    files: Files = state.world.files
    upload = files.upload(upload_id)
    if upload is None or not files.admits("PUT", request.url.path, request.query_params):
        return _denied()
    if "authorization" in request.headers:
        return Response(b"<Error><Code>InvalidRequest</Code></Error>", status_code=400, media_type="application/xml")
    if any(request.headers.get(name) != value for name, value in upload.required.items()):
        return _denied()
    data = await request.body()
    if len(data) != upload.size or (upload.md5 and hashlib.md5(data).hexdigest() != upload.md5):  # noqa: S324 - the vendor's checksum
        return Response(b"<Error><Code>BadDigest</Code></Error>", status_code=400, media_type="application/xml")
    files.fill(upload, data)
    return Response(b"", status_code=200)


HANDLERS = [download, download_upload, receive_upload]
