"""Schema of one model in `models.yaml`: its qualities, formats, backgrounds, sizes and limits. The defaults are those
of GPT Image 2."""

from typing import Annotated

from msgspec import Meta, field
from msgspec.structs import replace

from gateway.config.schema_base import NON_EMPTY, ConfigStruct, NonEmptyText, option_help
from gateway.config.value_types import SizeValue, Word
from providers.image_sizes import DEFAULT_SIZE_LAW, ResolutionTier, SizeLaw
from providers.orders import Format

Pixels = Annotated[int, Meta(ge=1, le=40_000_000)]
Edge = Annotated[int, Meta(ge=1, le=16_383)]


class ModelDefaults(ConfigStruct, frozen=True, kw_only=True):
    """Defaults of a model, used where a request sends `auto` or nothing."""

    size: Annotated[
        SizeValue | None, option_help("Size in pixels. Default the usual square of the first resolution.")
    ] = None
    quality: Annotated[Word | None, option_help("Default the last quality of the model.")] = None
    output_format: Annotated[Format | None, option_help("File format. Default the first format of the model.")] = None
    background: Annotated[Word | None, option_help("Default the first background of the model.")] = None


class TierConfig(ConfigStruct, frozen=True, kw_only=True):
    """A resolution tier: its maximum pixels, and the pixels that a request without a size gets."""

    max_pixels: Annotated[Pixels, option_help("Maximum pixels of the tier.")]
    usual_pixels: Annotated[
        Pixels | None, option_help("About the pixels of a request that names a ratio but no size. Default the maximum.")
    ] = None


def _make_default_tiers() -> dict[Word, TierConfig]:
    return {
        Word(tier.name): TierConfig(max_pixels=tier.max_pixels, usual_pixels=tier.usual_pixels)
        for tier in DEFAULT_SIZE_LAW.tiers
    }


class SizesConfig(ConfigStruct, frozen=True, kw_only=True):
    """The sizes that a model makes, and its resolution tiers."""

    multiple_of: Annotated[Edge, option_help("Width and height are multiples of this many pixels. Default 16.")] = (
        DEFAULT_SIZE_LAW.edge_step
    )
    max_edge: Annotated[Edge, option_help("Longest edge in pixels. Default 3840.")] = DEFAULT_SIZE_LAW.max_edge
    max_ratio: Annotated[
        float, Meta(ge=1, le=100, description="Longest edge divided by the shortest, at most. Default 3.")
    ] = DEFAULT_SIZE_LAW.max_ratio
    min_pixels: Annotated[
        Pixels, option_help("Minimum of width times height. Default 655360. The maximum is that of the last tier.")
    ] = DEFAULT_SIZE_LAW.min_pixels
    tiers: Annotated[
        dict[Word, TierConfig],
        Meta(min_length=1, description="Tiers by name, in ascending order. Default 1k, 2k and 4k."),
    ] = field(default_factory=_make_default_tiers)
    usual: Annotated[
        tuple[SizeValue, ...] | None,
        option_help(
            "Sizes that take precedence over usual_pixels for their ratio and tier. "
            "Default those of GPT Image 2 that the rules allow."
        ),
    ] = None

    def build_law(self) -> SizeLaw:
        law = SizeLaw(
            edge_step=self.multiple_of,
            max_edge=self.max_edge,
            max_ratio=self.max_ratio,
            min_pixels=self.min_pixels,
            tiers=tuple(
                ResolutionTier(str(name), tier.max_pixels, tier.usual_pixels or tier.max_pixels)
                for name, tier in self.tiers.items()
            ),
            usual_sizes=(),
        )
        sizes = DEFAULT_SIZE_LAW.usual_sizes if self.usual is None else [size.pixels for size in self.usual]
        legal_sizes = tuple(size for size in sizes if law.find_size_error(*size) is None)
        return replace(law, usual_sizes=legal_sizes)

    def check_consistency(self) -> str | None:
        bounds = [tier.max_pixels for tier in self.tiers.values()]
        if bounds != sorted(set(bounds)):
            return "Invalid sizes: tiers are not in ascending order of their max_pixels"
        if any((tier.usual_pixels or 0) > tier.max_pixels for tier in self.tiers.values()):
            return "Invalid sizes: usual_pixels of a tier exceed its max_pixels"
        is_empty = self.min_pixels > bounds[0]
        return "Invalid sizes: min_pixels exceeds the max_pixels of the first tier" if is_empty else None


class InputsConfig(ConfigStruct, frozen=True, kw_only=True):
    """The limits of an edit's input images."""

    max_images: Annotated[
        int, Meta(ge=0, le=16, description="Maximum input images of an edit, 0 to 16. Default 16; 0: no edits.")
    ] = 16
    max_mib: Annotated[int, Meta(ge=1, le=50, description="Maximum MiB of one input image, 1 to 50. Default 50.")] = 50
    mask: Annotated[bool, option_help("Whether an edit may have a mask. Default true.")] = True


class ModelConfig(ConfigStruct, frozen=True, kw_only=True):
    """A model name that clients request: its aliases, its qualities, formats, backgrounds and sizes, and its limits."""

    qualities: Annotated[
        Annotated[tuple[Word, ...], NON_EMPTY],
        option_help("Qualities, in ascending order. Default low, medium and high."),
    ] = (Word("low"), Word("medium"), Word("high"))
    formats: Annotated[
        Annotated[tuple[Format, ...], NON_EMPTY], option_help("File formats. Default png, jpeg and webp.")
    ] = (Format.PNG, Format.JPEG, Format.WEBP)
    backgrounds: Annotated[
        Annotated[tuple[Word, ...], NON_EMPTY], option_help("Backgrounds: opaque, transparent. Default opaque.")
    ] = (Word("opaque"),)
    sizes: Annotated[SizesConfig, option_help("Sizes that the model makes. Default those of GPT Image 2.")] = (
        SizesConfig()
    )
    inputs: Annotated[InputsConfig, option_help("Limits of an edit's input images.")] = InputsConfig()
    defaults: Annotated[ModelDefaults, option_help("Used where a request sends `auto` or nothing.")] = ModelDefaults()
    aliases: Annotated[tuple[NonEmptyText, ...], option_help("Other names of the model. Default none.")] = ()
    dalle_aliases: Annotated[
        tuple[NonEmptyText, ...],
        option_help("Other names, whose clients send DALL-E's parameters. Default none."),
    ] = ()
    max_images: Annotated[int, Meta(ge=1, le=10, description="Maximum images per request, 1 to 10. Default 10.")] = 10

    @property
    def default_quality(self) -> str:
        return str(self.defaults.quality or self.qualities[-1])

    def resolve_default_size(self) -> tuple[int, int]:
        """Returns the pixels of the default size. Raises SizeError if the first tier has no square."""
        if self.defaults.size is not None:
            return self.defaults.size.pixels
        law = self.sizes.build_law()
        square = law.target_from_ratio("1:1", law.tiers[0].name)
        return square.width, square.height
