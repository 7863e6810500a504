"""Runflow's runs: status, output, cost, and their JSON."""

import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sandbox import image_renderer
from sandbox.charges import format_usd
from sandbox.fault_injection import InjectedFault
from sandbox.order_simulator import Phase, SimulatedOrder, SimulatedOutcome
from sandbox.runflow.delivery_records import DeliveryRecord
from sandbox.runflow.http_helpers import format_timestamp, generate_uuid7
from sandbox.state import SandboxState
from sandbox.vendors import Vendor

ORG_ID = "0198a3f0-5d1c-7c44-9a51-3d2f6f1f0a01"
MODEL_IDS = {
    "openai/gpt-image-2": "0199c1d2-11aa-7e0b-8f10-6c2b7c1f0a02",
    "openai/gpt-image-2/edit": "0199c1d2-22bb-7e0b-8f10-6c2b7c1f0a03",
}


@dataclass(slots=True, eq=False)
class RunflowRun:
    """A run: its order, and the request that created it."""

    order: SimulatedOrder
    model: str
    input: dict[str, Any]
    request: dict[str, Any]
    sandbox: SandboxState
    request_id: str = field(default_factory=generate_uuid7)
    deliveries: list[DeliveryRecord] = field(default_factory=list)
    is_inline_output_taken: bool = False

    def get_status(self) -> str:
        switches = self.sandbox.switches.runflow
        statuses = {
            SimulatedOutcome.SUCCEEDED: "succeeded",
            SimulatedOutcome.PARTIAL: switches.partial_status,
            SimulatedOutcome.FAILED: "failed",
            SimulatedOutcome.CANCELLED: switches.canceled,
        }
        phase = self.order.get_phase(time.time())
        return statuses[self.order.outcome] if phase is Phase.FINISHED else str(phase)

    def get_duration_ms(self) -> int | None:
        return round((self.order.ends_at - self.order.starts_at) * 1_000) if self.order.is_settled else None


async def build_output(run: RunflowRun) -> dict[str, Any] | None:
    """Builds the output: null until success. URLs are newly signed on every read."""
    if not run.order.has_succeeded(time.time()):
        return None
    is_inline = run.sandbox.switches.runflow.sync_mode and run.input.get("sync_mode") is True
    is_empty = InjectedFault.EMPTY_OUTPUTS in run.order.fault_rules
    outputs = (
        [] if is_empty else [await _serialize_image(run, number, is_inline) for number in range(len(run.order.images))]
    )
    return {"outputs": outputs, "seed": None, "timing": None, "nsfw_detected": None}


async def _read_output(run: RunflowRun) -> dict[str, Any] | None:
    """Reads the output. Inline output is available once: the first read after the end removes it."""
    if run.is_inline_output_taken:
        return None
    output = await build_output(run)
    is_inline = run.sandbox.switches.runflow.sync_mode and run.input.get("sync_mode") is True
    run.is_inline_output_taken = is_inline and output is not None
    return output


async def _serialize_image(run: RunflowRun, number: int, is_inline: bool) -> dict[str, Any]:
    image = run.order.images[number]
    switches = run.sandbox.switches.runflow
    if is_inline:
        url = image_renderer.encode_data_uri(await run.sandbox.file_store.render_image(image), image.format)
    else:
        ttl_seconds = -1.0 if InjectedFault.EXPIRED_URL in run.order.fault_rules else switches.link_seconds
        url = run.sandbox.file_store.make_image_url(
            Vendor.RUNFLOW, f"{run.order.id}-{number}", image.format, ttl_seconds
        )
    entry = {"type": "image", "url": url}
    return entry | {"width": image.width, "height": image.height} if switches.sizes_in_output else entry


async def encode_run(run: RunflowRun, *, is_new: bool = False) -> bytes:
    """Encodes a run. Right after its creation the status is `queued`."""
    order = run.order
    is_finished = order.is_settled and not is_new
    has_failed = is_finished and order.outcome is SimulatedOutcome.FAILED
    fields: dict[str, Any] = {
        "id": order.id,
        "flow_id": None,
        "model_id": MODEL_IDS[run.model],
        "comfyui_workflow_id": None,
        "target_type": "model",
        "target_version": None,
        "org_id": ORG_ID,
        "status_code": "queued" if is_new else run.get_status(),
        "source_code": "api",
        "input": run.input,
        "output": None if is_new else await _read_output(run),
        "context": None,
        "duration_ms": run.get_duration_ms() if is_finished else None,
        "cost": _format_cost(order) if is_finished else None,
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
        "created_at": format_timestamp(order.created_at),
        "started_at": format_timestamp(order.starts_at) if not is_new and time.time() >= order.starts_at else None,
        "completed_at": format_timestamp(order.ends_at) if is_finished else None,
        "callback_url": run.request.get("callback_url"),
        "metadata": run.request.get("metadata"),
        "has_logs": False,
        "has_node_runs": False,
        "links": None,
        "failure_code": order.failure[0] if has_failed else None,
        "failure_message": order.failure[1] if has_failed else None,
        "failure_stage_code": _get_failure_stage(order) if has_failed else None,
        "node_runs": [],
    }
    return msgspec.json.encode(fields)


def _format_cost(order: SimulatedOrder) -> str | None:
    """Formats the cost as decimal text; None for failed runs, which are not billed."""
    return format_usd(order.charged_micros) if order.charged_micros else None


def _get_failure_stage(order: SimulatedOrder) -> str:
    return "preprocess" if order.failure[0] == "INPUT_VALIDATION_FAILED" else "dispatch"


def replace_data_uris(fields: dict[str, Any]) -> dict[str, Any]:
    """Replaces data URIs by references, since Runflow stores them as assets."""

    def replace_value(value: Any) -> Any:
        return "runflow://assets/inline" if isinstance(value, str) and value.startswith("data:") else value

    return {
        name: [replace_value(item) for item in value] if isinstance(value, list) else replace_value(value)
        for name, value in fields.items()
    }
