"""The command: loads settings and configuration, runs the checks, and prints what they found."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
from msgspec.structs import replace
from rich.console import Console

from gateway.commands.config_helpers import CONFIG_HELP
from gateway.commands.doctor.blocking_calls import call_in_thread
from gateway.commands.doctor.check_runner import report_timeout, run_checks
from gateway.commands.doctor.configuration_checks import report_configuration, report_settings
from gateway.commands.doctor.doctor_context import DoctorContext, get_local_url
from gateway.commands.doctor.doctor_finding import (
    DoctorFinding,
    Status,
    findings_to_json,
    redact_findings,
    summarize_findings,
)
from gateway.commands.doctor.finding_output import print_findings
from gateway.commands.option_types import GatewayUrlType
from gateway.config.catalogue_builder import ResolvedConfig, resolve_files, secrets_from_env
from gateway.config.loader import load
from gateway.settings import Settings, SettingsError, load_settings
from providers import ADAPTERS


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help=CONFIG_HELP)
@click.option("--data", type=click.Path(path_type=Path), help="Folder for SQLite and images.")
@click.option("--url", type=GatewayUrlType(), help="The running gateway.  [default: by IGW_HOST and IGW_PORT]")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1, max=600),
    default=10.0,
    show_default=True,
    help="Seconds for each check; they run at the same time.",
)
@click.option("--json", "wants_json", is_flag=True, help="Print the findings as JSON.")
def doctor(url: str | None, timeout: float, wants_json: bool, **overrides: Any) -> None:
    """Check this installation, and say what to change.

    Run it with the environment and as the user of `serve`, before the gateway starts or while it runs. It checks the
    settings, the configuration, secrets, the store, the image storage, the accounts at sellers, the running gateway
    and its public URL, whether Prometheus reads its metrics, limits of the process and the clock. It orders nothing,
    changes nothing, and shows no secret.

    The exit code is 1 if a check failed; warnings leave it at 0.
    """
    try:
        settings = load_settings(os.environ, **overrides)
    except SettingsError as error:
        show_findings(report_settings(str(error).splitlines()), wants_json)
        raise SystemExit(1) from None
    gateway_url = (url or get_local_url(settings)).rstrip("/").removesuffix("/v1")
    with asyncio.Runner() as runner:
        findings = runner.run(examine_installation(settings, gateway_url, timeout))
        show_findings(findings, wants_json)
        exit_with_status(findings)


async def examine_installation(settings: Settings, gateway_url: str, timeout_seconds: float) -> list[DoctorFinding]:
    """Loads the configuration and runs all checks. The findings contain no secret."""
    loading = call_in_thread(lambda: load_installation(settings, gateway_url, timeout_seconds))
    try:
        context, resolved = await asyncio.wait_for(loading, timeout_seconds)
    except TimeoutError:
        return [report_timeout("configuration", timeout_seconds)]
    findings = [*report_configuration(resolved, settings.config), *await run_checks(context)]
    return redact_findings(findings, context.known_secrets)


def load_installation(
    settings: Settings, gateway_url: str, timeout_seconds: float
) -> tuple[DoctorContext, ResolvedConfig]:
    loaded = load(settings.config)
    resolved = resolve_files(loaded, secrets_from_env(os.environ), ADAPTERS)
    context = DoctorContext(
        settings=settings,
        config=loaded.config,
        catalogue=resolved.catalogue,
        gateway_url=gateway_url,
        timeout_seconds=timeout_seconds,
        environ=os.environ,
    )
    return replace(context, known_secrets=frozenset(context.iterate_secrets())), resolved


def exit_with_status(findings: list[DoctorFinding]) -> NoReturn:
    """Ends the process at once. Threads may still run: one that never returns, for which Python would wait, or those of
    the object storage's library, which can abort the process while Python shuts down."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if summarize_findings(findings) is Status.FAILED else 0)


def show_findings(findings: list[DoctorFinding], wants_json: bool) -> None:
    if wants_json:
        return click.echo(findings_to_json(findings))
    print_findings(Console(), findings)
