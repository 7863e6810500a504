"""How input images get to RunAPI: asked for, put into its store, confirmed. The link it gives lives one hour."""

import base64
import hashlib

from providers import reading
from providers.faults import FaultKind
from providers.orders import Inline, Link
from providers.reading import Unclear, asking
from providers.runapi_errors import error
from providers.spec import Answer, Call, Granted, InputRoute, Step, Stored, Upload, UploadTo
from providers.writing import json_call

HOUR_SECONDS = 3_600
# No limit is published; this is what the other seller of the same model takes.
MOST_BYTES = 50 << 20


def to_upload(image: Inline) -> Call:
    checksum = base64.b64encode(hashlib.md5(image.data, usedforsecurity=False).digest()).decode()
    fields = {
        "filename": image.name,
        "byte_size": len(image.data),
        "checksum": checksum,
        "content_type": image.media_type,
    }
    return json_call("POST", "/api/v1/files/prepare", fields)


def from_upload(answer: Answer) -> Granted:
    body = reading.document(answer.body)
    handle, place = reading.text(body.get("signed_id")), reading.picture(body.get("upload_url"))
    if handle is None or not isinstance(place, Link):
        raise Unclear(FaultKind.UNREADABLE, message="no place to upload to in the answer")
    return Granted(handle, place.url, reading.headers(body.get("headers")))


def to_put(upload: UploadTo) -> Call:
    """Exactly the headers that were given, and not our key: the place carries its own permission."""
    grant = upload.grant
    return Call(method="PUT", location=grant.url, headers=grant.headers, body=upload.image.data, presigned=True)


def from_put(_: Answer) -> Stored:
    return Stored()


def to_confirmation(grant: Granted) -> Call:
    return json_call("POST", "/api/v1/files/confirm", {"signed_id": grant.handle})


def from_confirmation(answer: Answer) -> Link:
    address = reading.picture(reading.document(answer.body).get("url"))
    if not isinstance(address, Link):
        raise Unclear(FaultKind.UNREADABLE, message="no address of the stored file in the answer")
    return address


INPUTS: tuple[InputRoute, ...] = (
    Upload(
        prepare=Step(ask=to_upload, read=asking(from_upload, error)),
        put=Step(ask=to_put, read=asking(from_put, error)),
        confirm=Step(ask=to_confirmation, read=asking(from_confirmation, error)),
        max_bytes=MOST_BYTES,
        lasts_seconds=HOUR_SECONDS,
    ),
)
