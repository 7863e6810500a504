"""What Runflow's two models take: checks an `input` and turns it into pictures to draw and a price to pay."""

from dataclasses import dataclass
from typing import Any

from sandbox.charges import micros
from sandbox.pictures import Picture, Source, shortened
from sandbox.runflow_wire import field_error
from sandbox.switches import RunflowSwitches

MODELS = {"openai/gpt-image-2": False, "openai/gpt-image-2/edit": True}
PROVIDERLESS = {"gpt-image-2": "openai/gpt-image-2", "gpt-image-2/edit": "openai/gpt-image-2/edit"}
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
BY_QUALITY = {"low": micros("0.009"), "medium": micros("0.034"), "high": micros("0.133")}
FLAT = micros("0.133")
HEADLINE = {False: micros("0.211"), True: micros("0.219")}
MAX_PROMPT = 32_000
AUTO_PIXELS = 1 << 20
KNOWN_FIELDS = {
    "prompt",
    "num_images",
    "output_format",
    "image_size",
    "quality",
    "sync_mode",
    "image_urls",
    "mask_url",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """An input that passed: what to draw, once the pictures it points at have been fetched."""

    is_edit: bool
    prompt: str
    images: int
    format: str
    quality: str
    size: tuple[int, int] | None
    image_urls: tuple[str, ...]
    mask_url: str | None
    sync: bool

    def pictures(self, sources: tuple[Source, ...]) -> tuple[Picture, ...]:
        width, height = self.size or _size_like(sources)
        return tuple(
            Picture(
                width=width,
                height=height,
                format=self.format,
                caption=shortened(self.prompt),
                note=f"{self.quality} {number} of {self.images}",
                sources=sources,
            )
            for number in range(1, self.images + 1)
        )

    def price(self, switches: RunflowSwitches) -> int:
        if switches.price == "headline":
            return HEADLINE[self.is_edit] * self.images
        return (FLAT if switches.price == "flat" else BY_QUALITY[self.quality]) * self.images


def problems(given: dict[str, Any], is_edit: bool, switches: RunflowSwitches) -> list[dict[str, Any]]:
    """Everything wrong with an input, all at once."""
    found = [
        *_choice(given, "output_format", FORMATS),
        *_choice(given, "quality", QUALITIES),
        *_prompt(given),
        *_count(given, switches.num_images_max),
        *_size(given, is_edit),
        *_urls(given, is_edit),
    ]
    if not isinstance(given.get("sync_mode", False), bool):
        found.append(_wrong("Input should be a valid boolean", "sync_mode"))
    return found


def wanted(given: dict[str, Any], is_edit: bool) -> Wanted:
    """Only for an input without problems."""
    return Wanted(
        is_edit=is_edit,
        prompt=given["prompt"],
        images=given.get("num_images", 1),
        format=given.get("output_format", "png"),
        quality=given.get("quality", "high"),
        size=_pixels(given.get("image_size", "auto" if is_edit else "landscape_4_3")),
        image_urls=tuple(given.get("image_urls", ())),
        mask_url=given.get("mask_url"),
        sync=given.get("sync_mode", False),
    )


def _wrong(message: str, *where: str | int) -> dict[str, Any]:
    return field_error(message, "input", *where)


def _choice(given: dict[str, Any], name: str, choices: tuple[str, ...]) -> list[dict[str, Any]]:
    if name not in given or given[name] in choices:
        return []
    return [_wrong(f"Input should be {', '.join(choices)}", name)]


def _prompt(given: dict[str, Any]) -> list[dict[str, Any]]:
    prompt = given.get("prompt")
    if prompt is None:
        return [_wrong("Field required", "prompt")]
    if not isinstance(prompt, str) or not 1 <= len(prompt) <= MAX_PROMPT:
        return [_wrong(f"Input should be a string of 1 to {MAX_PROMPT} characters", "prompt")]
    return []


def _count(given: dict[str, Any], most: int) -> list[dict[str, Any]]:
    count = given.get("num_images", 1)
    if type(count) is int and 1 <= count <= most:
        return []
    return [_wrong(f"Input should be an integer from 1 to {most}", "num_images")]


def _size(given: dict[str, Any], is_edit: bool) -> list[dict[str, Any]]:
    size = given.get("image_size")
    if size is None or (size == "auto" and is_edit) or (isinstance(size, str) and size in PRESETS):
        return []
    if not isinstance(size, dict):
        return [_wrong(f"Input should be one of {', '.join(PRESETS)} or an object with width and height", "image_size")]
    width, height = size.get("width"), size.get("height")
    if type(width) is not int or type(height) is not int or len(size) != 2:
        return [_wrong("width and height should be integers, and nothing else", "image_size")]
    problem = _why_illegal(width, height)
    return [_wrong(problem, "image_size")] if problem else []


def _why_illegal(width: int, height: int) -> str | None:
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


def _urls(given: dict[str, Any], is_edit: bool) -> list[dict[str, Any]]:
    if not is_edit:
        return []
    urls, mask = given.get("image_urls"), given.get("mask_url")
    if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
        return [_wrong("Input should be a list of at least one URL", "image_urls")]
    if mask is not None and not isinstance(mask, str):
        return [_wrong("Input should be a URL", "mask_url")]
    return []


def _pixels(size: object) -> tuple[int, int] | None:
    if isinstance(size, dict):
        return size["width"], size["height"]
    return PRESETS.get(str(size))


def _size_like(sources: tuple[Source, ...]) -> tuple[int, int]:
    """The first source's ratio, bent to what the model can have, at about a million pixels."""
    ratio = sources[0].width / sources[0].height if sources else 1.0
    ratio = min(2.9, max(1 / 2.9, ratio))
    height = round((AUTO_PIXELS / ratio) ** 0.5 / 16) * 16
    return round(height * ratio / 16) * 16, height
