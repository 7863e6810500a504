"""How input images get to Runflow: inside the order while small, else by a three-step upload. For both dialects."""

from providers import reading, runflow
from providers.faults import FaultKind
from providers.orders import Inline, Link
from providers.reading import Unclear, asking
from providers.spec import Answer, Call, DataUri, Granted, InputRoute, Step, Stored, Upload, UploadTo
from providers.writing import json_call

MEBIBYTE = 1 << 20
DAY_SECONDS = 86_400


def to_upload(image: Inline) -> Call:
    fields = {"filename": image.name, "mime_type": image.media_type, "size_bytes": len(image.data)}
    return json_call("POST", "/v1/asset-uploads", fields)


def from_upload(answer: Answer) -> Granted:
    body = reading.document(answer.body)
    handle, place = reading.order_id(body.get("asset_id")), reading.picture(body.get("upload_url"))
    if handle is None or not isinstance(place, Link):
        raise Unclear(FaultKind.UNREADABLE, message="no place to upload to in the answer")
    return Granted(handle, place.url, {})


def to_put(upload: UploadTo) -> Call:
    """The bytes, with the type that was announced and without our key."""
    headers = {"content-type": upload.image.media_type}
    return Call(method="PUT", location=upload.grant.url, headers=headers, body=upload.image.data, presigned=True)


def from_put(_: Answer) -> Stored:
    return Stored()


def to_confirmation(grant: Granted) -> Call:
    return json_call("POST", f"/v1/asset-uploads/{grant.handle}/confirmations", {})


def from_confirmation(answer: Answer) -> Link:
    """The signed address, which every age of the service could read; `runflow://` references failed in one."""
    body = reading.document(answer.body)
    address = reading.picture(body.get("url"))
    if isinstance(address, Link):
        return address
    if (asset := reading.order_id(body.get("id"))) is None:
        raise Unclear(FaultKind.UNREADABLE, message="no asset in the answer")
    return Link(f"runflow://assets/{asset}")


INPUTS: tuple[InputRoute, ...] = (
    DataUri(max_bytes=MEBIBYTE),
    Upload(
        prepare=Step(ask=to_upload, read=asking(from_upload, runflow.error)),
        put=Step(ask=to_put, read=asking(from_put, runflow.error)),
        confirm=Step(ask=to_confirmation, read=asking(from_confirmation, runflow.error)),
        max_bytes=50 * MEBIBYTE,
        lasts_seconds=DAY_SECONDS,
    ),
)
