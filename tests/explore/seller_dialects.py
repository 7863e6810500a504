"""The wire formats of the scripted sellers: what the real adapters send, and what they read."""

import base64
import hashlib
import hmac
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import msgspec
from msgspec import Struct, field

from gateway.money import format_usd
from providers.adapter import Answer, Call
from tests.explore.scripted_uploads import compute_digest
from tests.explore.seller_scripts import OrderScript, QueryFault, ScriptedOutcome
from tests.harness.signed_callbacks import sign_runapi_callback

CALLBACK_SECRET = "d2hzZWNfZXhwbG9yZXI="  # base64, as RunAPI displays it
WIDTH, HEIGHT = 1024, 1024
INPUT_TOKENS, INPUT_IMAGE_TOKENS, OUTPUT_TOKENS = 10, 100, 195


class OrderCall(Struct, frozen=True):
    """An order as it arrives. `sources`: its input images, as URLs or as digests of their bytes; the mask last."""

    reference: str
    image_count: int
    callback_url: str | None
    sources: tuple[str, ...] = ()


class SellerOrder(Struct):
    """An order that a seller has accepted. `price`: of each image, in micro-USD.

    `input_digests`: of the input images that it was made from; None: the seller could not read one. `queries`: the
    times and the faults of the polls and searches that arrived; `downloads`: those of its images.
    """

    id: str
    account: str
    call: OrderCall
    price: int
    base_price: int
    script: OrderScript
    ends_at: float
    input_digests: tuple[str | None, ...] = ()
    queries: list[tuple[float, QueryFault]] = field(default_factory=list)
    downloads: list[tuple[float, QueryFault]] = field(default_factory=list)

    @property
    def image_count(self) -> int:
        """How many images the order makes."""
        match self.script.outcome:
            case ScriptedOutcome.SUCCEED:
                return self.call.image_count
            case ScriptedOutcome.MAKE_FEWER:
                return max(1, self.call.image_count - 1)
            case _:
                return 0

    @property
    def charge(self) -> int:
        """The amount that the seller charges in the end. A success without images is charged, a failure is not."""
        charged_count = self.call.image_count if self.script.outcome is ScriptedOutcome.MAKE_NONE else self.image_count
        return self.price * charged_count + self.base_price * bool(charged_count) + self.surcharge

    @property
    def surcharge(self) -> int:
        """The part of the charge that is beyond the price."""
        return self.price * self.image_count * self.script.surcharge // 100

    @property
    def file_urls(self) -> list[str]:
        return [f"https://files.test/{self.id}/{index}.png" for index in range(self.image_count)]

    @property
    def reported_cost(self) -> str | None:
        return format_usd(self.charge) if self.script.reports_cost else None


class SellerDialect(Struct, frozen=True, kw_only=True):
    """One wire format. `order_path`: of calls that order; `query_path`: of calls that name an order."""

    order_path: "re.Pattern[str]"
    query_path: "re.Pattern[str] | None"
    read_order: Callable[[Call], OrderCall]
    render_accepted: Callable[[SellerOrder], Any]
    render_status: Callable[[SellerOrder, bool], Any]
    render_error: Callable[[int, bool], Any]
    build_callback: Callable[[SellerOrder, str, float], tuple[dict[str, str], bytes]] | None = None
    search_path: "re.Pattern[str] | None" = None
    price: int
    base_price: int = 0
    input_price: int = 0
    is_synchronous: bool = False


def render_json(status: int, body: Any, **headers: str) -> Answer:
    return Answer(status, {"content-type": "application/json", **headers}, msgspec.json.encode(body))


# --- Runflow


def _read_run(call: Call) -> OrderCall:
    body = msgspec.json.decode(call.body)
    sources = _list_sources(body["input"])
    return OrderCall(body["client_ref"], body["input"]["num_images"], body.get("callback_url"), sources)


def _read_synchronous_run(call: Call) -> OrderCall:
    body = msgspec.json.decode(call.body)
    return OrderCall(call.headers["idempotency-key"], body["num_images"], None, _list_sources(body))


def _list_sources(fields: dict[str, Any]) -> tuple[str, ...]:
    mask = fields.get("mask_url")
    return (*fields.get("image_urls", ()), *([mask] if mask else ()))


def _render_new_run(order: SellerOrder) -> Any:
    return {"id": order.id, "status_code": "queued", "client_ref": order.call.reference}


def _render_run(order: SellerOrder, has_ended: bool) -> Any:
    run = {"id": order.id, "client_ref": order.call.reference, "status_code": "running"}
    if not has_ended:
        return run
    if order.script.outcome in (ScriptedOutcome.FAIL, ScriptedOutcome.REFUSE_CONTENT):
        code = "moderation_blocked" if order.script.outcome is ScriptedOutcome.REFUSE_CONTENT else "PROVIDER_ERROR"
        return run | {"status_code": "failed", "failure_code": code, "failure_message": "It failed."}
    outputs = [{"type": "image", "url": url} for url in order.file_urls]
    return run | {"status_code": "succeeded", "cost": order.reported_cost, "output": {"outputs": outputs}}


def _render_synchronous_run(order: SellerOrder, has_ended: bool) -> Any:
    return {"images": [{"url": url} for url in order.file_urls], "cost": order.reported_cost}


def _render_runflow_error(status: int, is_content: bool) -> Any:
    code = "moderation_blocked" if is_content else "MODEL_UNAVAILABLE" if status == 503 else None
    return {"code": code, "message": "The safety system refused it." if is_content else "Rejected."}


def _build_runflow_callback(order: SellerOrder, order_id: str, now: float) -> tuple[dict[str, str], bytes]:
    body = msgspec.json.encode({"event": "run.completed", "run_id": order_id})
    signature = hmac.new(CALLBACK_SECRET.encode(), body, hashlib.sha256).hexdigest()
    return {"runflow-signature": signature}, body


# --- RunAPI


def _read_task(call: Call) -> OrderCall:
    body = msgspec.json.decode(call.body)
    sources = tuple(body.get("source_image_urls", ()))
    return OrderCall(call.headers["idempotency-key"], 1, body.get("callback_url"), sources)


def _render_task(order: SellerOrder, has_ended: bool) -> Any:
    task: dict[str, Any] = {"id": order.id, "status": "processing"}
    if not has_ended:
        return task
    if order.script.outcome in (ScriptedOutcome.FAIL, ScriptedOutcome.REFUSE_CONTENT):
        is_content = order.script.outcome is ScriptedOutcome.REFUSE_CONTENT
        return task | {"status": "failed", "error": "rejected by the safety system" if is_content else "It failed."}
    usage = {"usage": {"cost": order.reported_cost}} if order.script.reports_cost else {}
    return task | {"status": "completed", "images": [{"url": url} for url in order.file_urls], **usage}


def _render_runapi_error(status: int, is_content: bool) -> Any:
    if is_content:
        return {"error": "rejected by the safety system"}
    return {"error": "no active channel available" if status == 503 else "rejected"}


def _build_runapi_callback(order: SellerOrder, order_id: str, now: float) -> tuple[dict[str, str], bytes]:
    body = msgspec.json.encode({"id": order_id, "status": "completed"})
    return sign_runapi_callback(body, f"msg_{order.id}", CALLBACK_SECRET, now), body


# --- OpenAI


def _read_generation(call: Call) -> OrderCall:
    reference = call.headers["x-client-request-id"]
    if isinstance(call.body, bytes):
        return OrderCall(reference, msgspec.json.decode(call.body)["n"], None)
    image_count = next(int(part.data) for part in call.body if part.field == "n")
    return OrderCall(
        reference, image_count, None, tuple(compute_digest(part.data) for part in call.body if part.filename)
    )


def _render_generation(order: SellerOrder, has_ended: bool) -> Any:
    images = [{"b64_json": base64.b64encode(render_image(url)).decode()} for url in order.file_urls]
    image_tokens = INPUT_IMAGE_TOKENS * len(order.call.sources)
    usage: dict[str, Any] = {
        "input_tokens_details": {
            "text_tokens": INPUT_TOKENS,
            "image_tokens": image_tokens,
        },
        "output_tokens": OUTPUT_TOKENS * (order.image_count or order.call.image_count),
    }
    return {"data": images, "usage": usage | ({"cost": order.reported_cost} if order.script.reports_cost else {})}


def _render_openai_error(status: int, is_content: bool) -> Any:
    code = "moderation_blocked" if is_content else "upstream_unavailable" if status == 503 else None
    return {"error": {"code": code, "message": "The safety system refused it." if is_content else "Rejected."}}


DIALECTS = {
    "runflow_runs": SellerDialect(
        order_path=re.compile(r"/v1/models/.+/runs"),
        query_path=re.compile(r"/v1/runs/([\w-]+)"),
        search_path=re.compile(r"/v1/runs\?q=client_ref\S*?([\w]+-\d+)'?&limit=10"),
        read_order=_read_run,
        render_accepted=_render_new_run,
        render_status=_render_run,
        render_error=_render_runflow_error,
        build_callback=_build_runflow_callback,
        price=9_000,
    ),
    "runflow_run": SellerDialect(
        order_path=re.compile(r"/v1/run/.+"),
        query_path=re.compile(r"/v1/runs/([\w-]+)"),
        read_order=_read_synchronous_run,
        render_accepted=_render_new_run,
        render_status=_render_synchronous_run,
        render_error=_render_runflow_error,
        price=9_000,
        is_synchronous=True,
    ),
    "runapi": SellerDialect(
        order_path=re.compile(r"/api/v1/gpt_image_2/(?:text_to_image|edit_image)"),
        query_path=re.compile(r"/api/v1/gpt_image_2/(?:text_to_image|edit_image)/([\w-]+)"),
        read_order=_read_task,
        render_accepted=lambda order: {"id": order.id, "status": "processing"},
        render_status=_render_task,
        render_error=_render_runapi_error,
        build_callback=_build_runapi_callback,
        price=60_000,
    ),
    "openai": SellerDialect(
        order_path=re.compile(r"/images/(?:generations|edits)"),
        query_path=None,
        read_order=_read_generation,
        render_accepted=lambda order: {},
        render_status=_render_generation,
        render_error=_render_openai_error,
        price=OUTPUT_TOKENS * 30,
        base_price=INPUT_TOKENS * 5,
        input_price=INPUT_IMAGE_TOKENS * 8,
        is_synchronous=True,
    ),
}


def find_order_id(pattern: "re.Pattern[str] | None", location: str) -> str | None:
    match = pattern.fullmatch(unquote(location)) if pattern else None
    return match[1] if match else None


def render_image(url: str) -> bytes:
    """Renders a black PNG that contains its own URL, so that an image shows which order made it."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 1, 0, 0, 0, 0)),
        (b"tEXt", b"Comment\0" + url.encode()),
        (b"IDAT", _PIXELS),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


_PIXELS = zlib.compress(b"\0" * ((WIDTH // 8 + 1) * HEIGHT))


def read_image_url(image: bytes) -> str:
    """Returns the URL that `render_image` wrote into the image."""
    match = re.search(rb"https://files\.test/[\w/-]+\.png", image)
    return match[0].decode() if match else ""
