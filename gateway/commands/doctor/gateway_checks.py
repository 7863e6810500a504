"""Checks a gateway that runs: it is ready, reachable at its public URL, and scraped by Prometheus."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import httpx
from msgspec import Struct

from gateway.commands.doctor.doctor_context import DoctorContext
from gateway.commands.doctor.doctor_finding import DoctorFinding, Status
from gateway.engine.callback_urls import CALLBACKS_PATH
from gateway.settings import Settings

# Prometheus scrapes each 15 to 60 s.
MAX_SCRAPE_AGE_SECONDS = 300.0
START_REMEDY = "Start it and run doctor again, or name another address with --url."
UNREACHABLE_REMEDY = "Check the proxy or load balancer and its certificate, name resolution and firewall."
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
Json = dict[str, Any]


class GatewayAddress(Struct, frozen=True):
    """A URL at which others reach the gateway. A GET of `path` there gets an error with this code, which shows that
    requests arrive."""

    check: str
    variable: str
    url: str | None
    path: str
    code: str


async def check_gateway(context: DoctorContext) -> list[DoctorFinding]:
    """Checks the gateway on this machine, and that its public URLs lead to one.

    If none runs here, an unreachable URL proves nothing.
    """
    addresses = [(address, url) for address in _list_addresses(context.settings) if (url := address.url)]
    local, public = await asyncio.gather(
        _check_local_gateway(context),
        asyncio.gather(*(_check_address(context, address, url) for address, url in addresses)),
    )
    is_running = any(finding.status is not Status.SKIPPED for finding in local)
    missing = [_report_missing_url(context.settings)] if context.settings.public_url is None else []
    return [*local, *missing, *(finding if is_running else _skip_failure(finding) for finding in public)]


def _list_addresses(settings: Settings) -> list[GatewayAddress]:
    """Lists the URLs of clients and of sellers, which may reach no other paths than those of callbacks."""
    callback_path = f"{CALLBACKS_PATH}/doctor/check/1/check"
    return [
        GatewayAddress("public url", "IGW_PUBLIC_URL", settings.public_url, "/v1/models", "missing_api_key"),
        GatewayAddress("callback url", "IGW_CALLBACK_URL", settings.callback_url, callback_path, "method_not_allowed"),
    ]


def _report_missing_url(settings: Settings) -> DoctorFinding:
    message = "IGW_PUBLIC_URL is not set: links to images have the local address"
    message += "." if settings.callback_url else ", and sellers send no callbacks."
    remedy = "Set it to the URL at which clients reach the gateway, such as https://images.example.com."
    return DoctorFinding("public url", Status.WARNING, message, remedy)


def _skip_failure(finding: DoctorFinding) -> DoctorFinding:
    if finding.status is not Status.FAILED:
        return finding
    return DoctorFinding(finding.check, Status.SKIPPED, finding.message, START_REMEDY)


async def _check_local_gateway(context: DoctorContext) -> list[DoctorFinding]:
    try:
        readiness = _parse_object(await _fetch(context, f"{context.gateway_url}/readyz"))
    except httpx.TransportError as error:
        message = f"No gateway answers at {context.gateway_url} ({type(error).__name__})"
        return [DoctorFinding(name, Status.SKIPPED, message, START_REMEDY) for name in ("gateway", "prometheus")]
    if readiness is None or not isinstance(readiness.get("config"), dict):
        message = f"{context.gateway_url} answers, but is not an image-gateway of this version."
        remedy = "Name the gateway with --url, or choose another port with IGW_PORT."
        return [DoctorFinding("gateway", Status.FAILED, message, remedy)]
    return [*_report_readiness(context, readiness), _report_scrapes(context, readiness)]


def _report_readiness(context: DoctorContext, readiness: Json) -> list[DoctorFinding]:
    findings = []
    if not readiness["ready"]:
        message = f"{context.gateway_url} accepts no jobs: {_explain_readiness(readiness)}."
        findings.append(
            DoctorFinding("gateway", Status.FAILED, message, "See docs/operations.md, and the lines of its log.")
        )
    in_force = readiness["config"].get("in_force")
    if context.catalogue is not None and in_force != context.catalogue.hash:
        message = f"The gateway uses configuration {in_force}, and the files here are {context.catalogue.hash}."
        remedy = "Send it a SIGHUP, or set IGW_CONFIG to its folder."
        findings.append(DoctorFinding("gateway", Status.WARNING, message, remedy))
    for name, task in readiness.get("tasks", {}).get("down", {}).items():
        message = f"The task {name} is down for {task['seconds']} s: {task['error']}."
        findings.append(
            DoctorFinding("gateway", Status.WARNING, message, "It restarts by itself. See docs/operations.md.")
        )
    return findings or [
        DoctorFinding("gateway", Status.OK, f"{context.gateway_url} is ready, {readiness['jobs']} jobs")
    ]


def _explain_readiness(readiness: Json) -> str:
    reasons = {
        "it is shutting down": readiness["draining"],
        "its store takes no writes": not readiness["store"]["takes_writes"],
        str(readiness["storage"]["problem"]): not readiness["storage"]["takes_images"],
    }
    return ", ".join(reason for reason, applies in reasons.items() if applies)


def _report_scrapes(context: DoctorContext, readiness: Json) -> DoctorFinding:
    age = readiness.get("metrics", {}).get("seconds_since_scrape")
    remedy = f"Let Prometheus scrape {context.gateway_url}/metrics: each replica is a target of its own."
    if age is None:
        return DoctorFinding(
            "prometheus", Status.WARNING, "Nothing has read /metrics since the gateway started.", remedy
        )
    if age > MAX_SCRAPE_AGE_SECONDS:
        return DoctorFinding("prometheus", Status.WARNING, f"/metrics was last read {age:,.0f} s ago.", remedy)
    return DoctorFinding("prometheus", Status.OK, f"/metrics was read {age:.0f} s ago")


async def _check_address(context: DoctorContext, address: GatewayAddress, url: str) -> DoctorFinding:
    """Calls the gateway at this URL, as clients and sellers do."""
    check = address.check
    try:
        response = await _fetch(context, url + address.path)
    except httpx.TransportError as error:
        message = f"{url} cannot be reached ({type(error).__name__}: {error})."
        return DoctorFinding(check, Status.FAILED, message, UNREACHABLE_REMEDY)
    if response.next_request is not None:
        target = str(response.next_request.url).removesuffix(address.path)
        remedy = f"Set {address.variable} to that URL: callbacks of sellers do not follow redirects."
        return DoctorFinding(check, Status.FAILED, f"{url} redirects to {target}.", remedy)
    if _get_error_code(_parse_object(response)) != address.code:
        message = f"Another server than an image-gateway answers at {url}."
        return DoctorFinding(check, Status.FAILED, message, f"Correct {address.variable}, or the proxy's routes.")
    if url.startswith("http:") and urlsplit(url).hostname not in LOOPBACK_HOSTS:
        message = f"{url} is not encrypted: API keys and images can be read on the way."
        return DoctorFinding(check, Status.WARNING, message, "Use a proxy with TLS, and its https:// URL.")
    return DoctorFinding(check, Status.OK, f"{url} leads to a gateway")


async def _fetch(context: DoctorContext, url: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=context.request_timeout_seconds, trust_env=False) as client:
        return await client.get(url, headers={"user-agent": "image-gateway-doctor"})


def _parse_object(response: httpx.Response) -> Json | None:
    """Returns the object of a response, whatever its status; None if it is something else."""
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _get_error_code(body: Json | None) -> object:
    error = (body or {}).get("error")
    return error.get("code") if isinstance(error, dict) else None
