"""Reads forms (multipart/form-data, RFC 7578) while they arrive: texts into memory, images into UploadedFiles.

The declared media types and the names of files are ignored: only their bytes count.
"""

import re
from collections.abc import AsyncIterator, Sequence

import msgspec
from msgspec import Struct
from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser  # type: ignore[import-untyped]  # no py.typed

from gateway.api.api_errors import ApiError
from gateway.api.file_upload_receiver import FileReceiver, UploadedFile, UploadLimiter
from gateway.api.validation_errors import MAX_NAME_LENGTH

FORM_MEDIA_TYPE = "multipart/form-data"
# A form with every parameter and 16 images has about sixty parts.
MAX_PARTS = 256
MAX_HEADERS, MAX_HEADER_BYTES = 8, 2048
MAX_TEXT_BYTES = 1 << 20
# RFC 2046 allows 70.
MAX_BOUNDARY_LENGTH = 200
IMAGE_FIELDS = ("image", "images", "mask", "markup")
_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"]+)"|([^\s;"]+))', re.IGNORECASE)
# The values of Content-Transfer-Encoding that leave the bytes unchanged. RFC 7578 forbids all others.
_PLAIN_ENCODINGS = ("", "7bit", "8bit", "binary")


class FormField(Struct, frozen=True):
    """One part. The value of an image is an UploadedFile, unless it is sent as a text, such as a URL."""

    name: str
    value: str
    file_name: str = ""


def is_form(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == FORM_MEDIA_TYPE


async def read_form(
    chunks: AsyncIterator[bytes],
    content_type: str,
    limiter: UploadLimiter,
    file_fields: tuple[str, ...] = IMAGE_FIELDS,
) -> list[FormField]:
    """Reads the whole form. Raises ApiError if it is invalid, or larger than its limits."""
    parser = PushMultipartParser(
        _parse_boundary(content_type),
        max_header_size=MAX_HEADER_BYTES,
        max_header_count=MAX_HEADERS,
        max_segment_count=MAX_PARTS,
    )
    receiver = _PartReceiver(limiter, file_fields)
    try:
        async for chunk in chunks:
            # The parser would take an empty chunk for the end of the form.
            for event in parser.parse(chunk) if chunk else ():
                await receiver.receive_event(event)
        parser.close()
    except MultipartError as error:
        raise _invalid_form_error(error) from None
    finally:
        receiver.close()
    return receiver.parts


def encode_parts(parts: Sequence[FormField]) -> bytes:
    """Encodes the form for its fingerprint: independent of the boundary, and of the order of different fields."""
    entries = [
        (part.name, "file", part.value.digest)
        if isinstance(part.value, UploadedFile)
        else (part.name, "text", part.value)
        for part in parts
    ]
    return msgspec.json.encode(sorted(entries, key=lambda entry: entry[0]))


def _parse_boundary(content_type: str) -> str:
    match = _BOUNDARY.search(content_type)
    boundary = (match[1] or match[2]).rstrip() if match else ""
    if not boundary or len(boundary) > MAX_BOUNDARY_LENGTH or not boundary.isascii():
        message = (
            f"Invalid Content-Type: {FORM_MEDIA_TYPE} must name a boundary of 1 to {MAX_BOUNDARY_LENGTH} characters. "
            "Let your HTTP client set this header."
        )
        raise ApiError(400, "invalid_form", message)
    return boundary


def _invalid_form_error(error: MultipartError) -> ApiError:
    # Some errors have their cause as a second argument.
    reason = str(error.args[0])[:200]
    if reason.startswith("Unexpected end"):
        reason = "it ends before its last boundary"
    elif isinstance(error, ParserLimitReached):
        reason = (
            f"at most {MAX_PARTS} parts, {MAX_HEADERS} headers in a part and {MAX_HEADER_BYTES:,} bytes in a header "
            "are allowed"
        )
    return ApiError(400, "invalid_form", f"Invalid form in the body: {reason}.")


class _PartReceiver:
    """Receives the parts of one form, one after the other."""

    def __init__(self, limiter: UploadLimiter, file_fields: tuple[str, ...]) -> None:
        self.parts: list[FormField] = []
        self._limiter, self._file_fields = limiter, file_fields
        self._text_bytes = 0
        self._name, self._file_name = "", ""
        self._text: list[bytes] = []
        self._file: FileReceiver | None = None

    async def receive_event(self, event: MultipartSegment | bytes | None) -> None:
        """Receives the start of a part, bytes of its content, or its end."""
        if isinstance(event, MultipartSegment):
            self._start_part(event)
        elif event is None:
            await self._finish_part()
        elif self._file is not None:
            await self._file.write(event)
        else:
            self._add_text(event)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _start_part(self, segment: MultipartSegment) -> None:
        encoding = dict(segment.headerlist).get("Content-Transfer-Encoding", "").strip().lower()
        if encoding not in _PLAIN_ENCODINGS:
            raise ApiError(
                400, "invalid_form", "Content-Transfer-Encoding is not supported: send each part as plain bytes."
            )
        self._name, self._file_name = segment.name or "", segment.filename or ""
        self._text, self._file = [], None
        if self._name.partition("[")[0] in self._file_fields:
            self._file = FileReceiver(self._limiter)
        elif self._file_name:
            short_name = self._name[:MAX_NAME_LENGTH]
            file_name = self._file_fields[0]
            message = f"Invalid value for '{short_name}': must be text, not a file. Send the file as '{file_name}'."
            raise ApiError(400, "invalid_value", message, param=short_name)

    async def _finish_part(self) -> None:
        if self._file is None:
            self._add_part(self._decode_text(b"".join(self._text)))
            return
        file = await self._file.finish()
        self._file.close()
        self._file = None
        text = None if self._file_name else _read_text(file)
        if text is not None:
            self._count_text(len(text))
        self._add_part(file if text is None else text)

    def _add_part(self, value: str) -> None:
        self.parts.append(FormField(self._name, value, self._file_name))

    def _add_text(self, piece: bytes) -> None:
        self._count_text(len(piece))
        self._text.append(piece)

    def _count_text(self, size: int) -> None:
        self._text_bytes += size
        if self._text_bytes > MAX_TEXT_BYTES:
            message = f"The texts of the form are larger than {MAX_TEXT_BYTES >> 20} MiB. Send images as files."
            raise ApiError(413, "body_too_large", message)

    def _decode_text(self, data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError:
            short_name = self._name[:MAX_NAME_LENGTH]
            message = f"The form field '{short_name}' is not valid UTF-8."
            raise ApiError(400, "invalid_form", message, param=short_name) from None


def _read_text(file: UploadedFile) -> str | None:
    """Returns an image that was sent as a text, such as a URL; None if it is a file."""
    try:
        return None if len(file.data) > MAX_TEXT_BYTES else bytes(file.data).decode()
    except UnicodeDecodeError:
        return None
