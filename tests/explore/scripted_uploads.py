"""Uploads of input images to the scripted sellers: three calls prepare, send and confirm one, and each can fail."""

import base64
import hashlib
import re
from functools import lru_cache
from random import Random

import msgspec
from msgspec import Struct

from providers.adapter import Answer, Call
from providers.faults import Fault, FaultKind
from providers.order_status import NoAnswer
from tests.explore.story import Story

PREPARE_PATH = re.compile(r"/v1/asset-uploads|/api/v1/files/prepare")
PUT_URL = re.compile(r"https://uploads\.test/([\w-]+)")
CONFIRM_PATH = re.compile(r"/v1/asset-uploads/([\w-]+)/confirmations|/api/v1/files/confirm")
FILE_URL = re.compile(r"https://inputs\.test/([\w-]+)\.png")
FAILURE_RATE = 0.06


class ScriptedUpload(Struct):
    """One upload. `digest`: of the bytes that have arrived."""

    id: str
    account: str
    digest: str | None = None
    is_confirmed: bool = False


class ScriptedUploads:
    """The uploads at all sellers. An upload can only be used at the account where it was confirmed."""

    def __init__(self, random: Random, story: Story, is_calm: bool) -> None:
        self._random, self._story, self._is_calm = random, story, is_calm
        self._uploads: dict[str, ScriptedUpload] = {}

    def handle(self, call: Call, account: str) -> Answer | NoAnswer | None:
        """Answers the call; None if it belongs to no upload."""
        if PREPARE_PATH.fullmatch(call.location):
            return self._fail_sometimes() or self._prepare(account)
        if put := PUT_URL.fullmatch(call.location):
            return self._fail_sometimes() or self._receive(put[1], call)
        if confirmation := CONFIRM_PATH.fullmatch(call.location):
            upload_id = confirmation[1] or msgspec.json.decode(call.body)["signed_id"]
            return self._fail_sometimes() or self._confirm(upload_id)
        return None

    def find_digest(self, account: str, source: str) -> str | None:
        """Returns the digest of an order's input; None if this account cannot read it."""
        if source.startswith("data:"):
            return compute_digest(base64.b64decode(source.partition(",")[2]))
        if (match := FILE_URL.fullmatch(source)) is None:
            return source
        upload = self._uploads[match[1]]
        return upload.digest if upload.is_confirmed and upload.account == account else None

    def _fail_sometimes(self) -> Answer | NoAnswer | None:
        if self._is_calm or self._random.random() >= FAILURE_RATE:
            return None
        return self._random.choice(
            (
                NoAnswer(fault=Fault(kind=FaultKind.RESPONSE_LOST)),
                Answer(503, {}, b"<html>proxy error</html>"),
                Answer(422, {}, b'{"message": "rejected"}'),
                Answer(200, {}, b'{"truncated'),
            )
        )

    def _prepare(self, account: str) -> Answer:
        upload = ScriptedUpload(f"upload-{len(self._uploads) + 1}", account)
        self._uploads[upload.id] = upload
        self._story.tell(account, f"prepares {upload.id}")
        url = f"https://uploads.test/{upload.id}"
        return _render({"asset_id": upload.id, "signed_id": upload.id, "upload_url": url, "headers": {}})

    def _receive(self, upload_id: str, call: Call) -> Answer:
        assert isinstance(call.body, bytes)
        self._uploads[upload_id].digest = compute_digest(call.body)
        return Answer(200, {}, b"")

    def _confirm(self, upload_id: str) -> Answer:
        upload = self._uploads[upload_id]
        if upload.digest is None:
            return Answer(422, {}, b'{"message": "nothing was uploaded"}')
        upload.is_confirmed = True
        return _render({"id": upload.id, "url": f"https://inputs.test/{upload.id}.png"})


@lru_cache(maxsize=64)
def compute_digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _render(body: object) -> Answer:
    return Answer(201, {"content-type": "application/json"}, msgspec.json.encode(body))
