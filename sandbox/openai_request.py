"""What a caller wants, once every rule of OpenAI's that spans several fields has been checked."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.openai_errors import RefusedError, invalid
from sandbox.openai_prices import (
    DEFAULT_MODEL,
    MODELS,
    PARTIAL_IMAGE_TOKENS,
    STANDARD_SIZES,
    Model,
    Size,
    Usage,
    image_tokens,
    text_tokens,
)
from sandbox.pictures import Picture, Source, shortened

EDGE_STEP = 16
LONGEST_EDGE = 3840
LONGEST_RATIO = 3
PIXELS = 655_360, 8_294_400
AUTO_QUALITY = "high"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Everything effective: nothing is `auto` any more."""

    operation: str
    model: Model
    prompt: str
    n: int
    size: Size
    quality: str
    background: str
    output_format: str
    compression: int | None
    stream: bool
    partial_images: int
    safety_identifier: str | None
    sources: tuple[Source, ...] = ()

    def pictures(self) -> tuple[Picture, ...]:
        return tuple(self._picture(f"{self.quality} {index}/{self.n}") for index in range(1, self.n + 1))

    def _picture(self, note: str) -> Picture:
        return Picture(
            *self.size,
            format=self.output_format,
            caption=shortened(self.prompt),
            note=note,
            sources=self.sources,
            transparent=self.background == "transparent",
            compression=self.compression,
        )

    def usage(self, made: int, inputs: bool = True) -> Usage:
        """For so many pictures, with or without what was sent in."""
        each = self.model.output_tokens(self.size, self.quality) + self.partial_images * PARTIAL_IMAGE_TOKENS
        if not inputs:
            return Usage(0, 0, made * each)
        return Usage(text_tokens(self.prompt), sum(map(image_tokens, self.sources)), made * each)

    def effective(self) -> dict[str, str]:
        """What the answer says about every picture; `size` is the size that is paid for."""
        width, height = self.size
        return {
            "background": self.background,
            "output_format": self.output_format,
            "quality": self.quality,
            "size": f"{width}x{height}",
        }


def wanted(fields: Mapping[str, Any], operation: str, sources: Sequence[Source] = ()) -> Wanted:
    """From fields that have each passed their check."""
    model = model_of(fields)
    if not fields.get("prompt"):
        raise invalid("prompt", "Missing required parameter: 'prompt'.", "missing_required_parameter")
    _check_format(fields)
    _check_stream(fields)
    quality = fields.get("quality", "auto")
    return Wanted(
        operation=operation,
        model=model,
        prompt=fields["prompt"],
        n=fields.get("n", 1),
        size=_size(fields.get("size", "auto"), model, sources),
        quality=AUTO_QUALITY if quality == "auto" else quality,
        background="transparent" if fields.get("background") == "transparent" else "opaque",
        output_format=fields.get("output_format", "png"),
        compression=fields.get("output_compression"),
        stream=fields.get("stream", False),
        partial_images=fields.get("partial_images", 0),
        safety_identifier=fields.get("safety_identifier") or fields.get("user") or None,
        sources=tuple(sources),
    )


def model_of(fields: Mapping[str, Any]) -> Model:
    name = fields.get("model", DEFAULT_MODEL)
    if (model := MODELS.get(name)) is None:
        raise no_such_model(name)
    fidelity = fields.get("input_fidelity")
    if fidelity and fidelity not in model.input_fidelity:
        message = f"The model '{name}' does not support input_fidelity='{fidelity}'."
        raise invalid("input_fidelity", message, "unsupported_parameter")
    return model


def no_such_model(name: str) -> RefusedError:
    message = f"The model '{name}' does not exist or you do not have access to it."
    return RefusedError(404, "model_not_found", message, "model")


def _check_format(fields: Mapping[str, Any]) -> None:
    kind = fields.get("output_format", "png")
    if kind == "png" and "output_compression" in fields:
        raise invalid("output_compression", "Compression is only supported for the jpeg and webp formats.")
    if kind == "jpeg" and fields.get("background") == "transparent":
        raise invalid("background", "A transparent background needs output_format png or webp.")


def _check_stream(fields: Mapping[str, Any]) -> None:
    if fields.get("partial_images") and not fields.get("stream"):
        raise invalid("partial_images", "Partial images are only supported with stream=true.")


def _size(text: str, model: Model, sources: Sequence[Source]) -> Size:
    if text == "auto":
        return _nearest_standard(sources[0]) if sources else STANDARD_SIZES[0]
    found = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", text)
    size = (int(found[1]), int(found[2])) if found else None
    if size in STANDARD_SIZES:
        return size
    if not model.free_sizes:
        supported = ", ".join(f"'{width}x{height}'" for width, height in STANDARD_SIZES)
        raise invalid("size", f"Invalid value: '{text}'. Supported values are: {supported}, and 'auto'.")
    if size is None:
        raise invalid("size", f"Invalid size '{text}'. Expected WIDTHxHEIGHT or 'auto'.")
    if broken := _broken_rule(*size):
        raise invalid("size", f"Invalid size '{text}'. {broken}")
    return size


def _broken_rule(width: int, height: int) -> str | None:
    if width % EDGE_STEP or height % EDGE_STEP:
        return f"Width and height must both be divisible by {EDGE_STEP}."
    if max(width, height) > LONGEST_EDGE:
        return f"The longest edge must not exceed {LONGEST_EDGE} pixels."
    if max(width, height) > LONGEST_RATIO * min(width, height):
        return "The aspect ratio must be between 1:3 and 3:1."
    if not PIXELS[0] <= width * height <= PIXELS[1]:
        return f"The number of pixels must be between {PIXELS[0]} and {PIXELS[1]}."
    return None


def _nearest_standard(source: Source) -> Size:
    """An edit without a size keeps the shape of its first picture as well as the standard sizes can."""
    ratio = source.width / source.height
    return min(STANDARD_SIZES, key=lambda size: abs(size[0] / size[1] - ratio))
