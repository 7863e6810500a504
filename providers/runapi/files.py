"""Upload of input images to RunAPI: prepare, put, confirm. The resulting URL is valid for one hour."""

import base64
import hashlib

from providers import parsing
from providers.adapter import Answer, Call, Endpoint, InputTransport, Upload, UploadDone, UploadGrant, UploadRequest
from providers.call_builders import build_json_call
from providers.faults import FaultKind
from providers.orders import ImageBytes, ImageUrl
from providers.parsing import ParseError, make_query_reader
from providers.runapi.errors import parse_error

UPLOAD_TTL_SECONDS = 3_600
# No limit is published; this is Runflow's limit for the same model.
MAX_UPLOAD_BYTES = 50 << 20


def to_upload(image: ImageBytes) -> Call:
    checksum = base64.b64encode(hashlib.md5(image.data, usedforsecurity=False).digest()).decode()
    fields = {
        "filename": image.name,
        "byte_size": len(image.data),
        "checksum": checksum,
        "content_type": image.media_type,
    }
    return build_json_call("POST", "/api/v1/files/prepare", fields)


def from_upload(answer: Answer) -> UploadGrant:
    body = parsing.parse_json_object(answer.body)
    headers = parsing.parse_upload_headers(body.get("headers"))
    return parsing.make_upload_grant(parsing.parse_text(body.get("signed_id")), body.get("upload_url"), headers)


def to_put(upload: UploadRequest) -> Call:
    """Builds the upload of the bytes: with exactly the headers of the grant, without the API key, since the URL itself
    grants access."""
    grant = upload.grant
    return Call(method="PUT", location=grant.url, headers=grant.headers, body=upload.image.data, is_presigned=True)


def from_put(_: Answer) -> UploadDone:
    return UploadDone()


def to_confirmation(grant: UploadGrant) -> Call:
    return build_json_call("POST", "/api/v1/files/confirm", {"signed_id": grant.upload_id})


def from_confirmation(answer: Answer) -> ImageUrl:
    file_url = parsing.parse_image(parsing.parse_json_object(answer.body).get("url"))
    if not isinstance(file_url, ImageUrl):
        raise ParseError(FaultKind.UNREADABLE, message="the answer has no URL of the stored file")
    return file_url


INPUT_TRANSPORTS: tuple[InputTransport, ...] = (
    Upload(
        prepare=Endpoint(build_call=to_upload, read_answer=make_query_reader(from_upload, parse_error)),
        put=Endpoint(build_call=to_put, read_answer=make_query_reader(from_put, parse_error)),
        confirm=Endpoint(build_call=to_confirmation, read_answer=make_query_reader(from_confirmation, parse_error)),
        max_bytes=MAX_UPLOAD_BYTES,
        ttl_seconds=UPLOAD_TTL_SECONDS,
    ),
)
