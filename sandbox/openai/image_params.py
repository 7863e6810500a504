"""The validated parameters of an image request, including OpenAI's rules that span several fields."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.image_renderer import ImageRecipe, SourceImage, shorten_prompt
from sandbox.openai.errors import OpenaiError, invalid_param_error
from sandbox.openai.prices import (
    DEFAULT_MODEL,
    MODELS,
    PARTIAL_IMAGE_TOKENS,
    STANDARD_SIZES,
    BilledTokens,
    OpenaiModel,
    Size,
    SizeRules,
    count_image_tokens,
    estimate_text_tokens,
)


@dataclass(frozen=True, slots=True)
class OpenaiImageParams:
    """The effective parameters, with every `auto` resolved."""

    operation: str
    model: OpenaiModel
    prompt: str
    n: int
    size: Size
    quality: str
    background: str
    output_format: str
    compression: int | None
    is_streaming: bool
    partial_images: int
    safety_identifier: str | None
    source_images: tuple[SourceImage, ...] = ()

    def list_image_recipes(self) -> tuple[ImageRecipe, ...]:
        return tuple(self._make_recipe(f"{self.quality} {index}/{self.n}") for index in range(1, self.n + 1))

    def _make_recipe(self, note: str) -> ImageRecipe:
        return ImageRecipe(
            *self.size,
            format=self.output_format,
            caption=shorten_prompt(self.prompt),
            note=note,
            sources=self.source_images,
            is_transparent=self.background == "transparent",
            compression=self.compression,
        )

    def compute_tokens(self, image_count: int, with_inputs: bool = True) -> BilledTokens:
        """Computes the tokens of this many images, with or without the input tokens."""
        tokens_per_image = (
            self.model.count_output_tokens(self.size, self.quality) + self.partial_images * PARTIAL_IMAGE_TOKENS
        )
        if not with_inputs:
            return BilledTokens(0, 0, image_count * tokens_per_image)
        return BilledTokens(
            estimate_text_tokens(self.prompt),
            sum(map(count_image_tokens, self.source_images)),
            image_count * tokens_per_image,
        )

    def to_json(self) -> dict[str, str]:
        """Serializes the fields that the response has in common for all images; `size` is the billed size."""
        width, height = self.size
        return {
            "background": self.background,
            "output_format": self.output_format,
            "quality": self.quality,
            "size": f"{width}x{height}",
        }


def parse_image_params(
    fields: Mapping[str, Any], operation: str, sources: Sequence[SourceImage] = ()
) -> OpenaiImageParams:
    """Parses fields, each of which is valid by itself. Checks the rules for several fields."""
    model = find_model(fields)
    if not fields.get("prompt"):
        raise invalid_param_error("prompt", "Missing required parameter: 'prompt'.", "missing_required_parameter")
    _check_format(fields)
    _check_stream(fields)
    return OpenaiImageParams(
        operation=operation,
        model=model,
        prompt=fields["prompt"],
        n=fields.get("n", 1),
        size=_parse_size(fields.get("size", "auto"), model, sources),
        quality=_parse_quality(fields.get("quality", "auto"), model),
        background="transparent" if fields.get("background") == "transparent" else "opaque",
        output_format=fields.get("output_format", "png"),
        compression=fields.get("output_compression"),
        is_streaming=fields.get("stream", False),
        partial_images=fields.get("partial_images", 0),
        safety_identifier=fields.get("safety_identifier") or fields.get("user") or None,
        source_images=tuple(sources),
    )


def find_model(fields: Mapping[str, Any]) -> OpenaiModel:
    name = fields.get("model", DEFAULT_MODEL)
    if (model := MODELS.get(name)) is None:
        raise unknown_model_error(name)
    fidelity = fields.get("input_fidelity")
    if fidelity and fidelity not in model.input_fidelity:
        message = f"The model '{name}' does not support input_fidelity='{fidelity}'."
        raise invalid_param_error("input_fidelity", message, "unsupported_parameter")
    return model


def unknown_model_error(name: str) -> OpenaiError:
    message = f"The model '{name}' does not exist or you do not have access to it."
    return OpenaiError(404, "model_not_found", message, "model")


def _check_format(fields: Mapping[str, Any]) -> None:
    output_format = fields.get("output_format", "png")
    if output_format == "png" and "output_compression" in fields:
        raise invalid_param_error("output_compression", "Compression is only supported for the jpeg and webp formats.")
    if output_format == "jpeg" and fields.get("background") == "transparent":
        raise invalid_param_error("background", "A transparent background needs output_format png or webp.")


def _check_stream(fields: Mapping[str, Any]) -> None:
    if fields.get("partial_images") and not fields.get("stream"):
        raise invalid_param_error("partial_images", "Partial images are only supported with stream=true.")


def _parse_quality(word: str, model: OpenaiModel) -> str:
    if word not in ("auto", *model.qualities):
        supported = ", ".join(f"'{quality}'" for quality in ("auto", *model.qualities))
        raise invalid_param_error("quality", f"Invalid value: '{word}'. Supported values are: {supported}.")
    return model.qualities[-1] if word == "auto" else word


def _parse_size(text: str, model: OpenaiModel, sources: Sequence[SourceImage]) -> Size:
    if text == "auto":
        return _nearest_standard_size(sources[0]) if sources else STANDARD_SIZES[0]
    match = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", text)
    size = (int(match[1]), int(match[2])) if match else None
    if size in STANDARD_SIZES and _find_size_problem(model.size_rules, *size) is None:
        return size
    if not model.has_free_sizes:
        supported = ", ".join(f"'{width}x{height}'" for width, height in STANDARD_SIZES)
        raise invalid_param_error("size", f"Invalid value: '{text}'. Supported values are: {supported}, and 'auto'.")
    if size is None:
        raise invalid_param_error("size", f"Invalid size '{text}'. Expected WIDTHxHEIGHT or 'auto'.")
    if problem := _find_size_problem(model.size_rules, *size):
        raise invalid_param_error("size", f"Invalid size '{text}'. {problem}")
    return size


def _find_size_problem(rules: SizeRules, width: int, height: int) -> str | None:
    if width % rules.edge_step or height % rules.edge_step:
        return f"Width and height must both be divisible by {rules.edge_step}."
    if max(width, height) > rules.max_edge:
        return f"The longest edge must not exceed {rules.max_edge} pixels."
    if max(width, height) > rules.max_ratio * min(width, height):
        return f"The aspect ratio must be between 1:{rules.max_ratio} and {rules.max_ratio}:1."
    if not rules.min_pixels <= width * height <= rules.max_pixels:
        return f"The number of pixels must be between {rules.min_pixels} and {rules.max_pixels}."
    return None


def _nearest_standard_size(source: SourceImage) -> Size:
    """Returns the standard size whose ratio is closest to that of the first input image."""
    ratio = source.width / source.height
    return min(STANDARD_SIZES, key=lambda size: abs(size[0] / size[1] - ratio))
