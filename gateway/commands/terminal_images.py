"""Draws images in terminals: with the protocol of kitty, with that of iTerm2, or with sixels."""

import base64
import io
import os
import re
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import BinaryIO

from PIL import Image

# Large enough to judge an image by. A whole image may have megabytes, and the terminal may be remote.
MAX_EDGE_PIXELS = 640
KITTY_CHUNK_LENGTH = 4_096
SIXEL_COLORS = 128
SIXEL_ROWS = 6
QUERY_SECONDS = 0.5
DEVICE_ATTRIBUTES_QUERY = b"\x1b[c"
_DEVICE_ATTRIBUTES = re.compile(rb"\x1b\[\?([0-9;]*)c")
# A byte that is repeated more than three times is shorter with a count before it.
_REPEATED_BYTE = re.compile(rb"(.)\1{3,254}", re.DOTALL)


class ImageProtocol(StrEnum):
    """How a terminal receives images."""

    KITTY = "kitty"
    ITERM = "iterm"
    SIXEL = "sixel"


class UnreadableImage(Exception):
    """The image cannot be decoded for the terminal."""


KITTY_PROGRAMS = {"ghostty"}
ITERM_PROGRAMS = {"iTerm.app", "WezTerm", "mintty", "rio", "Tabby"}


def detect_protocol(environ: Mapping[str, str]) -> ImageProtocol | None:
    """Returns the protocol that the terminal understands: by its name, else by its answer to a query."""
    is_inner = "TMUX" in environ or environ.get("TERM", "").startswith("screen")
    program = environ.get("TERM_PROGRAM", "")
    if not is_inner:
        if "kitty" in environ.get("TERM", "") or "KITTY_WINDOW_ID" in environ or program in KITTY_PROGRAMS:
            return ImageProtocol.KITTY
        if program in ITERM_PROGRAMS or environ.get("LC_TERMINAL") == "iTerm2":
            return ImageProtocol.ITERM
    return ImageProtocol.SIXEL if _supports_sixel() else None


def encode_for_terminal(data: bytes, protocol: ImageProtocol) -> bytes:
    """Encodes a reduced copy of the image. Raises UnreadableImage."""
    preview = _make_preview(data)
    if protocol is ImageProtocol.SIXEL:
        return encode_sixel(preview)
    png = io.BytesIO()
    preview.save(png, "PNG")
    return encode_kitty(png.getvalue()) if protocol is ImageProtocol.KITTY else encode_iterm(png.getvalue())


def encode_kitty(png: bytes) -> bytes:
    """Encodes a PNG in chunks. `q=2`: the terminal sends no answer, which the shell would take for input."""
    text = base64.b64encode(png)
    chunks = [text[start : start + KITTY_CHUNK_LENGTH] for start in range(0, len(text), KITTY_CHUNK_LENGTH)]
    head = b"a=T,f=100,q=2,"
    parts = []
    for number, chunk in enumerate(chunks, 1):
        parts.append(b"\x1b_G%sm=%d;%s\x1b\\" % (head, number < len(chunks), chunk))
        head = b"q=2,"
    return b"".join(parts) + b"\n"


def encode_iterm(png: bytes) -> bytes:
    return b"\x1b]1337;File=inline=1;size=%d:%s\x07\n" % (len(png), base64.b64encode(png))


def encode_sixel(image: Image.Image) -> bytes:
    """Encodes the image in bands of six rows, each color of a band as one line of sixels."""
    reduced = image.convert("RGB").quantize(SIXEL_COLORS)
    palette = reduced.getpalette() or []
    pixels = reduced.tobytes()
    colors = [palette[start : start + 3] for start in range(0, len(palette), 3)]
    definitions = b"".join(
        b"#%d;2;%d;%d;%d" % (number, *(round(value * 100 / 255) for value in color))
        for number, color in enumerate(colors)
    )
    bands = (_encode_band(pixels, reduced.width, top, reduced.height) for top in range(0, reduced.height, SIXEL_ROWS))
    size = b'"1;1;%d;%d' % reduced.size
    return b"\x1bP0;1;0q" + size + definitions + b"-".join(bands) + b"\x1b\\\n"


def _encode_band(pixels: bytes, width: int, top: int, height: int) -> bytes:
    """Encodes six rows. A sixel is a byte from 63 on whose bits are the rows that have the color."""
    lines: dict[int, bytearray] = {}
    for row in range(min(SIXEL_ROWS, height - top)):
        start = (top + row) * width
        for column, color in enumerate(pixels[start : start + width]):
            if color not in lines:
                lines[color] = bytearray(b"?" * width)
            lines[color][column] += 1 << row
    return b"$".join(b"#%d%s" % (color, _shorten_repeats(line)) for color, line in lines.items())


def _shorten_repeats(line: bytearray) -> bytes:
    return _REPEATED_BYTE.sub(lambda match: b"!%d%s" % (len(match[0]), match[1]), line.rstrip(b"?"))


def _make_preview(data: bytes) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.thumbnail((MAX_EDGE_PIXELS, MAX_EDGE_PIXELS))
            return image.convert("RGBA" if image.has_transparency_data else "RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableImage(str(error)) from None


# --- the terminal


def open_terminal_output() -> BinaryIO | None:
    """Returns standard output if it is a terminal, else standard error, else None."""
    streams = (stream for stream in (sys.stdout, sys.stderr) if stream.isatty())
    stream = next(streams, None)
    return stream.buffer if stream else None


def _supports_sixel() -> bool:
    """Returns whether the terminal can draw sixels: its attributes then contain a 4."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return b"4" in _query_attributes(terminal).split(b";")
    finally:
        os.close(terminal)


def _query_attributes(terminal: int) -> bytes:
    """Returns the terminal's attributes. Meanwhile the terminal does not display its input, so its answer stays off the
    screen."""
    mode = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal, termios.TCSANOW)
        os.write(terminal, DEVICE_ATTRIBUTES_QUERY)
        answer = b""
        for piece in _read_pieces(terminal):
            answer += piece
            if match := _DEVICE_ATTRIBUTES.search(answer):
                return match[1]
        return b""
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, mode)


def _read_pieces(terminal: int) -> Iterator[bytes]:
    deadline = time.monotonic() + QUERY_SECONDS
    while (rest := deadline - time.monotonic()) > 0 and select.select([terminal], [], [], rest)[0]:
        yield os.read(terminal, 256)
