"""Whether an offer can express a request: how it would be ordered, what it would only come near to, or why not."""

from collections.abc import Iterator
from fractions import Fraction

from msgspec import Struct

from gateway.catalogue import Catalogue, Cell, Offer
from gateway.config.blocks import Sizing
from providers.orders import Addressing, Format, ImageRequest, Operation, Pixels, Preset, Quality, Shape
from providers.sizes import RATIO_TOLERANCE, Target, nearest_ratio, parse_ratio, ratio_error

MOST_REMEMBERED = 4_096
# Pixels come in steps of 16, so that a ratio may not be met to the last digit by the model's own sizes.
EXACT_RATIO = 0.001


class Wants(Struct, frozen=True, kw_only=True):
    """What of a request decides about fits: neither its words nor how many images."""

    operation: Operation
    target: Target
    pixels_asked: bool
    quality: Quality
    quality_asked: bool
    output_format: Format
    mask: bool
    inputs: int


class Substitution(Struct, frozen=True):
    """Where an offer only comes near, or rests on a belief. Never made in silence."""

    name: str
    detail: str


class Fit(Struct, frozen=True):
    offer: Offer
    cell: Cell
    size: Addressing
    substitutions: tuple[Substitution, ...]
    converts: bool

    @property
    def exact(self) -> bool:
        return not self.substitutions


class Misfit(Struct, frozen=True):
    offer: Offer
    reasons: tuple[str, ...]


def wants_of(request: ImageRequest) -> Wants:
    return Wants(
        operation=request.operation,
        target=request.target,
        pixels_asked=request.pixels_asked,
        quality=request.quality,
        quality_asked=request.quality_asked,
        output_format=request.output_format,
        mask=request.mask is not None,
        inputs=len(request.sources),
    )


def fits(catalogue: Catalogue, model: str, wants: Wants) -> tuple[Fit | Misfit, ...]:
    """For every offer of a model. Worked out once per catalogue: signals and prices of the day play no part."""
    key = (model, wants)
    known = catalogue.memory.get(key)
    if known is None:
        if len(catalogue.memory) >= MOST_REMEMBERED:
            catalogue.memory.clear()
        known = catalogue.memory[key] = tuple(fit(offer, wants) for offer in catalogue.offers.get(model, ()))
    return known  # type: ignore[return-value]


def fit(offer: Offer, wants: Wants) -> Fit | Misfit:
    cell = Cell(wants.operation, wants.target.resolution, wants.quality)
    sizing = offer.sizings.get(wants.operation)
    size, about_size = _size(sizing, wants) if sizing else (None, [])
    reasons = _why_not(offer, wants, cell, size is not None)
    if size is None or reasons:
        return Misfit(offer, tuple(reasons))
    substitutions = (*about_size, *_about_quality(offer, wants), *_about_offer(offer))
    return Fit(offer, cell, size, substitutions, wants.output_format not in offer.formats)


def _why_not(offer: Offer, wants: Wants, cell: Cell, has_size: bool) -> list[str]:
    reasons = []
    if offer.seller.account.secret is None:
        reasons.append(f"account {offer.seller.account.name} has no key")
    if wants.operation not in offer.sizings:
        reasons.append(f"does not sell {wants.operation}")
    elif not has_size:
        reasons.append(f"cannot express {wants.target.width}x{wants.target.height} ({wants.target.ratio})")
    if cell not in offer.prices:
        reasons.append(f"no price for {cell.operation} {cell.resolution} {cell.quality}")
    if offer.assumes is None and wants.quality not in offer.selectable:
        reasons.append(f"quality {wants.quality} cannot be ordered")
    if wants.mask and not offer.mask:
        reasons.append("takes no mask")
    if wants.inputs > offer.inputs:
        reasons.append(f"takes {offer.inputs} input images at most")
    return reasons


def _size(sizing: Sizing, wants: Wants) -> tuple[Addressing | None, list[Substitution]]:
    """The most faithful way to order this size, and what it leaves to be desired."""
    target = wants.target
    for name, text in sizing.presets.items():
        if text.pixels == (target.width, target.height):
            return Preset(name), []
    pixels = Pixels(target.width, target.height)
    if sizing.pixels == "exact":
        return pixels, []
    if sizing.ratios and (shaped := _shape(sizing, wants)):
        return shaped
    if sizing.pixels == "unverified":
        return pixels, [Substitution("size_unverified", "nobody has checked that these pixels can be ordered")]
    return None, []


def _shape(sizing: Sizing, wants: Wants) -> tuple[Addressing, list[Substitution]] | None:
    target = wants.target
    named = target.ratio if target.ratio in sizing.ratios else None
    ratio, error = (named, 0.0) if named else nearest_ratio(target.width, target.height, sizing.ratios)
    sold = target.resolution in sizing.resolutions and f"{ratio}@{target.resolution}" not in sizing.unsold
    if not sold or error > RATIO_TOLERANCE:
        return None
    return Shape(ratio, target.resolution), list(_about_shape(ratio, wants))


def _about_shape(ratio: str, wants: Wants) -> Iterator[Substitution]:
    target = wants.target
    if ratio_error(parse_ratio(ratio), Fraction(target.width, target.height)) > EXACT_RATIO:
        detail = f"ordered as {ratio}, the nearest there is to {target.width}x{target.height}"
        yield Substitution("ratio_nearest", detail)
    if wants.pixels_asked:
        detail = f"ordered as {ratio} at {target.resolution}: the pixels are the seller's choice"
        yield Substitution("size_by_ratio", detail)


def _about_quality(offer: Offer, wants: Wants) -> list[Substitution]:
    if offer.assumes is None or (not wants.quality_asked and offer.assumes == wants.quality):
        return []
    return [
        Substitution(
            "quality_not_selectable",
            f"{wants.quality} cannot be ordered here: what comes is believed to be {offer.assumes}",
        )
    ]


def _about_offer(offer: Offer) -> list[Substitution]:
    return [Substitution("offer_unverified", offer.unverified)] if offer.unverified else []
