"""RunAPI's temporary files: local bytes in three steps, or somebody else's URL or base64 in one."""

import asyncio
import base64
import binascii
import hashlib
import mimetypes
import secrets
import time
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from litestar import Response, post

from sandbox import pictures
from sandbox.files import Upload
from sandbox.mischief import Route, Vendor
from sandbox.runapi_tasks import OwnState, RunapiState, moment
from sandbox.runapi_terms import is_http_url
from sandbox.runapi_wire import HttpRequest, RefusalError, blank, fields, invalid, signed_in
from sandbox.sources import UnreadableError

# The page gives no limit; this is what the files' port takes.
MAX_BYTES = 64 << 20
OPT = {"route": Route.UPLOAD}


@post("/api/v1/files/prepare", opt=OPT, guards=[signed_in])
async def prepare(request: HttpRequest, vendor: OwnState) -> Response[dict[str, Any]]:
    asked = fields(await request.body())
    if problems := _prepare_problems(asked):
        raise invalid(problems)
    declared = asked.get("content_type")
    upload = _upload(vendor, asked["filename"], asked["byte_size"], None if blank(declared) else str(declared))
    upload.md5 = base64.b64decode(asked["checksum"]).hex()
    upload.required = {"Content-Type": upload.media_type, "Content-MD5": asked["checksum"]}
    url = vendor.world.files.open_upload(upload)
    return Response({"signed_id": upload.id, "upload_url": url, "headers": upload.required}, status_code=200)


@post("/api/v1/files/confirm", opt=OPT, guards=[signed_in])
async def confirm(request: HttpRequest, vendor: OwnState) -> Response[dict[str, Any]]:
    upload = vendor.world.files.upload(str(fields(await request.body()).get("signed_id")))
    if upload is None:
        raise RefusalError(404)
    if upload.data is None:
        raise invalid({"signed_id": ["has not been uploaded"]})
    return Response(_record(vendor, upload, upload.data), status_code=200)


@post("/api/v1/files", opt=OPT, guards=[signed_in])
async def register(request: HttpRequest, vendor: OwnState) -> Response[dict[str, Any]]:
    asked = fields(await request.body())
    given = asked.get("source")
    source: dict[str, Any] = given if isinstance(given, dict) else {}
    data = await _bytes(vendor, source)
    name = asked.get("file_name") or PurePosixPath(urlsplit(source.get("url", "")).path).name or "upload"
    upload = _upload(vendor, str(name), len(data), await asyncio.to_thread(_picture_type, data))
    vendor.world.files.open_upload(upload)
    vendor.world.files.fill(upload, data)
    return Response(_record(vendor, upload, data), status_code=200)


def _upload(vendor: RunapiState, name: str, size: int, media_type: str | None) -> Upload:
    """The hour starts here: for the bytes to come as for the link to what came."""
    return Upload(
        id=secrets.token_urlsafe(24),
        vendor=Vendor.RUNAPI,
        name=name,
        media_type=media_type or mimetypes.guess_type(name)[0] or "application/octet-stream",
        size=size,
        required={},
        expires=time.time() + vendor.switches.upload_seconds,
    )


def _record(vendor: RunapiState, upload: Upload, data: bytes) -> dict[str, Any]:
    return {
        "file_name": upload.name,
        "url": vendor.world.files.download_link(upload, upload.expires - time.time()),
        "size_bytes": len(data),
        "mime_type": upload.media_type,
        "created_at": moment(upload.expires - vendor.switches.upload_seconds),
        "expires_at": moment(upload.expires),
    }


def _prepare_problems(asked: Mapping[str, Any]) -> dict[str, list[str]]:
    name, size, checksum = asked.get("filename"), asked.get("byte_size"), asked.get("checksum")
    found = {}
    if blank(name) or not isinstance(name, str):
        found["filename"] = ["is required"]
    if type(size) is not int or not 0 < size <= MAX_BYTES:
        found["byte_size"] = [f"must be between 1 and {MAX_BYTES}"]
    if not _is_md5(checksum):
        found["checksum"] = ["must be the base64 of an MD5 digest"]
    return found


def _is_md5(checksum: object) -> bool:
    try:
        return len(base64.b64decode(str(checksum), validate=True)) == hashlib.md5(usedforsecurity=False).digest_size
    except (binascii.Error, ValueError):
        return False


async def _bytes(vendor: RunapiState, source: Mapping[str, Any]) -> bytes:
    if source.get("type") == "url" and is_http_url(source.get("url")):
        try:
            return await vendor.world.sources.data(source["url"])
        except UnreadableError as error:
            raise invalid({"source": [str(error)]}) from error
    if source.get("type") == "base64" and isinstance(source.get("data"), str) and not blank(source["data"]):
        return _decoded(source["data"])
    raise invalid({"source": ["must be a url or base64 source"]})


def _decoded(text: str) -> bytes:
    try:
        return pictures.from_data_uri(text) if text.startswith("data:") else base64.b64decode(text, validate=True)
    except (pictures.NotAPictureError, binascii.Error, ValueError) as error:
        raise invalid({"source": ["is not valid base64"]}) from error


def _picture_type(data: bytes) -> str | None:
    try:
        return pictures.MEDIA_TYPES[pictures.read(data).format]
    except pictures.NotAPictureError:
        return None


HANDLERS = [prepare, confirm, register]
