"""Runflow's three-step upload and the references to what was uploaded."""

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from litestar import get, post
from litestar.datastructures import State
from litestar.params import FromPath

from sandbox import pictures
from sandbox.files import Upload
from sandbox.mischief import Route, Vendor
from sandbox.runflow_wire import HttpRequest, RefusalError, field_error, fields, invalid, stamp, uuid7
from sandbox.sources import UnreadableError
from sandbox.world import World

MAX_BYTES = 50 << 20
KEPT_ASSETS = 50_000
UPLOAD_SECONDS = 3_600
LINK_SECONDS = 7 * 86_400
REFERENCE = "runflow://assets/"
UPLOAD = {"route": Route.UPLOAD}


@dataclass(slots=True)
class Asset:
    upload: Upload
    created: float
    confirmed: bool = False


class Assets:
    """What was uploaded, and what input addresses stand for."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._assets: OrderedDict[str, Asset] = OrderedDict()

    def open(self, name: str, media_type: str, size: int) -> tuple[str, str]:
        """A new place to put bytes into: its id and its signed address."""
        asset_id = uuid7()
        upload = Upload(
            id=asset_id,
            vendor=Vendor.RUNFLOW,
            name=name,
            media_type=media_type,
            size=size,
            required={"content-type": media_type},
            expires=time.time() + UPLOAD_SECONDS,
        )
        self._assets[asset_id] = Asset(upload, time.time())
        while len(self._assets) > KEPT_ASSETS:
            self._assets.popitem(last=False)
        return asset_id, self.world.files.open_upload(upload)

    def get(self, asset_id: str) -> Asset:
        """An asset that is still there: stored bytes may have made room for newer ones."""
        asset = self._assets.get(asset_id)
        if asset is None or (asset.upload.data is not None and self.world.files.upload(asset_id) is None):
            self._assets.pop(asset_id, None)
            raise RefusalError(404, "ASSET_NOT_FOUND", "The asset was not found.")
        return asset

    async def picture(self, address: str) -> pictures.Source:
        """What a run's input points at: a web address, a data URI or one of our own references."""
        if not address.startswith(REFERENCE):
            if not address.startswith(("http://", "https://", "data:")):
                raise UnreadableError("media URL must use HTTP(S) or data URI")
            return await self.world.sources.picture(address)
        try:
            upload = self.get(address.removeprefix(REFERENCE)).upload
            return pictures.read(upload.data or b"")
        except (RefusalError, pictures.NotAPictureError) as error:
            raise UnreadableError(str(error)) from error


def assets(state: State) -> Assets:
    result: Assets = state.world.vendors[Vendor.RUNFLOW].assets
    return result


@post("/v1/asset-uploads", status_code=201, opt=UPLOAD)
async def open_upload(request: HttpRequest, state: State) -> dict[str, Any]:
    given = fields(await request.body())
    name, media_type, size = given.get("filename"), given.get("mime_type"), given.get("size_bytes")
    wrong = []
    if not isinstance(name, str) or not 1 <= len(name) <= 500:
        wrong.append(field_error("Input should be a string of 1 to 500 characters", "filename"))
    if media_type not in pictures.MEDIA_TYPES.values():
        wrong.append(field_error("Unsupported media type", "mime_type"))
    if type(size) is not int or not 1 <= size <= MAX_BYTES:
        wrong.append(field_error(f"Input should be from 1 to {MAX_BYTES}", "size_bytes"))
    if wrong:
        raise invalid(*wrong)
    asset_id, address = assets(state).open(str(name), str(media_type), int(size or 0))
    return {"asset_id": asset_id, "upload_url": address}


@post("/v1/asset-uploads/{asset_id:str}/confirmations", status_code=201, opt=UPLOAD)
async def confirm_upload(state: State, asset_id: FromPath[str]) -> dict[str, Any]:
    asset = assets(state).get(asset_id)
    if asset.upload.data is None:
        raise RefusalError(409, "UPLOAD_INCOMPLETE", "Nothing has been uploaded yet.")
    asset.confirmed = True
    return _record(state, asset)


@get("/v1/assets/{asset_id:str}", opt=UPLOAD)
async def get_asset(state: State, asset_id: FromPath[str]) -> dict[str, Any]:
    """Signs the address afresh."""
    asset = assets(state).get(asset_id)
    if not asset.confirmed:
        raise RefusalError(404, "ASSET_NOT_FOUND", "The asset was not found.")
    return _record(state, asset)


@get("/v1/assets/types", opt=UPLOAD)
async def list_types() -> dict[str, Any]:
    return {"items": [{"mime_type": media_type} for media_type in pictures.MEDIA_TYPES.values()]}


def _record(state: State, asset: Asset) -> dict[str, Any]:
    upload = asset.upload
    return {
        "id": upload.id,
        "org_id": None,
        "folder_id": None,
        "name": upload.name,
        "r2_key": f"assets/{upload.id}",
        "url": state.world.files.download_link(upload, LINK_SECONDS),
        "thumbnail_url": None,
        "mime_type": upload.media_type,
        "size_bytes": upload.size,
        "asset_type": "image",
        "source_type": "upload",
        "source_id": None,
        "created_by": None,
        "created_at": stamp(asset.created),
        "updated_at": stamp(asset.created),
        "deleted_at": None,
        "deleted_by": None,
        "created_by_user": None,
    }


HANDLERS = [open_upload, confirm_upload, get_asset, list_types]
