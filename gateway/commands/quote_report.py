"""Fetches the quote of a request from a running gateway, and prints it."""

import base64
import struct
import zlib
from typing import Any

import click
import httpx
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.text import Text

from gateway.commands.gateway_api_client import fetch_from_gateway, parse_report
from gateway.commands.plan_tables import format_split, print_rows
from gateway.money import format_usd

INPUT_EDGE_PIXELS = 1024
# The options that --live replaces, each with the reason.
LOCAL_OPTIONS = {"team": "--team: the key decides the team", "record": "--record: it needs no gateway"}
QUOTE_COLUMNS = ("", "seller", "quote", "per image", "ceiling", "orders", "p50", "p90", "fidelity")


class QuotedSeller(Struct, frozen=True, kw_only=True):
    """A seller that can fulfil the request."""

    seller: str
    price: float
    price_per_image: float
    ceiling: float
    orders: int
    p50: float
    p90: float
    measured: bool
    fidelity: str
    reasons: tuple[str, ...]


class ExcludedSellerReport(Struct, frozen=True, kw_only=True):
    seller: str
    reasons: tuple[str, ...]


class QuoteReport(Struct, frozen=True, kw_only=True):
    """The response of `POST /v1/quotes`, as far as it is printed."""

    policy: str
    rule: str | None
    config: str
    ranked: tuple[QuotedSeller, ...]
    excluded: tuple[ExcludedSellerReport, ...]
    warnings: tuple[str, ...]
    split: tuple[int, ...] = ()


def explain_live(options: dict[str, Any], wants_json: bool) -> None:
    """Prints the gateway's quote. Exits with 3 if no seller can fulfil the request."""
    for name, reason in LOCAL_OPTIONS.items():
        if options[name] is not None:
            raise click.UsageError(f"--live cannot be combined with {reason}")
    body = build_quote_body(options)
    print_quote_response(fetch_from_gateway(options["live"], options["key"], "/quotes", body=body), wants_json)


def print_quote_response(response: httpx.Response, wants_json: bool) -> None:
    """Prints the quote. Exits with 3 if no seller can fulfil the request."""
    report = parse_report(response, QuoteReport, "quote")
    if wants_json:
        click.echo(msgspec.json.format(response.content, indent=2).decode())
    else:
        print_quote(Console(), report)
    raise SystemExit(0 if report.ranked else 3)


def build_quote_body(options: dict[str, Any]) -> dict[str, Any]:
    """Builds the request. Prices need input images and a prompt: empty images stand for those of an edit."""
    limits = {name: options[name] for name in ("max_price", "max_cost")}
    body = {
        **{name: options[name] for name in ("operation", "model", "size", "resolution", "aspect_ratio", "quality")},
        **{name: None if amount is None else format_usd(amount) for name, amount in limits.items()},
        **{name: options[name] for name in ("output_format", "max_seconds", "policy", "metadata")},
        "prompt": options["prompt"] or "?",
        "n": options["images"],
        "provider": {"only": options["only"] or None, "ignore": options["ignore"]},
    }
    if options["operation"] == "edit" or options["inputs"] or options["mask"]:
        image = {"b64_json": _encode_blank_png()}
        body["image"] = [image] * (options["inputs"] or 1)
        body["mask"] = image if options["mask"] else None
    return {name: value for name, value in body.items() if value is not None}


def _encode_blank_png() -> str:
    """Makes a transparent PNG, which can also be a mask."""
    header = struct.pack(">IIBBBBB", INPUT_EDGE_PIXELS, INPUT_EDGE_PIXELS, 8, 4, 0, 0, 0)
    rows = bytes(INPUT_EDGE_PIXELS * (1 + 2 * INPUT_EDGE_PIXELS))
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    data = b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + data).decode()


def print_quote(console: Console, report: QuoteReport) -> None:
    rule = report.rule or "chosen by name"
    console.print(Text.assemble("policy ", (report.policy, "bold"), f" ({rule}), config {report.config}"))
    if not report.ranked:
        console.print(Text("no seller can fulfil this request", style="bold red"))
    if report.ranked:
        print_rows(
            console, QUOTE_COLUMNS, [_to_row(position, quoted) for position, quoted in enumerate(report.ranked, 1)]
        )
    if report.split:
        console.print(Text(format_split([quoted.seller for quoted in report.ranked], report.split)))
    if not all(quoted.measured for quoted in report.ranked):
        console.print(Text("~ expected by the configuration, not measured", style="dim"))
    for position, quoted in enumerate(report.ranked, 1):
        console.print(Text(f"{position} {quoted.seller}: {'; '.join(quoted.reasons)}"))
    for excluded in report.excluded:
        console.print(Text(f"out {excluded.seller}: {'; '.join(excluded.reasons)}", style="yellow"))
    for warning in report.warnings:
        console.print(Text(warning, style="yellow"))


def _to_row(position: int, quoted: QuotedSeller) -> tuple[str, ...]:
    prefix = "" if quoted.measured else "~"
    prices = (f"${amount:g}" for amount in (quoted.price, quoted.price_per_image, quoted.ceiling))
    seconds = (f"{prefix}{seconds:g} s" for seconds in (quoted.p50, quoted.p90))
    return (str(position), quoted.seller, *prices, str(quoted.orders), *seconds, quoted.fidelity)
