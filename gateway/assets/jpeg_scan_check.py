"""Counts the scans of a JPEG: each may cover the whole image, so a small file of many scans would be decoded for
minutes. Pure."""

import re

from gateway.assets.backend import ImageData
from gateway.assets.image_header import InvalidImage

# Encoders write about ten.
MAX_SCANS, MAX_SEGMENTS = 100, 4_096
_SCAN, _END = 0xDA, 0xD9
# In the data of a scan, a zero follows each 0xFF, or the number of a restart.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
# So that other threads can run between two steps.
_STEP_BYTES = 256 << 10


def check_jpeg_scans(data: ImageData) -> None:
    """Raises InvalidImage if there are too many scans. Ignores what follows the image."""
    position, scans = 2, 0
    for _ in range(MAX_SEGMENTS):
        start = _find_marker(data, position)
        if start is None or data[start + 1] == _END:
            return
        scans += data[start + 1] == _SCAN
        if scans > MAX_SCANS:
            raise InvalidImage(f"a JPEG with more than {MAX_SCANS} scans")
        position = start + 2 + int.from_bytes(data[start + 2 : start + 4])
    raise InvalidImage(f"a JPEG with more than {MAX_SEGMENTS:,} segments")


def _find_marker(data: ImageData, position: int) -> int | None:
    for start in range(position, len(data), _STEP_BYTES):
        # One byte more, since a marker has two.
        if match := _MARKER.search(data, start, min(len(data), start + _STEP_BYTES + 1)):
            return match.start()
    return None
