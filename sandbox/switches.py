"""Switches for behaviour that the vendors' pages leave open or describe differently.

Every default is the behaviour with the best evidence; `POST /_/switches` changes one while the sandbox runs.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct


class RunflowSwitches(Struct, forbid_unknown_fields=True, kw_only=True):
    num_images_max: Literal[4, 10] = 4
    price: Literal["by_quality", "flat", "headline"] = "by_quality"
    concurrency: Annotated[int, Meta(ge=1, le=10_000)] = 1_000
    sizes_in_output: bool = False
    invalid_input_response: Literal["refused", "failed_run"] = "refused"
    no_credit_code: Literal["INSUFFICIENT_CREDIT", "INSUFFICIENT_CREDITS"] = "INSUFFICIENT_CREDIT"
    error_body: Literal["flat", "nested", "detail"] = "flat"
    rate_limit_headers: bool = False
    canceled: Literal["canceled", "cancelled"] = "canceled"
    partial_status: Literal["partial_succeeded", "succeeded"] = "partial_succeeded"
    callback_retries: Literal["5xx", "any"] = "any"
    callback_failure_output: Literal["null", "error"] = "null"
    run_route: bool = True
    providerless_route: bool = False
    sync_mode: bool = True
    balance_body: Literal["balance", "balance_cents"] = "balance"
    cursors: Literal["first", "next_pq"] = "first"
    accepts_any_key: bool = False
    link_seconds: Annotated[float, Meta(gt=0)] = 86_400.0


class RunapiSwitches(Struct, forbid_unknown_fields=True, kw_only=True):
    forbidden_ratio_response: Literal["refused", "failed_task"] = "refused"
    unknown_fields: Literal["ignored", "refused"] = "ignored"
    create_status: Literal["pending", "processing"] = "processing"
    create_code: Literal[200, 201, 202] = 200
    edit_price: Literal["by_resolution", "flat"] = "by_resolution"
    legacy_billing: Literal["absent", "also", "only"] = "absent"
    error_body: Literal["plain", "nested", "top_level_code"] = "plain"
    content_refusal: Literal["failed_task", "refused"] = "failed_task"
    replay_compares: Literal["input", "bytes"] = "input"
    replay_answer: Literal["ticket", "task"] = "ticket"
    data_uri_sources: bool = True
    poll_retry_after: Annotated[float, Meta(ge=0)] | None = None
    concurrency: Annotated[int, Meta(ge=1, le=10_000)] = 1_000
    upload_seconds: Annotated[float, Meta(gt=0)] = 3_600.0
    link_seconds: Annotated[float, Meta(gt=0)] = 604_800.0


class OpenaiSwitches(Struct, forbid_unknown_fields=True, kw_only=True):
    image_format: Literal["b64_json", "url"] = "b64_json"
    usage: bool = True
    concurrency: Annotated[int, Meta(ge=1, le=10_000)] = 1_000
    link_seconds: Annotated[float, Meta(gt=0)] = 3_600.0


class Switches(Struct, kw_only=True):
    """`callback_delay_factor` multiplies the vendors' delays between callback attempts, to shorten tests."""

    runflow: RunflowSwitches
    runapi: RunapiSwitches
    openai: OpenaiSwitches
    callback_delay_factor: Annotated[float, Meta(ge=0, le=1)] = 1.0


def default_switches() -> Switches:
    return Switches(runflow=RunflowSwitches(), runapi=RunapiSwitches(), openai=OpenaiSwitches())


def merge_switches(switches: Switches, changes: dict[str, Any]) -> Switches:
    """Returns the switches with changes such as {"runflow": {"num_images_max": 10}}; raises msgspec.ValidationError."""
    merged = msgspec.to_builtins(switches)
    for name, value in changes.items():
        known = merged.get(name)
        merged[name] = {**known, **value} if isinstance(known, dict) and isinstance(value, dict) else value
    unknown = merged.keys() - {"runflow", "runapi", "openai", "callback_delay_factor"}
    if unknown:
        raise msgspec.ValidationError(f"unknown vendor: {', '.join(sorted(unknown))}")
    return msgspec.convert(merged, Switches)
