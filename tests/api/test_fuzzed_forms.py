"""Thousands of mutated forms to one running gateway cause no 5xx, no hang, no leak and no order."""

from time import monotonic

import httpx

from tests.api.byte_fuzzer import ByteFuzzer, FuzzedResponses
from tests.api.error_responses import JOBS_PATH
from tests.api.test_edits import EDITS_PATH
from tests.harness.form_bodies import BOUNDARY, make_part
from tests.harness.gateway_runner import RunningGateway
from tests.harness.sample_images import encode_data_uri, make_image

FORM_COUNT = 2_000
MIB = 1 << 20
# A form that hangs takes longer than this, and no other one does on a busy machine.
MAX_SECONDS = 5.0
IMAGE = make_image(16, 16)
# No order is placed: no seller offers so low a price, unless the fuzzer corrupts the limit itself.
PARTS = [
    make_part("prompt", "a lighthouse"),
    make_part("max_price", "0.001"),
    make_part("n", "2"),
    make_part("stream", "false"),
    make_part("provider[only][]", "runapi"),
    make_part("metadata[campaign]", "spring"),
    make_part("image[]", IMAGE, "Content-Type: application/octet-stream", filename="upload"),
    make_part("mask", make_image(16, 16, mode="RGBA"), "Content-Type: image/png", filename="blob"),
]
ODD_CONTENTS = [
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
ODD_NAMES = [
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
ODD_HEADERS = [
    *("Content-Type: multipart/mixed; boundary=x", "Content-Transfer-Encoding: base64", "Content-Length: 3"),
    *("Content-Disposition: form-data", "X: " + "a" * 3_000, "a b: c", "no colon", " continued", "Content-Type: \x7f"),
]
ODD_BYTES = [
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
CONTENT_TYPES = [
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
    """Makes mutated forms."""

    def make_form(self) -> bytes:
        parts = list(PARTS)
        for _ in range(self.draw_change_count()):
            self._change_parts(parts)
        delimiter = f"--{BOUNDARY}\r\n".encode()
        form = b"".join(delimiter + part for part in parts) + f"--{BOUNDARY}--\r\n".encode()
        # The first parts are kept: the price limit prevents orders, whatever else the form contains.
        start = form.index(b'name="n"') if b'name="n"' in form else len(form) // 2
        return self.corrupt_sometimes(form, start)

    def make_content_type(self) -> str:
        return (
            self.random.choice(CONTENT_TYPES)
            if self.random.random() < 0.1
            else f"multipart/form-data; boundary={BOUNDARY}"
        )

    def _change_parts(self, parts: list[bytes]) -> None:
        kind, position = self.random.random(), self.random.randrange(len(parts))
        if kind < 0.1:
            self.random.shuffle(parts)
        elif kind < 0.2 and position != 1:
            del parts[position]
        elif kind < 0.3:
            parts += [parts[position]] * self.random.choice((1, 1, 20, 300))
        else:
            filename = self.random.choice((None, None, "", "a.png", "../../../etc/passwd", '"; name="n', "a" * 3_000))
            headers = [self.random.choice(ODD_HEADERS)] if self.random.random() < 0.3 else []
            name, content = self.random.choice(ODD_NAMES), self.random.choice(ODD_CONTENTS)
            parts.insert(position, make_part(name, content, *headers, filename=filename))


def test_thousands_of_mutated_forms_cause_no_5xx_no_hang_and_no_leak(gateway: RunningGateway) -> None:
    fuzzer, responses = FormFuzzer(20_261_127, ODD_BYTES), FuzzedResponses(gateway, FORM_COUNT)
    before, slowest = len(gateway.sandbox.list_charges()), 0.0
    with httpx.Client(base_url=gateway.url, trust_env=False, timeout=30, headers=dict(gateway.http.headers)) as http:
        for number in range(FORM_COUNT):
            form, content_type = fuzzer.make_form(), fuzzer.make_content_type()
            started_at = monotonic()
            answer = http.post(
                (EDITS_PATH, JOBS_PATH)[number % 2], content=form, headers={"content-type": content_type}
            )
            slowest = max(slowest, monotonic() - started_at)
            responses.record(number, answer, f"{content_type} {form[:2_000]!r}")
    responses.expect_healthy_gateway()
    assert slowest < MAX_SECONDS
    assert len(responses.codes) >= 12, responses.codes
    assert responses.codes["no_offer"] > FORM_COUNT // 20, f"too few forms get past the checks: {responses.codes}"
    gateway.wait_until_idle()
    assert len(gateway.sandbox.list_charges()) == before
