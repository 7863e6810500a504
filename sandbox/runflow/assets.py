"""Runflow's three-step upload, and the references to uploaded assets."""

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from litestar import get, post
from litestar.datastructures import State
from litestar.params import FromPath

from sandbox import image_renderer
from sandbox.file_store import UploadSlot
from sandbox.http_requests import HttpRequest
from sandbox.runflow.http_helpers import (
    RunflowError,
    build_field_error,
    format_timestamp,
    generate_uuid7,
    parse_json_object,
    validation_error,
)
from sandbox.source_fetcher import SourceUnreadableError
from sandbox.state import SandboxState
from sandbox.vendors import RouteKind, Vendor

MAX_BYTES = 50 << 20
MAX_ASSETS = 50_000
UPLOAD_TTL_SECONDS = 3_600
LINK_TTL_SECONDS = 7 * 86_400
REFERENCE_PREFIX = "runflow://assets/"
ROUTE_OPTIONS = {"route": RouteKind.UPLOAD}


@dataclass(slots=True)
class UploadedAsset:
    upload: UploadSlot
    created_at: float
    is_confirmed: bool = False


class AssetStore:
    """The uploaded assets; resolves the input URLs of runs."""

    def __init__(self, sandbox: SandboxState) -> None:
        self.sandbox = sandbox
        self._assets: OrderedDict[str, UploadedAsset] = OrderedDict()

    def create_upload(self, name: str, media_type: str, size_bytes: int) -> tuple[str, str]:
        """Creates an upload slot, and returns its id and its signed URL."""
        asset_id = generate_uuid7()
        upload = UploadSlot(
            id=asset_id,
            vendor=Vendor.RUNFLOW,
            name=name,
            media_type=media_type,
            size_bytes=size_bytes,
            required_headers={"content-type": media_type},
            expires_at=time.time() + UPLOAD_TTL_SECONDS,
        )
        self._assets[asset_id] = UploadedAsset(upload, time.time())
        while len(self._assets) > MAX_ASSETS:
            self._assets.popitem(last=False)
        return asset_id, self.sandbox.file_store.add_upload(upload)

    def get_asset(self, asset_id: str) -> UploadedAsset:
        """Returns an asset, or raises 404: its bytes may have been dropped for newer ones."""
        asset = self._assets.get(asset_id)
        if asset is None or (asset.upload.data is not None and self.sandbox.file_store.get_upload(asset_id) is None):
            self._assets.pop(asset_id, None)
            raise RunflowError(404, "ASSET_NOT_FOUND", "The asset was not found.")
        return asset

    async def fetch_image(self, address: str) -> image_renderer.SourceImage:
        """Fetches the image of a web URL, a data URI or a `runflow://` reference."""
        if not address.startswith(REFERENCE_PREFIX):
            if not address.startswith(("http://", "https://", "data:")):
                raise SourceUnreadableError("media URL must use HTTP(S) or data URI")
            return await self.sandbox.source_fetcher.fetch_image(address)
        try:
            upload = self.get_asset(address.removeprefix(REFERENCE_PREFIX)).upload
            return image_renderer.read_image(upload.data or b"")
        except (RunflowError, image_renderer.InvalidImageError) as error:
            raise SourceUnreadableError(str(error)) from error


def get_asset_store(state: State) -> AssetStore:
    result: AssetStore = state.sandbox.vendor_states[Vendor.RUNFLOW].asset_store
    return result


@post("/v1/asset-uploads", status_code=201, opt=ROUTE_OPTIONS)
async def create_upload(request: HttpRequest, state: State) -> dict[str, Any]:
    body = parse_json_object(await request.body())
    name, media_type, size = body.get("filename"), body.get("mime_type"), body.get("size_bytes")
    errors = []
    if not isinstance(name, str) or not 1 <= len(name) <= 500:
        errors.append(build_field_error("Input should be a string of 1 to 500 characters", "filename"))
    if media_type not in image_renderer.MEDIA_TYPES.values():
        errors.append(build_field_error("Unsupported media type", "mime_type"))
    if type(size) is not int or not 1 <= size <= MAX_BYTES:
        errors.append(build_field_error(f"Input should be from 1 to {MAX_BYTES}", "size_bytes"))
    if errors:
        raise validation_error(*errors)
    asset_id, upload_url = get_asset_store(state).create_upload(str(name), str(media_type), int(size or 0))
    return {"asset_id": asset_id, "upload_url": upload_url}


@post("/v1/asset-uploads/{asset_id:str}/confirmations", status_code=201, opt=ROUTE_OPTIONS)
async def confirm_upload(state: State, asset_id: FromPath[str]) -> dict[str, Any]:
    asset = get_asset_store(state).get_asset(asset_id)
    if asset.upload.data is None:
        raise RunflowError(409, "UPLOAD_INCOMPLETE", "Nothing has been uploaded yet.")
    asset.is_confirmed = True
    return _serialize_asset(state, asset)


@get("/v1/assets/{asset_id:str}", opt=ROUTE_OPTIONS)
async def get_asset(state: State, asset_id: FromPath[str]) -> dict[str, Any]:
    """Returns the asset with a newly signed URL."""
    asset = get_asset_store(state).get_asset(asset_id)
    if not asset.is_confirmed:
        raise RunflowError(404, "ASSET_NOT_FOUND", "The asset was not found.")
    return _serialize_asset(state, asset)


@get("/v1/assets/types", opt=ROUTE_OPTIONS)
async def list_types() -> dict[str, Any]:
    return {"items": [{"mime_type": media_type} for media_type in image_renderer.MEDIA_TYPES.values()]}


def _serialize_asset(state: State, asset: UploadedAsset) -> dict[str, Any]:
    upload = asset.upload
    return {
        "id": upload.id,
        "org_id": None,
        "folder_id": None,
        "name": upload.name,
        "r2_key": f"assets/{upload.id}",
        "url": state.sandbox.file_store.make_download_url(upload, LINK_TTL_SECONDS),
        "thumbnail_url": None,
        "mime_type": upload.media_type,
        "size_bytes": upload.size_bytes,
        "asset_type": "image",
        "source_type": "upload",
        "source_id": None,
        "created_by": None,
        "created_at": format_timestamp(asset.created_at),
        "updated_at": format_timestamp(asset.created_at),
        "deleted_at": None,
        "deleted_by": None,
        "created_by_user": None,
    }


HANDLERS = [create_upload, confirm_upload, get_asset, list_types]
