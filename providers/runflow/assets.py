"""Input images for both Runflow adapters: small ones inside the order, larger ones by a three-step upload."""

from providers import parsing
from providers.adapter import (
    Answer,
    Call,
    DataUri,
    Endpoint,
    InputTransport,
    Upload,
    UploadDone,
    UploadGrant,
    UploadRequest,
)
from providers.call_builders import build_json_call
from providers.faults import FaultKind
from providers.orders import ImageBytes, ImageUrl
from providers.parsing import ParseError, make_query_reader
from providers.runflow import shared_wire_format

MEBIBYTE = 1 << 20
UPLOAD_TTL_SECONDS = 86_400


def to_upload(image: ImageBytes) -> Call:
    fields = {"filename": image.name, "mime_type": image.media_type, "size_bytes": len(image.data)}
    return build_json_call("POST", "/v1/asset-uploads", fields)


def from_upload(answer: Answer) -> UploadGrant:
    body = parsing.parse_json_object(answer.body)
    return parsing.make_upload_grant(parsing.parse_order_id(body.get("asset_id")), body.get("upload_url"), {})


def to_put(upload: UploadRequest) -> Call:
    """Builds the upload of the bytes: with the declared media type, without the API key."""
    headers = {"content-type": upload.image.media_type}
    return Call(method="PUT", location=upload.grant.url, headers=headers, body=upload.image.data, is_presigned=True)


def from_put(_: Answer) -> UploadDone:
    return UploadDone()


def to_confirmation(grant: UploadGrant) -> Call:
    return build_json_call("POST", f"/v1/asset-uploads/{grant.upload_id}/confirmations", {})


def from_confirmation(answer: Answer) -> ImageUrl:
    """Returns the signed URL, which every version of the service accepts; one version rejected `runflow://`."""
    body = parsing.parse_json_object(answer.body)
    image_url = parsing.parse_image(body.get("url"))
    if isinstance(image_url, ImageUrl):
        return image_url
    if (asset_id := parsing.parse_order_id(body.get("id"))) is None:
        raise ParseError(FaultKind.UNREADABLE, message="the answer has no asset")
    return ImageUrl(f"runflow://assets/{asset_id}")


INPUT_TRANSPORTS: tuple[InputTransport, ...] = (
    DataUri(max_bytes=MEBIBYTE),
    Upload(
        prepare=Endpoint(
            build_call=to_upload, read_answer=make_query_reader(from_upload, shared_wire_format.parse_error)
        ),
        put=Endpoint(build_call=to_put, read_answer=make_query_reader(from_put, shared_wire_format.parse_error)),
        confirm=Endpoint(
            build_call=to_confirmation, read_answer=make_query_reader(from_confirmation, shared_wire_format.parse_error)
        ),
        max_bytes=50 * MEBIBYTE,
        ttl_seconds=UPLOAD_TTL_SECONDS,
    ),
)
