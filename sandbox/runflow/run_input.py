"""The input of Runflow's two models: validation, images to draw, price."""

from dataclasses import dataclass
from typing import Any

from sandbox.charges import parse_usd
from sandbox.image_renderer import ImageRecipe, SourceImage, shorten_prompt
from sandbox.runflow.http_helpers import build_field_error
from sandbox.switches import RunflowSwitches

MODELS = {"openai/gpt-image-2": False, "openai/gpt-image-2/edit": True}
PROVIDERLESS_MODELS = {"gpt-image-2": "openai/gpt-image-2", "gpt-image-2/edit": "openai/gpt-image-2/edit"}
# Not documented by Runflow: these are the usual sizes of these names elsewhere. Two lie below the documented minimum.
PRESETS = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
FORMATS = ("jpeg", "png", "webp")
QUALITIES = ("low", "medium", "high")
PRICES_BY_QUALITY = {"low": parse_usd("0.009"), "medium": parse_usd("0.034"), "high": parse_usd("0.133")}
FLAT_PRICE = parse_usd("0.133")
HEADLINE_PRICES = {False: parse_usd("0.211"), True: parse_usd("0.219")}
MAX_PROMPT_CHARACTERS = 32_000
AUTO_PIXELS = 1 << 20


@dataclass(frozen=True, slots=True)
class RunInput:
    """A valid input."""

    is_edit: bool
    prompt: str
    image_count: int
    format: str
    quality: str
    size: tuple[int, int] | None
    image_urls: tuple[str, ...]
    mask_url: str | None

    def list_image_recipes(self, sources: tuple[SourceImage, ...]) -> tuple[ImageRecipe, ...]:
        width, height = self.size or _size_from_sources(sources)
        return tuple(
            ImageRecipe(
                width=width,
                height=height,
                format=self.format,
                caption=shorten_prompt(self.prompt),
                note=f"{self.quality} {number} of {self.image_count}",
                sources=sources,
            )
            for number in range(1, self.image_count + 1)
        )

    def get_price(self, switches: RunflowSwitches) -> int:
        if switches.price == "headline":
            return HEADLINE_PRICES[self.is_edit] * self.image_count
        return (FLAT_PRICE if switches.price == "flat" else PRICES_BY_QUALITY[self.quality]) * self.image_count


def find_problems(fields: dict[str, Any], is_edit: bool, switches: RunflowSwitches) -> list[dict[str, Any]]:
    """Returns all problems of an input."""
    problems = [
        *_check_choice(fields, "output_format", FORMATS),
        *_check_choice(fields, "quality", QUALITIES),
        *_check_prompt(fields),
        *_check_count(fields, switches.num_images_max),
        *_check_size(fields, is_edit),
        *_check_urls(fields, is_edit),
    ]
    if not isinstance(fields.get("sync_mode", False), bool):
        problems.append(_input_error("Input should be a valid boolean", "sync_mode"))
    return problems


def parse_run_input(fields: dict[str, Any], is_edit: bool) -> RunInput:
    """Parses an input without problems."""
    return RunInput(
        is_edit=is_edit,
        prompt=fields["prompt"],
        image_count=fields.get("num_images", 1),
        format=fields.get("output_format", "png"),
        quality=fields.get("quality", "high"),
        size=_parse_pixels(fields.get("image_size", "auto" if is_edit else "landscape_4_3")),
        image_urls=tuple(fields.get("image_urls", ())),
        mask_url=fields.get("mask_url"),
    )


def _input_error(message: str, *location: str | int) -> dict[str, Any]:
    return build_field_error(message, "input", *location)


def _check_choice(fields: dict[str, Any], name: str, choices: tuple[str, ...]) -> list[dict[str, Any]]:
    if name not in fields or fields[name] in choices:
        return []
    return [_input_error(f"Input should be {', '.join(choices)}", name)]


def _check_prompt(fields: dict[str, Any]) -> list[dict[str, Any]]:
    prompt = fields.get("prompt")
    if prompt is None:
        return [_input_error("Field required", "prompt")]
    if not isinstance(prompt, str) or not 1 <= len(prompt) <= MAX_PROMPT_CHARACTERS:
        return [_input_error(f"Input should be a string of 1 to {MAX_PROMPT_CHARACTERS} characters", "prompt")]
    return []


def _check_count(fields: dict[str, Any], max_count: int) -> list[dict[str, Any]]:
    count = fields.get("num_images", 1)
    if type(count) is int and 1 <= count <= max_count:
        return []
    return [_input_error(f"Input should be an integer from 1 to {max_count}", "num_images")]


def _check_size(fields: dict[str, Any], is_edit: bool) -> list[dict[str, Any]]:
    size = fields.get("image_size")
    if size is None or (size == "auto" and is_edit) or (isinstance(size, str) and size in PRESETS):
        return []
    if not isinstance(size, dict):
        return [
            _input_error(
                f"Input should be one of {', '.join(PRESETS)} or an object with width and height", "image_size"
            )
        ]
    width, height = size.get("width"), size.get("height")
    if type(width) is not int or type(height) is not int or len(size) != 2:
        return [_input_error("width and height should be integers, and nothing else", "image_size")]
    problem = _find_size_error(width, height)
    return [_input_error(problem, "image_size")] if problem else []


def _find_size_error(width: int, height: int) -> str | None:
    longest, shortest = max(width, height), min(width, height)
    if shortest < 16 or width % 16 or height % 16:
        return "Both dimensions must be multiples of 16"
    if longest > 3840:
        return "The longest edge must not exceed 3840 pixels"
    if longest > 3 * shortest:
        return "The aspect ratio must not exceed 3:1"
    if not 655_360 <= width * height <= 8_294_400:
        return "Total pixels must be between 655,360 and 8,294,400"
    return None


def _check_urls(fields: dict[str, Any], is_edit: bool) -> list[dict[str, Any]]:
    if not is_edit:
        return []
    urls, mask = fields.get("image_urls"), fields.get("mask_url")
    if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
        return [_input_error("Input should be a list of at least one URL", "image_urls")]
    if mask is not None and not isinstance(mask, str):
        return [_input_error("Input should be a URL", "mask_url")]
    return []


def _parse_pixels(size: object) -> tuple[int, int] | None:
    if isinstance(size, dict):
        return size["width"], size["height"]
    return PRESETS.get(str(size))


def _size_from_sources(sources: tuple[SourceImage, ...]) -> tuple[int, int]:
    """Returns a size of about a million pixels with the first source's ratio, within the model's limits."""
    ratio = sources[0].width / sources[0].height if sources else 1.0
    ratio = min(2.9, max(1 / 2.9, ratio))
    height = round((AUTO_PIXELS / ratio) ** 0.5 / 16) * 16
    return round(height * ratio / 16) * 16, height
