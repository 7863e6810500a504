"""Makes mutated forms (multipart/form-data) for edits and for files of batches."""

from collections.abc import Sequence

from tests.api.byte_fuzzer import ByteFuzzer
from tests.api.error_responses import EDITS_PATH, JOBS_PATH
from tests.api.parallel_requests import RawRequest
from tests.harness.form_bodies import BOUNDARY, make_part
from tests.harness.sample_images import encode_data_uri, make_image

AUTHORIZATION = b"Bearer igw_sandbox"
MIB = 1 << 20
IMAGE = make_image(16, 16)
# No order is placed: no seller offers so low a price, unless the fuzzer corrupts the limit itself.
FORM_PARTS = [
    make_part("prompt", "a lighthouse"),
    make_part("max_price", "0.001"),
    make_part("n", "2"),
    make_part("stream", "false"),
    make_part("provider[only][]", "runapi"),
    make_part("metadata[campaign]", "spring"),
    make_part("image[]", IMAGE, "Content-Type: application/octet-stream", filename="upload"),
    make_part("mask", make_image(16, 16, mode="RGBA"), "Content-Type: image/png", filename="blob"),
]
_BODY = b'{"prompt": "a", "max_price": "0.001"}'
_LINE = b'{"custom_id": "1", "method": "POST", "url": "/v1/images/generations", "body": ' + _BODY + b"}"
FILE_PARTS = [make_part("purpose", "batch"), make_part("file", _LINE + b"\n" + _LINE[:90], filename="requests.jsonl")]
ODD_PART_CONTENTS = [
    b"",
    b"\0",
    b"\xff\xfe",
    b"\r\n--",
    b"GIF89a" + bytes(40),
    b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    IMAGE[:40],
    IMAGE + bytes(2 * MIB),
    encode_data_uri(IMAGE).encode(),
    b"https://127.0.0.1/a.png",
    b"file:///etc/passwd",
    b"a" * 40_000,
    b'{"a": [1, 2]}',
]
ODD_PART_NAMES = [
    *(
        "image",
        "image[0]",
        "image[1]",
        "image[]",
        "images",
        "images[0][image_url]",
        "images[0][file_id]",
        "mask[b64_json]",
    ),
    *(
        "mask",
        "markup",
        "n",
        "prompt",
        "svg[model]",
        "provider",
        "provider[only]",
        "metadata[][]",
        "[",
        "]",
        "image[",
        "",
    ),
    *("a" * 3_000, "é", "%0D%0A", "a\\", "image[0][0][0][0][0]", "__class__", "image[999999999999]", "image[-1]"),
]
ODD_PART_HEADERS = [
    *("Content-Type: multipart/mixed; boundary=x", "Content-Transfer-Encoding: base64", "Content-Length: 3"),
    *("Content-Disposition: form-data", "X: " + "a" * 3_000, "a b: c", "no colon", " continued", "Content-Type: \x7f"),
]
ODD_FORM_BYTES = [
    b"\r",
    b"\n",
    b"\r\n",
    b"--",
    b"\0",
    b"\xff",
    b'"',
    b";",
    b":",
    b"\r\n\r\n",
    b"--the-boundary",
    b"--the-boundary--",
]
FORM_CONTENT_TYPES = [
    "multipart/form-data",
    "multipart/form-data; boundary=",
    "multipart/form-data; boundary=other",
    f'multipart/form-data; boundary="{BOUNDARY}"; charset=utf-16',
    "multipart/form-data; boundary=" + "-" * 300,
    'multipart/form-data; boundary="',
    "multipart/mixed; boundary=the-boundary",
    "application/json",
]


class FormFuzzer(ByteFuzzer):
    """Makes mutated forms for edits."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, ODD_FORM_BYTES)

    def make_request(self) -> RawRequest:
        path = self.random.choice((EDITS_PATH, JOBS_PATH))
        headers = [(b"authorization", AUTHORIZATION), (b"content-type", self.make_content_type().encode())]
        return RawRequest(b"POST", path.encode(), headers, self.make_form())

    def make_form(self, valid_parts: Sequence[bytes] = FORM_PARTS) -> bytes:
        parts = list(valid_parts)
        for _ in range(self.draw_change_count()):
            self._change_parts(parts)
        delimiter = f"--{BOUNDARY}\r\n".encode()
        form = b"".join(delimiter + part for part in parts) + f"--{BOUNDARY}--\r\n".encode()
        # The first parts are kept: the price limit prevents orders, whatever else the form contains.
        start = form.index(b'name="n"') if b'name="n"' in form else len(form) // 2
        return self.corrupt_sometimes(form, start)

    def make_content_type(self) -> str:
        return (
            self.random.choice(FORM_CONTENT_TYPES)
            if self.random.random() < 0.1
            else f"multipart/form-data; boundary={BOUNDARY}"
        )

    def _change_parts(self, parts: list[bytes]) -> None:
        kind, position = self.random.random(), self.random.randrange(len(parts))
        if kind < 0.1:
            self.random.shuffle(parts)
        elif kind < 0.2 and position != 1 and len(parts) > 1:
            del parts[position]
        elif kind < 0.3:
            parts += [parts[position]] * self.random.choice((1, 1, 20, 300))
        else:
            filename = self.random.choice((None, None, "", "a.png", "../../../etc/passwd", '"; name="n', "a" * 3_000))
            headers = [self.random.choice(ODD_PART_HEADERS)] if self.random.random() < 0.3 else []
            name, content = self.random.choice(ODD_PART_NAMES), self.random.choice(ODD_PART_CONTENTS)
            parts.insert(position, make_part(name, content, *headers, filename=filename))
