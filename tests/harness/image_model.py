"""GPT Image 2 for tests: its words, its cells, its sizes, and its entry in a catalogue."""

from gateway.catalogue import InputLimits, Model
from providers.image_sizes import DEFAULT_SIZE_LAW
from providers.orders import Format, list_cells

RESOLUTIONS, QUALITIES = ("1k", "2k", "4k"), ("low", "medium", "high")
ALL_CELLS = list_cells(RESOLUTIONS, QUALITIES)
FORMATS = (Format.PNG, Format.JPEG, Format.WEBP)
SIZE_LAW = DEFAULT_SIZE_LAW
target_from_pixels, target_from_ratio = SIZE_LAW.target_from_pixels, SIZE_LAW.target_from_ratio


def make_model(name: str = "gpt-image-2") -> Model:
    return Model(
        name=name,
        width=1024,
        height=1024,
        quality="high",
        output_format=Format.PNG,
        background="opaque",
        qualities=QUALITIES,
        formats=FORMATS,
        backgrounds=("opaque",),
        size_law=SIZE_LAW,
        inputs=InputLimits(max_images=16, max_bytes=50 << 20, has_mask=True),
        max_images=10,
    )
