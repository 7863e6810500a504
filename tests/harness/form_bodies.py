"""Builds forms (multipart/form-data) byte by byte."""

BOUNDARY = "the-boundary"
FORM_CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
FORM_HEADERS = {"content-type": FORM_CONTENT_TYPE}


def make_part(name: str, content: bytes | str, *headers: str, filename: str | None = None) -> bytes:
    """Makes one part. With a `filename`, it is a file."""
    data = content.encode() if isinstance(content, str) else content
    file = "" if filename is None else f'; filename="{filename}"'
    head = "\r\n".join((f'Content-Disposition: form-data; name="{name}"{file}', *headers))
    return b"%b\r\n\r\n%b\r\n" % (head.encode(), data)


def make_form(*parts: bytes, boundary: str = BOUNDARY) -> bytes:
    delimiter = f"--{boundary}".encode()
    return b"".join(delimiter + b"\r\n" + part for part in parts) + delimiter + b"--\r\n"
