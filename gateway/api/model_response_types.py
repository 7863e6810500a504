"""The types of the JSON bodies that describe models."""

from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from gateway.api.response_types import PixelSize
from providers.orders import Operation


class ModelCapabilitiesBody(TypedDict):
    """The features of a model."""

    generate: bool
    edit: bool
    mask: bool
    transparent_background: bool
    stream: bool
    partial_images: Annotated[bool, Meta(description="Whether a stream has previews.")]


class ModalitiesBody(TypedDict):
    """The kinds of content that a model accepts and makes."""

    input: list[Literal["text", "image"]]
    output: list[Literal["image"]]


class ResolutionTierBody(TypedDict):
    """A resolution tier that is sold."""

    resolution: str
    max_pixels: int
    usual_pixels: int


class ModelSizesBody(TypedDict):
    """The rules for sizes. `usual`: the default size, and those that models are made for."""

    multiple_of: int
    max_edge: int
    max_ratio: float
    min_pixels: int
    max_pixels: int
    usual: list[PixelSize]
    resolutions: list[ResolutionTierBody]


class ModelInputsBody(TypedDict):
    """The limits of the input images of an edit."""

    max_images: int
    max_bytes: int


class ModelDefaultsBody(TypedDict):
    """The values that `auto`, or no value, stands for."""

    size: PixelSize
    quality: str
    output_format: str
    background: str


class CellPriceBody(TypedDict):
    """USD per image of one operation, resolution and quality: the lowest and highest price of the sellers."""

    operation: Operation
    resolution: str
    quality: str
    min: str
    max: str
    currency: Literal["USD"]
    sellers: list[str]


class ModelBody(TypedDict):
    """A model that your team can use: OpenAI's fields, and more."""

    id: str
    object: Literal["model"]
    created: Annotated[int, Meta(description="Always 0: the date is unknown.")]
    owned_by: str
    aliases: list[str]
    capabilities: ModelCapabilitiesBody
    modalities: ModalitiesBody
    operations: list[Operation]
    qualities: Annotated[list[str], Meta(description="In ascending order.")]
    output_formats: list[str]
    backgrounds: list[str]
    sizes: ModelSizesBody
    inputs: ModelInputsBody
    max_images: int
    defaults: ModelDefaultsBody
    prices: list[CellPriceBody]


class ModelListBody(TypedDict):
    """The models that your team can use."""

    object: Literal["list"]
    data: list[ModelBody]
