"""Errors of invalid values name the values that are allowed, wherever the parameter stands."""

import pytest
from msgspec import Struct

from gateway.access.key_requests import CreateKeyRequest
from gateway.api.api_errors import ApiError
from gateway.api.batches.batch_request_types import CreateBatchRequest
from gateway.api.request_body_reader import to_struct

BATCH = {"input_file_id": "file-a", "endpoint": "/v1/images/edits", "completion_window": "24h"}


@pytest.mark.parametrize(
    ("struct_type", "fields", "param", "allowed"),
    [
        (CreateBatchRequest, BATCH | {"completion_window": "1h"}, "completion_window", "must be 24h"),
        (
            CreateBatchRequest,
            BATCH | {"endpoint": "/v1/chat/completions"},
            "endpoint",
            "must be one of /v1/images/edits, /v1/images/generations",
        ),
        (
            CreateBatchRequest,
            BATCH | {"output_expires_after": {"seconds": 3_600, "anchor": "never"}},
            "output_expires_after.anchor",
            "must be created_at",
        ),
        (
            CreateKeyRequest,
            {"team": "design", "scopes": ["write"]},
            "scopes[0]",
            "must be one of generate, read, admin",
        ),
    ],
)
def test_allowed_values_are_named(
    struct_type: type[Struct], fields: dict[str, object], param: str, allowed: str
) -> None:
    with pytest.raises(ApiError) as raised:
        to_struct(fields, struct_type)
    error = raised.value
    assert (error.param, error.message) == (param, f"Invalid value for '{param}': {allowed}.")
