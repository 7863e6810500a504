"""RunAPI's temporary files: local bytes in three steps, or a URL or base64 in one."""

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

from sandbox import image_renderer
from sandbox.file_store import UploadSlot
from sandbox.http_requests import HttpRequest
from sandbox.runapi.http_helpers import RunapiError, is_blank, parse_json_object, require_api_key, validation_error
from sandbox.runapi.order_rules import is_http_url
from sandbox.runapi.tasks import InjectedState, RunapiState, format_timestamp
from sandbox.source_fetcher import SourceUnreadableError
from sandbox.vendors import RouteKind, Vendor

# The page gives no limit; this is the limit of the file store.
MAX_BYTES = 64 << 20
ROUTE_OPTIONS = {"route": RouteKind.UPLOAD}


@post("/api/v1/files/prepare", opt=ROUTE_OPTIONS, guards=[require_api_key])
async def prepare_upload(request: HttpRequest, vendor: InjectedState) -> Response[dict[str, Any]]:
    body = parse_json_object(await request.body())
    if problems := _find_prepare_problems(body):
        raise validation_error(problems)
    content_type = body.get("content_type")
    upload = _create_upload(
        vendor, body["filename"], body["byte_size"], None if is_blank(content_type) else str(content_type)
    )
    upload.md5 = base64.b64decode(body["checksum"]).hex()
    upload.required_headers = {"Content-Type": upload.media_type, "Content-MD5": body["checksum"]}
    url = vendor.sandbox.file_store.add_upload(upload)
    return Response({"signed_id": upload.id, "upload_url": url, "headers": upload.required_headers}, status_code=200)


@post("/api/v1/files/confirm", opt=ROUTE_OPTIONS, guards=[require_api_key])
async def confirm_upload(request: HttpRequest, vendor: InjectedState) -> Response[dict[str, Any]]:
    upload = vendor.sandbox.file_store.get_upload(str(parse_json_object(await request.body()).get("signed_id")))
    if upload is None:
        raise RunapiError(404)
    if upload.data is None:
        raise validation_error({"signed_id": ["has not been uploaded"]})
    return Response(_serialize_file(vendor, upload, upload.data), status_code=200)


@post("/api/v1/files", opt=ROUTE_OPTIONS, guards=[require_api_key])
async def register_file(request: HttpRequest, vendor: InjectedState) -> Response[dict[str, Any]]:
    body = parse_json_object(await request.body())
    raw_source = body.get("source")
    source: dict[str, Any] = raw_source if isinstance(raw_source, dict) else {}
    data = await _load_bytes(vendor, source)
    name = body.get("file_name") or PurePosixPath(urlsplit(source.get("url", "")).path).name or "upload"
    upload = _create_upload(vendor, str(name), len(data), await asyncio.to_thread(_detect_media_type, data))
    vendor.sandbox.file_store.add_upload(upload)
    vendor.sandbox.file_store.store_upload(upload, data)
    return Response(_serialize_file(vendor, upload, data), status_code=200)


def _create_upload(vendor: RunapiState, name: str, size_bytes: int, media_type: str | None) -> UploadSlot:
    """Creates an upload slot. Its lifetime starts here, for the upload and for the download URL."""
    return UploadSlot(
        id=secrets.token_urlsafe(24),
        vendor=Vendor.RUNAPI,
        name=name,
        media_type=media_type or mimetypes.guess_type(name)[0] or "application/octet-stream",
        size_bytes=size_bytes,
        required_headers={},
        expires_at=time.time() + vendor.switches.upload_seconds,
    )


def _serialize_file(vendor: RunapiState, upload: UploadSlot, data: bytes) -> dict[str, Any]:
    return {
        "file_name": upload.name,
        "url": vendor.sandbox.file_store.make_download_url(upload, upload.expires_at - time.time()),
        "size_bytes": len(data),
        "mime_type": upload.media_type,
        "created_at": format_timestamp(upload.expires_at - vendor.switches.upload_seconds),
        "expires_at": format_timestamp(upload.expires_at),
    }


def _find_prepare_problems(body: Mapping[str, Any]) -> dict[str, list[str]]:
    name, size, checksum = body.get("filename"), body.get("byte_size"), body.get("checksum")
    problems = {}
    if is_blank(name) or not isinstance(name, str):
        problems["filename"] = ["is required"]
    if type(size) is not int or not 0 < size <= MAX_BYTES:
        problems["byte_size"] = [f"must be between 1 and {MAX_BYTES}"]
    if not _is_md5(checksum):
        problems["checksum"] = ["must be the base64 of an MD5 digest"]
    return problems


def _is_md5(checksum: object) -> bool:
    try:
        return len(base64.b64decode(str(checksum), validate=True)) == hashlib.md5(usedforsecurity=False).digest_size
    except (binascii.Error, ValueError):
        return False


async def _load_bytes(vendor: RunapiState, source: Mapping[str, Any]) -> bytes:
    if source.get("type") == "url" and is_http_url(source.get("url")):
        try:
            return await vendor.sandbox.source_fetcher.fetch_bytes(source["url"])
        except SourceUnreadableError as error:
            raise validation_error({"source": [str(error)]}) from error
    if source.get("type") == "base64" and isinstance(source.get("data"), str) and not is_blank(source["data"]):
        return _decode_base64(source["data"])
    raise validation_error({"source": ["must be a url or base64 source"]})


def _decode_base64(text: str) -> bytes:
    try:
        return (
            image_renderer.decode_data_uri(text) if text.startswith("data:") else base64.b64decode(text, validate=True)
        )
    except (image_renderer.InvalidImageError, binascii.Error, ValueError) as error:
        raise validation_error({"source": ["is not valid base64"]}) from error


def _detect_media_type(data: bytes) -> str | None:
    try:
        return image_renderer.MEDIA_TYPES[image_renderer.read_image(data).format]
    except image_renderer.InvalidImageError:
        return None


HANDLERS = [prepare_upload, confirm_upload, register_file]
