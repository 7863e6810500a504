"""Helpers that all adapters use to build requests."""

import base64
from collections.abc import Mapping

import msgspec

from providers.adapter import Call
from providers.orders import ImageBytes


def build_json_call(method: str, location: str, fields: Mapping[str, object], **headers: str) -> Call:
    """Builds a call with a JSON body. Fields that are None are omitted; `idempotency_key` becomes a header."""
    extra_headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return Call(
        method=method,
        location=location,
        headers={"content-type": "application/json"} | extra_headers,
        body=msgspec.json.encode({name: value for name, value in fields.items() if value is not None}),
    )


def encode_data_uri(image: ImageBytes) -> str:
    return f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"
