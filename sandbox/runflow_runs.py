"""A run as its owner sees it: status words, output, cost, and the whole object that the API answers with."""

import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sandbox import pictures
from sandbox.charges import dollars
from sandbox.mischief import Kind, Vendor
from sandbox.runflow_deliveries import SentCallback
from sandbox.runflow_wire import stamp, uuid7
from sandbox.shop import Order, Outcome, Phase
from sandbox.world import World

ORG_ID = "0198a3f0-5d1c-7c44-9a51-3d2f6f1f0a01"
MODEL_IDS = {
    "openai/gpt-image-2": "0199c1d2-11aa-7e0b-8f10-6c2b7c1f0a02",
    "openai/gpt-image-2/edit": "0199c1d2-22bb-7e0b-8f10-6c2b7c1f0a03",
}


@dataclass(slots=True, eq=False)
class Run:
    """An order with what its owner said beside it."""

    order: Order
    model: str
    input: dict[str, Any]
    request: dict[str, Any]
    world: World
    request_id: str = field(default_factory=uuid7)
    deliveries: list[SentCallback] = field(default_factory=list)
    inline_output_taken: bool = False

    def status(self) -> str:
        switches = self.world.switches.runflow
        words = {
            Outcome.SUCCEEDED: "succeeded",
            Outcome.PARTIAL: switches.partial_status,
            Outcome.FAILED: "failed",
            Outcome.CANCELLED: switches.canceled,
        }
        phase = self.order.phase(time.time())
        return words[self.order.outcome] if phase is Phase.OVER else str(phase)

    def duration_ms(self) -> int | None:
        return round((self.order.ends - self.order.starts) * 1_000) if self.order.settled else None


async def output(run: Run) -> dict[str, Any] | None:
    """Null until success. Links are signed afresh on every read."""
    if not run.order.succeeded(time.time()):
        return None
    inline = run.world.switches.runflow.sync_mode and run.input.get("sync_mode") is True
    empty = Kind.EMPTY_OUTPUTS in run.order.mischief
    outputs = [] if empty else [await _entry(run, number, inline) for number in range(len(run.order.pictures))]
    return {"outputs": outputs, "seed": None, "timing": None, "nsfw_detected": None}


async def _read_output(run: Run) -> dict[str, Any] | None:
    """Inline output is not kept: the first read after the end takes it. Callbacks and the flat route do not."""
    if run.inline_output_taken:
        return None
    shown = await output(run)
    sync_mode = run.world.switches.runflow.sync_mode and run.input.get("sync_mode") is True
    run.inline_output_taken = sync_mode and shown is not None
    return shown


async def _entry(run: Run, number: int, inline: bool) -> dict[str, Any]:
    picture = run.order.pictures[number]
    switches = run.world.switches.runflow
    if inline:
        url = pictures.to_data_uri(await run.world.files.draw(picture), picture.format)
    else:
        seconds = -1.0 if Kind.EXPIRED_URL in run.order.mischief else switches.link_seconds
        url = run.world.files.link(Vendor.RUNFLOW, f"{run.order.id}-{number}", picture.format, seconds)
    entry = {"type": "image", "url": url}
    return entry | {"width": picture.width, "height": picture.height} if switches.sizes_in_output else entry


async def body(run: Run, *, newly_created: bool = False) -> bytes:
    """The run object. Right after creation it is queued, however fast the work."""
    order = run.order
    over = order.settled and not newly_created
    failed = over and order.outcome is Outcome.FAILED
    fields: dict[str, Any] = {
        "id": order.id,
        "flow_id": None,
        "model_id": MODEL_IDS[run.model],
        "comfyui_workflow_id": None,
        "target_type": "model",
        "target_version": None,
        "org_id": ORG_ID,
        "status_code": "queued" if newly_created else run.status(),
        "source_code": "api",
        "input": run.input,
        "output": None if newly_created else await _read_output(run),
        "context": None,
        "duration_ms": run.duration_ms() if over else None,
        "cost": _cost(order) if over else None,
        "cost_breakdown": None,
        "nodes_total": None,
        "nodes_completed": None,
        "resolved_template_id": None,
        "batch_id": None,
        "client_ref": run.request.get("client_ref"),
        "jurisdiction_code": None,
        "flow_version_id": None,
        "request_id": run.request_id,
        "created_by": None,
        "created_at": stamp(order.created),
        "started_at": stamp(order.starts) if not newly_created and time.time() >= order.starts else None,
        "completed_at": stamp(order.ends) if over else None,
        "callback_url": run.request.get("callback_url"),
        "metadata": run.request.get("metadata"),
        "has_logs": False,
        "has_node_runs": False,
        "links": None,
        "failure_code": order.reason[0] if failed else None,
        "failure_message": order.reason[1] if failed else None,
        "failure_stage_code": _stage(order) if failed else None,
        "node_runs": [],
    }
    return msgspec.json.encode(fields)


def _cost(order: Order) -> str | None:
    """A decimal string; failed runs are not billed."""
    return dollars(order.charged) if order.charged else None


def _stage(order: Order) -> str:
    return "preprocess" if order.reason[0] == "INPUT_VALIDATION_FAILED" else "dispatch"


def stored_input(given: dict[str, Any]) -> dict[str, Any]:
    """Data URIs are stored as assets at once, so the run shows a reference instead."""

    def stored(value: Any) -> Any:
        return "runflow://assets/inline" if isinstance(value, str) and value.startswith("data:") else value

    return {
        name: [stored(one) for one in value] if isinstance(value, list) else stored(value)
        for name, value in given.items()
    }
