"""The requests of OpenAI's Files and Batch API."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.api.shared_job_parameters import UsdAmount

Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
    Meta(max_length=16, description="Your own names and values. The batch shows them."),
]


class ExpiresAfter(Struct, frozen=True, forbid_unknown_fields=True):
    """When a file expires, counted from its creation."""

    seconds: Annotated[int, Meta(ge=3_600, le=2_592_000, description="From an hour to 30 days.")]
    anchor: Literal["created_at"] = "created_at"


class CreateBatchRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of `POST /v1/batches`."""

    input_file_id: Annotated[str, Meta(description="A file that was uploaded with the purpose `batch`.")]
    endpoint: Annotated[
        Literal["/v1/images/generations", "/v1/images/edits"], Meta(description="The `url` of every line.")
    ]
    completion_window: Annotated[
        Literal["24h"], Meta(description="Lines that are not ordered within a day get an error.")
    ]
    metadata: Metadata | None = None
    output_expires_after: Annotated[
        ExpiresAfter | None, Meta(description="When the output files expire. Default 30 days.")
    ] = None
    max_cost: Annotated[
        UsdAmount | None,
        Meta(
            description="Maximum USD for the whole batch. It may be sent as `max_cost` in `metadata`, too; of two, the "
            "narrower applies."
        ),
    ] = None
