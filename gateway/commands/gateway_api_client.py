"""Requests to a running gateway's API, with errors that say what to do."""

from collections.abc import Mapping
from typing import Any, TypeVar

import click
import httpx
import msgspec

TIMEOUT_SECONDS = 10.0
ReportT = TypeVar("ReportT")


def fetch_from_gateway(
    url: str,
    key: str | None,
    path: str,
    not_found_message: str | None = None,
    body: Mapping[str, Any] | None = None,
) -> httpx.Response:
    """Returns a successful response of the gateway at `url`, which may end with /v1. `path` is below /v1. Posts the
    body if there is one.

    Raises a ClickException that says what failed and what to do.
    """
    if not key:
        raise click.UsageError("--live requires a team's key: set --key or IGW_KEY")
    base = url.rstrip("/").removesuffix("/v1")
    try:
        headers = {"authorization": f"Bearer {key}"}
        method = "GET" if body is None else "POST"
        response = httpx.request(method, f"{base}/v1{path}", json=body, headers=headers, timeout=TIMEOUT_SECONDS)
    except httpx.HTTPError as error:
        message = f"{base} is unreachable ({type(error).__name__}). Is the gateway running?"
        raise click.ClickException(message) from None
    if response.status_code == 401:
        raise click.ClickException(f"{base} rejected the key. Use another with --key or IGW_KEY.")
    if response.status_code == 404 and not_found_message:
        raise click.ClickException(not_found_message)
    if response.status_code in (400, 403) and response.headers.get("content-type") == "application/problem+json":
        raise click.UsageError(str(response.json().get("detail")))
    if response.status_code != 200:
        message = f"{base} responded {response.status_code} to /v1{path}. Is it an image-gateway?"
        raise click.ClickException(message)
    return response


def parse_report(response: httpx.Response, report_type: type[ReportT], name: str) -> ReportT:
    """Parses the body of a response. `name`: what it is, for the ClickException if it is something else."""
    try:
        return msgspec.json.decode(response.content, type=report_type)
    except (msgspec.MsgspecError, ValueError):
        raise click.ClickException(f"The gateway sent an invalid {name}. Does it run this version?") from None
