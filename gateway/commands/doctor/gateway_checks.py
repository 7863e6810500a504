"""Checks a gateway that runs: it is ready, reachable at its public URL, and scraped by Prometheus."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import httpx

from gateway.commands.doctor.doctor_context import DoctorContext
from gateway.commands.doctor.doctor_finding import DoctorFinding, Status

# Prometheus scrapes each 15 to 60 s.
MAX_SCRAPE_AGE_SECONDS = 300.0
# Any route that clients use shows that requests arrive; without a key it answers so.
PROBED_PATH, EXPECTED_CODE = "/v1/models", "missing_api_key"
START_REMEDY = "Start it and run doctor again, or name another address with --url."
UNREACHABLE_REMEDY = "Check the proxy or load balancer and its certificate, name resolution and firewall."
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
Json = dict[str, Any]


async def check_gateway(context: DoctorContext) -> list[DoctorFinding]:
    """Checks the gateway on this machine, and that its public URL leads to one.

    If none runs here, an unreachable public URL proves nothing.
    """
    local, public = await asyncio.gather(_check_local_gateway(context), _check_public_url(context))
    is_running = any(finding.status is not Status.SKIPPED for finding in local)
    if public.status is Status.FAILED and not is_running:
        public = DoctorFinding("public url", Status.SKIPPED, public.message, START_REMEDY)
    return [*local, public]


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


async def _check_public_url(context: DoctorContext) -> DoctorFinding:
    """Calls the gateway at its public URL, as clients and sellers do."""
    url = context.settings.public_url
    if url is None:
        message = "IGW_PUBLIC_URL is not set: links to images have the local address, and sellers send no callbacks."
        remedy = "Set it to the URL at which clients reach the gateway, such as https://images.example.com."
        return DoctorFinding("public url", Status.WARNING, message, remedy)
    try:
        response = await _fetch(context, url + PROBED_PATH)
    except httpx.TransportError as error:
        message = f"{url} cannot be reached ({type(error).__name__}: {error})."
        return DoctorFinding("public url", Status.FAILED, message, UNREACHABLE_REMEDY)
    if response.next_request is not None:
        target = str(response.next_request.url).removesuffix(PROBED_PATH)
        remedy = "Set IGW_PUBLIC_URL to that URL: callbacks of sellers do not follow redirects."
        return DoctorFinding("public url", Status.FAILED, f"{url} redirects to {target}.", remedy)
    if _get_error_code(_parse_object(response)) != EXPECTED_CODE:
        message = f"Another server than an image-gateway answers at {url}."
        return DoctorFinding("public url", Status.FAILED, message, "Correct IGW_PUBLIC_URL, or the proxy's routes.")
    if url.startswith("http:") and urlsplit(url).hostname not in LOOPBACK_HOSTS:
        message = f"{url} is not encrypted: API keys and images can be read on the way."
        return DoctorFinding("public url", Status.WARNING, message, "Use a proxy with TLS, and its https:// URL.")
    return DoctorFinding("public url", Status.OK, f"{url} leads to a gateway")


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
