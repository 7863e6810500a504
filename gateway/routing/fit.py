"""Matches requests to offers: how a request would be ordered, with which substitutions, or why it cannot be."""

from collections.abc import Iterator
from fractions import Fraction

from msgspec import Struct

from gateway.catalogue import Catalogue, Offer
from gateway.config.offer_schema import SizeOptions
from gateway.routing.routing_request import RoutingRequest
from providers.image_sizes import RATIO_TOLERANCE, TargetSize, compute_ratio_error, find_nearest_ratio, parse_ratio
from providers.orders import Cell, Format, Operation, PixelSize, PresetSize, RatioSize, SizeSpec

MAX_CACHED_FITS = 4_096
# Edges are multiples of some pixels, so a size may differ slightly from its ratio.
EXACT_RATIO_TOLERANCE = 0.001


class FitRequirements(Struct, frozen=True, kw_only=True):
    """The parts of a request on which a fit depends."""

    operation: Operation
    target: TargetSize
    has_explicit_size: bool
    quality: str
    has_explicit_quality: bool
    output_format: Format
    has_mask: bool
    input_count: int
    background: str | None = None


class Substitution(Struct, frozen=True):
    """A difference between the request and what an offer delivers, or an unverified assumption. Always reported."""

    name: str
    detail: str


class Fit(Struct, frozen=True):
    """An offer that can fulfil a request, and how."""

    offer: Offer
    cell: Cell
    size: SizeSpec
    substitutions: tuple[Substitution, ...]
    needs_conversion: bool

    @property
    def is_exact(self) -> bool:
        return not self.substitutions


class Misfit(Struct, frozen=True):
    """An offer that cannot fulfil a request, and why."""

    offer: Offer
    reasons: tuple[str, ...]


def fit_requirements(request: RoutingRequest) -> FitRequirements:
    return FitRequirements(
        operation=request.operation,
        target=request.target,
        has_explicit_size=request.has_explicit_size,
        quality=request.quality,
        has_explicit_quality=request.has_explicit_quality,
        output_format=request.output_format,
        has_mask=request.has_mask,
        input_count=request.input_count,
        background=request.background,
    )


def match_offers(catalogue: Catalogue, model: str, requirements: FitRequirements) -> tuple[Fit | Misfit, ...]:
    """Matches a request to every offer of a model. Cached per catalogue, since signals do not matter here."""
    key = (model, requirements)
    cached = catalogue.fit_cache.get(key)
    if cached is None:
        if len(catalogue.fit_cache) >= MAX_CACHED_FITS:
            catalogue.fit_cache.clear()
        cached = catalogue.fit_cache[key] = tuple(
            match_offer(offer, requirements) for offer in catalogue.offers.get(model, ())
        )
    return cached  # type: ignore[return-value]


def match_offer(offer: Offer, requirements: FitRequirements) -> Fit | Misfit:
    cell = Cell(requirements.operation, requirements.target.resolution, requirements.quality)
    size_options = offer.size_options.get(requirements.operation)
    size, size_substitutions = _choose_size(size_options, requirements) if size_options else (None, [])
    reasons = _mismatch_reasons(offer, requirements, cell, size is not None)
    if size is None or reasons:
        return Misfit(offer, tuple(reasons))
    substitutions = (*size_substitutions, *_quality_substitutions(offer, requirements), *_offer_substitutions(offer))
    return Fit(offer, cell, size, substitutions, requirements.output_format not in offer.formats)


def _mismatch_reasons(offer: Offer, requirements: FitRequirements, cell: Cell, has_size: bool) -> list[str]:
    reasons = []
    if offer.seller.account.api_key is None:
        reasons.append(f"account {offer.seller.account.name} has no API key")
    if requirements.operation not in offer.size_options:
        reasons.append(f"does not sell {requirements.operation}")
    elif not has_size:
        reasons.append(
            f"cannot order {requirements.target.width}x{requirements.target.height} ({requirements.target.ratio})"
        )
    if cell not in offer.prices:
        reasons.append(f"no price for {cell.operation} {cell.resolution} {cell.quality}")
    return [*reasons, *_word_reasons(offer, requirements), *_input_reasons(offer, requirements)]


def _word_reasons(offer: Offer, requirements: FitRequirements) -> Iterator[str]:
    if offer.assumed_quality is None and requirements.quality not in offer.selectable_qualities:
        yield f"quality {requirements.quality} cannot be ordered"
    if requirements.output_format not in offer.formats and not requirements.output_format.is_convertible:
        yield f"format {requirements.output_format} cannot be ordered"
    if requirements.background is not None and requirements.background not in offer.backgrounds:
        yield f"background {requirements.background} cannot be ordered"


def _input_reasons(offer: Offer, requirements: FitRequirements) -> Iterator[str]:
    if requirements.has_mask and not offer.supports_mask:
        yield "does not support a mask"
    if requirements.input_count > offer.max_inputs:
        yield f"supports at most {offer.max_inputs} input images"


def _choose_size(
    size_options: SizeOptions, requirements: FitRequirements
) -> tuple[SizeSpec | None, list[Substitution]]:
    """Chooses the most faithful way to order this size; returns it with its substitutions."""
    target = requirements.target
    for name, preset_size in size_options.presets.items():
        if preset_size.pixels == (target.width, target.height):
            return PresetSize(name), []
    pixels = PixelSize(target.width, target.height)
    if size_options.pixels == "exact":
        return pixels, []
    if size_options.ratios and (ratio_size := _choose_ratio(size_options, requirements)):
        return ratio_size
    if size_options.pixels == "unverified":
        return pixels, [Substitution("size_unverified", "it is not verified that these pixels can be ordered")]
    return None, []


def _choose_ratio(
    size_options: SizeOptions, requirements: FitRequirements
) -> tuple[SizeSpec, list[Substitution]] | None:
    target = requirements.target
    exact_ratio = target.ratio if target.ratio in size_options.ratios else None
    ratio, error = (
        (exact_ratio, 0.0) if exact_ratio else find_nearest_ratio(target.width, target.height, size_options.ratios)
    )
    is_offered = size_options.resolutions is None or target.resolution in size_options.resolutions
    is_sold = is_offered and f"{ratio}@{target.resolution}" not in size_options.unsold
    if not is_sold or error > RATIO_TOLERANCE:
        return None
    return RatioSize(ratio, target.resolution), list(_ratio_substitutions(ratio, requirements))


def _ratio_substitutions(ratio: str, requirements: FitRequirements) -> Iterator[Substitution]:
    target = requirements.target
    if compute_ratio_error(parse_ratio(ratio), Fraction(target.width, target.height)) > EXACT_RATIO_TOLERANCE:
        detail = f"ordered as {ratio}, the nearest ratio to {target.width}x{target.height}"
        yield Substitution("ratio_nearest", detail)
    if requirements.has_explicit_size:
        detail = f"ordered as {ratio} at {target.resolution}; the seller chooses the pixels"
        yield Substitution("size_by_ratio", detail)


def _quality_substitutions(offer: Offer, requirements: FitRequirements) -> list[Substitution]:
    if offer.assumed_quality is None or (
        not requirements.has_explicit_quality and offer.assumed_quality == requirements.quality
    ):
        return []
    return [
        Substitution(
            "quality_not_selectable",
            f"quality {requirements.quality} cannot be ordered here; {offer.assumed_quality} is assumed",
        )
    ]


def _offer_substitutions(offer: Offer) -> list[Substitution]:
    return [Substitution("offer_unverified", offer.unverified_note)] if offer.unverified_note else []
