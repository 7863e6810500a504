"""Schema of `offers/<seller>.yaml`: one strict struct per mapping."""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from gateway.config.model_schema import ModelConfig
from gateway.config.schema_base import ConfigStruct, Count, NonEmptyText, PositiveSeconds, option_help
from gateway.config.value_types import Day, Ratio, SizeValue, Usd
from providers.order_status import TokenUsage
from providers.orders import Cell, Format, Operation

ANY_QUALITY = "any"
TokenCount = Annotated[int, Meta(ge=1, le=1_000_000)]


class QualityOptions(ConfigStruct, frozen=True, kw_only=True):
    """Qualities of an offer: either those that can be ordered, or the one that is assumed."""

    EXTRA_CONSTRAINTS: ClassVar[dict[str, Any]] = {
        "oneOf": [
            {"required": ["selectable"], "properties": {"selectable": {"minItems": 1}, "assumes": {"type": "null"}}},
            {"required": ["assumes"], "properties": {"selectable": {"maxItems": 0}, "assumes": {"type": "string"}}},
        ]
    }

    selectable: Annotated[
        tuple[NonEmptyText, ...], option_help("Qualities that can be ordered. Excludes 'assumes'.")
    ] = ()
    assumes: Annotated[
        NonEmptyText | None,
        option_help(
            "The assumed quality of images, if none can be ordered; excludes 'selectable'. "
            "A request for an explicit quality is then a substitution."
        ),
    ] = None

    words: Annotated[
        dict[NonEmptyText, NonEmptyText],
        option_help("The seller's own words for qualities, where they differ. Default none."),
    ] = {}  # noqa: RUF012  a struct copies it

    def check_consistency(self) -> str | None:
        if unselectable := [quality for quality in self.words if quality not in self.selectable]:
            return f"Invalid words: '{unselectable[0]}' is not in 'selectable'"
        if bool(self.selectable) == (self.assumes is not None):
            return "must have either 'selectable' with at least one quality, or 'assumes'"
        return None


class SizeOptions(ConfigStruct, frozen=True, kw_only=True):
    """How sizes are ordered. Pixels and presets are exact; with a ratio and a tier the seller chooses the pixels."""

    pixels: Annotated[
        Literal["exact", "unverified", "none"],
        option_help("Whether sizes can be ordered in pixels, and whether that is verified. Default none."),
    ] = "none"
    presets: Annotated[
        dict[NonEmptyText, SizeValue], option_help("The seller's names for sizes, with their pixels. Default none.")
    ] = {}  # noqa: RUF012  a struct copies it
    ratios: Annotated[
        tuple[Ratio, ...], option_help("Aspect ratios that can be ordered, like 16:9. Default none.")
    ] = ()
    resolutions: Annotated[
        tuple[NonEmptyText, ...] | None, option_help("Resolution tiers that can be ordered. Default all.")
    ] = None
    unsold: Annotated[
        tuple[NonEmptyText, ...],
        option_help("Combinations of ratio and tier that cannot be ordered, like 1:1@4k. Default none."),
    ] = ()


class ExpectedLatency(ConfigStruct, frozen=True, kw_only=True):
    """Expected seconds until the images are ready: the median (`p50`) and the 90th percentile (`p90`)."""

    p50: Annotated[PositiveSeconds, option_help("Seconds within which half of the orders are ready.")]
    p90: Annotated[PositiveSeconds, option_help("Seconds within which 90 % of the orders are ready.")]

    def check_consistency(self) -> str | None:
        return "p90 cannot be less than p50" if self.p90 < self.p50 else None


class PriceRow(ConfigStruct, frozen=True, kw_only=True):
    """Price in USD per image for all cells of these operations, resolutions and qualities. An omitted list means all.

    `ceiling` is the highest possible price; it is held until the actual cost is known.
    """

    price: Annotated[Usd, option_help("USD per image.")]
    ceiling: Annotated[
        Usd | None,
        option_help("Highest possible USD per image, held until the actual cost is known. Default the price."),
    ] = None
    operations: Annotated[tuple[Operation, ...], option_help("Operations at this price. Default both.")] = tuple(
        Operation
    )
    resolutions: Annotated[
        tuple[NonEmptyText, ...] | None, option_help("Tiers at this price. Default all of the model.")
    ] = None
    qualities: Annotated[
        tuple[NonEmptyText, ...] | None, option_help("Qualities at this price. Default all of the model.")
    ] = None
    source: Annotated[NonEmptyText, option_help("Where the price is published.")]
    date: Annotated[Day, option_help("The day when the price was read at its source, like 2026-07-23.")]

    def list_cells(self, model: ModelConfig) -> list[Cell]:
        """Lists the cells of the model at this price."""
        return [
            Cell(operation, str(resolution), str(quality))
            for operation in self.operations
            for resolution in (model.sizes.tiers if self.resolutions is None else self.resolutions)
            for quality in (model.qualities if self.qualities is None else self.qualities)
        ]

    def check_consistency(self) -> str | None:
        is_below_price = self.ceiling is not None and self.ceiling < self.price
        return "the ceiling cannot be below the price" if is_below_price else None


class TokenPrices(ConfigStruct, frozen=True, kw_only=True):
    """Prices in USD per million tokens, for sellers that bill by tokens. Cell prices are then estimates for the output
    images alone; input tokens are added per order.

    `image_tokens` is the maximum for one input image or mask.
    """

    input_text: Annotated[Usd, option_help("USD per million tokens of the prompt.")]
    input_image: Annotated[Usd, option_help("USD per million tokens of input images.")]
    output: Annotated[Usd, option_help("USD per million tokens of the output images.")]
    image_tokens: Annotated[
        TokenCount,
        option_help("Maximum tokens of one input image or mask, used for the hold. Default 7000."),
    ] = 7_000

    def compute_cost(self, usage: TokenUsage) -> int:
        """Returns the cost in micro-USD, rounded up so that a budget is never exceeded by a fraction."""
        costs = (
            usage.input_text * self.input_text,
            usage.input_image * self.input_image,
            usage.output * self.output,
        )
        return -(-sum(costs) // 1_000_000)


class OfferConfig(ConfigStruct, frozen=True, kw_only=True):
    """A seller's offer of one model."""

    model: Annotated[NonEmptyText, option_help("The seller's own name of the model.")]
    images_per_order: Annotated[
        Count, option_help("Maximum images per order. A larger request is split into several orders.")
    ]
    quality: Annotated[QualityOptions, option_help("Qualities that can be ordered, or the one that is assumed.")]
    generate: Annotated[
        SizeOptions | None, option_help("How sizes of new images are ordered. Default none: not sold.")
    ] = None
    edit: Annotated[SizeOptions | None, option_help("How sizes of edits are ordered. Default none: not sold.")] = None
    formats: Annotated[
        tuple[Format, ...],
        option_help("File formats that can be ordered. Default none: the gateway converts images."),
    ] = ()
    backgrounds: Annotated[
        tuple[NonEmptyText, ...],
        option_help("Backgrounds that can be ordered. Default none: images have the model's default."),
    ] = ()
    unverified: Annotated[
        NonEmptyText | None, option_help("Note on unverified aspects of this offer. Default nothing.")
    ] = None
    mask: Annotated[bool, option_help("Whether a mask can be sent with an edit. Default false.")] = False
    inputs: Annotated[
        Annotated[int, Meta(ge=0, le=16)],
        option_help("Maximum input images of an edit, 0 to 16. Default 0; edits need 1."),
    ] = 0
    seconds: Annotated[
        dict[NonEmptyText, ExpectedLatency], option_help("Expected seconds by quality, or 'any' for all.")
    ]
    prices: Annotated[tuple[PriceRow, ...], option_help("Prices. A cell without a price is not sold.")]
    tokens: Annotated[
        TokenPrices | None,
        option_help("USD per million tokens, for sellers that bill by tokens. Default none: prices are per image."),
    ] = None


class OfferFile(ConfigStruct, frozen=True, kw_only=True):
    """One seller: an account reached through one adapter, and its offers. The file name is the seller's name."""

    account: Annotated[NonEmptyText, option_help("The account of accounts.yaml at which orders are placed.")]
    adapter: Annotated[NonEmptyText, option_help("The adapter for the seller's API, see docs/providers.md.")]
    offers: Annotated[
        dict[NonEmptyText, OfferConfig],
        Meta(min_length=1, description="Offers, by the names of models.yaml."),
    ]
