"""OpenAI's models, the tokens per image, and the prices of tokens. Amounts are integer micro-USD."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sandbox.charges import MICROS_PER_USD, parse_usd
from sandbox.image_renderer import SourceImage

Size = tuple[int, int]
STANDARD_SIZES: tuple[Size, ...] = ((1024, 1024), (1536, 1024), (1024, 1536))

# Output tokens by size, then quality. High is what OpenAI's calculator showed in April 2026, landscape and portrait
# taken to be equal; low and medium are not published as tokens: assumed a thirty-sixth and a quarter of high.
GPT_IMAGE_2_TOKENS: Mapping[Size, Mapping[str, int]] = {
    (1024, 1024): {"low": 195, "medium": 1756, "high": 7024},
    (1536, 1024): {"low": 152, "medium": 1372, "high": 5488},
    (1024, 1536): {"low": 152, "medium": 1372, "high": 5488},
    (1792, 1024): {"low": 141, "medium": 1266, "high": 5063},
    (1024, 1792): {"low": 141, "medium": 1266, "high": 5063},
    (3584, 2048): {"low": 342, "medium": 3082, "high": 12329},
    (2048, 3584): {"low": 342, "medium": 3082, "high": 12329},
}
# Assumed: the first generation's published counts, for its successors with the same three sizes.
GPT_IMAGE_1_TOKENS: Mapping[Size, Mapping[str, int]] = {
    (1024, 1024): {"low": 272, "medium": 1056, "high": 4160},
    (1536, 1024): {"low": 400, "medium": 1568, "high": 6208},
    (1024, 1536): {"low": 408, "medium": 1584, "high": 6240},
}
# A model that no vendor sells, of other qualities and sizes: for tests, and to try a model of one's own.
SANDBOX_MODEL_TOKENS: Mapping[Size, Mapping[str, int]] = {
    (512, 512): {"draft": 100, "fine": 400, "ultra": 1600},
    (1024, 1024): {"draft": 200, "fine": 800, "ultra": 3200},
}
PARTIAL_IMAGE_TOKENS = 100
TEXT_BYTES_PER_TOKEN = 4
TILE_EDGE, TILE_TOKENS, MAX_SCALED_EDGE = 512, 256, 1024


@dataclass(frozen=True, slots=True)
class ModelPrices:
    """Prices in micro-USD per million tokens."""

    text_in: int
    image_in: int
    image_out: int


@dataclass(frozen=True, slots=True)
class SizeRules:
    """The sizes that a model makes. The defaults are those of GPT Image 2."""

    edge_step: int = 16
    max_edge: int = 3840
    max_ratio: int = 3
    min_pixels: int = 655_360
    max_pixels: int = 8_294_400


@dataclass(frozen=True, slots=True)
class OpenaiModel:
    id: str
    created: int
    tokens: Mapping[Size, Mapping[str, int]]
    prices: ModelPrices
    has_free_sizes: bool = False
    input_fidelity: tuple[str, ...] = ()
    size_rules: SizeRules = SizeRules()

    @property
    def qualities(self) -> tuple[str, ...]:
        """The qualities in ascending order."""
        return tuple(next(iter(self.tokens.values())))

    def count_output_tokens(self, size: Size, quality: str) -> int:
        """Returns the tokens of the table row with the nearest size: they do not grow linearly with pixels."""
        nearest = min(
            self.tokens, key=lambda row: math.hypot(*(math.log(a / b) for a, b in zip(row, size, strict=True)))
        )
        return self.tokens[nearest][quality]


STANDARD_PRICES = ModelPrices(parse_usd("5"), parse_usd("8"), parse_usd("30"))
MODELS = {
    model.id: model
    for model in (
        OpenaiModel("gpt-image-2", 1_776_729_600, GPT_IMAGE_2_TOKENS, STANDARD_PRICES, has_free_sizes=True),
        OpenaiModel("gpt-image-2-2026-04-21", 1_776_729_600, GPT_IMAGE_2_TOKENS, STANDARD_PRICES, has_free_sizes=True),
        OpenaiModel(
            "gpt-image-1.5",
            1_765_843_200,
            GPT_IMAGE_1_TOKENS,
            ModelPrices(parse_usd("5"), parse_usd("8"), parse_usd("32")),
            input_fidelity=("high", "low"),
        ),
        OpenaiModel(
            "gpt-image-1-mini",
            1_759_708_800,
            GPT_IMAGE_1_TOKENS,
            ModelPrices(parse_usd("2"), parse_usd("2.50"), parse_usd("8")),
            input_fidelity=("low",),
        ),
        OpenaiModel(
            "sandbox-image-1",
            1_795_737_600,
            SANDBOX_MODEL_TOKENS,
            STANDARD_PRICES,
            has_free_sizes=True,
            size_rules=SizeRules(edge_step=8, max_edge=2048, max_ratio=2, min_pixels=65_536, max_pixels=2_097_152),
        ),
    )
}
# The model if none is given; OpenAI's pages differ on whether there still is a default.
DEFAULT_MODEL = "gpt-image-1.5"


@dataclass(frozen=True, slots=True)
class BilledTokens:
    """The tokens that a response reports and that are billed."""

    text_in: int
    image_in: int
    image_out: int

    def compute_charge(self, prices: ModelPrices) -> int:
        """Computes the charge in micro-USD. It is exact, since the numbers of image tokens are even."""
        parts = self.text_in * prices.text_in, self.image_in * prices.image_in, self.image_out * prices.image_out
        return sum(parts) // MICROS_PER_USD

    def to_json(self) -> dict[str, object]:
        tokens_in = self.text_in + self.image_in
        return {
            "input_tokens": tokens_in,
            "input_tokens_details": {"image_tokens": self.image_in, "text_tokens": self.text_in},
            "output_tokens": self.image_out,
            "output_tokens_details": {"image_tokens": self.image_out, "text_tokens": 0},
            "total_tokens": tokens_in + self.image_out,
        }


def estimate_text_tokens(prompt: str) -> int:
    """Estimates the tokens of a prompt; the real tokenizer is not published."""
    return -(-len(prompt.encode("utf-8", "replace")) // TEXT_BYTES_PER_TOKEN)


def count_image_tokens(source: SourceImage) -> int:
    """Returns the tokens of an input image: a number per tile of the scaled image (an assumption)."""
    scale = min(1.0, MAX_SCALED_EDGE / max(source.width, source.height))
    across, down = (math.ceil(edge * scale / TILE_EDGE) for edge in (source.width, source.height))
    return across * down * TILE_TOKENS
