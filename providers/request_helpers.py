"""What every dialect writes the same way."""

import base64
from collections.abc import Mapping

import msgspec

from providers.adapter import Call
from providers.orders import ImageBytes


def build_bearer_headers(secret: str) -> Mapping[str, str]:
    return {"authorization": f"Bearer {secret}"}


def build_json_call(method: str, location: str, fields: Mapping[str, object], **headers: str) -> Call:
    """A call with a JSON body, leaving out what was not said; `idempotency_key` becomes the header of that name."""
    extra_headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return Call(
        method=method,
        location=location,
        headers={"content-type": "application/json"} | extra_headers,
        body=msgspec.json.encode({name: value for name, value in fields.items() if value is not None}),
    )


def encode_data_uri(image: ImageBytes) -> str:
    return f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"
