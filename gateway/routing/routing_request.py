"""The part of a client's request that routing depends on. It has no prompt and no image, so it can be recorded."""

from collections.abc import Mapping

from msgspec import Struct

from providers.image_sizes import TargetSize
from providers.orders import Format, Operation


class RoutingRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A validated request, before a seller is chosen.

    `has_explicit_size` and `has_explicit_quality`: the client named them, so a deviation is worth a warning.
    `background`: None if it is the model's default.
    `prompt_bytes`: length of the prompt in UTF-8, which sellers that bill by tokens charge for.
    """

    operation: Operation
    model: str
    n: int
    target: TargetSize
    quality: str
    output_format: Format
    has_explicit_size: bool = False
    has_explicit_quality: bool = False
    prompt_bytes: int = 0
    input_count: int = 0
    has_mask: bool = False
    background: str | None = None
    metadata: Mapping[str, str] = {}


class RequestedParams(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The image parameters as the client sent them, before any mapping; None: not sent, or `auto`."""

    size: str | None = None
    resolution: str | None = None
    aspect_ratio: str | None = None
    quality: str | None = None
    output_format: str | None = None
    background: str | None = None
