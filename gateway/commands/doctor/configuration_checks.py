"""Checks the settings, the configuration folder, and the secrets that both refer to."""

import os
import stat
from pathlib import Path

from gateway.commands.doctor.blocking_calls import call_in_thread
from gateway.commands.doctor.doctor_context import DoctorContext
from gateway.commands.doctor.doctor_finding import DoctorFinding, Status
from gateway.config.catalogue_builder import ResolvedConfig
from gateway.config.value_types import UNSENDABLE, SecretRef
from gateway.settings import Settings, SettingsError, load_signing_secrets

PROBLEM_REMEDY = "Change the file or set the secret, and run `image-gateway check`. A gateway does not start with this."
WARNING_REMEDY = "Set the secret, or change the file."


def report_settings(problems: list[str]) -> list[DoctorFinding]:
    """Reports the problems of environment variables and options."""
    return [DoctorFinding("settings", Status.FAILED, problem, "Change this setting.") for problem in problems]


def report_configuration(resolved: ResolvedConfig, folder: Path) -> list[DoctorFinding]:
    """Reports each problem and each warning, as `image-gateway check` does."""
    failed = [
        DoctorFinding("configuration", Status.FAILED, str(problem), PROBLEM_REMEDY) for problem in resolved.problems
    ]
    warnings = [
        DoctorFinding("configuration", Status.WARNING, str(warning), WARNING_REMEDY) for warning in resolved.warnings
    ]
    catalogue = resolved.catalogue
    if catalogue is None:
        return [*failed, *warnings]
    counts = f"models {len(catalogue.models)}, sellers {len(catalogue.sellers)}, teams {len(catalogue.teams)}"
    return [DoctorFinding("configuration", Status.OK, f"{folder}: {counts}, hash {catalogue.hash}"), *warnings]


async def check_secrets(context: DoctorContext) -> list[DoctorFinding]:
    return await call_in_thread(lambda: _check_references(context))


async def check_signing_secret(context: DoctorContext) -> list[DoctorFinding]:
    return await call_in_thread(lambda: [_check_signing_secret(context.settings)])


def _check_references(context: DoctorContext) -> list[DoctorFinding]:
    """Checks which secrets are set, which keys of sellers can be sent, and who may read the files. A configuration
    warning says what a missing one disables."""
    references = list(context.iterate_secret_refs())
    present = [reference for reference in references if reference.resolve(context.environ)]
    missing = [reference for reference in references if reference not in present]
    message = f"{len(present)} of {len(references)} secrets are set"
    if missing:
        message += f"; not set: {', '.join(missing)}"
    files = [path for reference in present if (path := _get_file(reference))]
    warnings = [warning for path in files if (warning := _check_file_mode(path))]
    return [DoctorFinding("secrets", Status.OK, message), *_report_unsendable_keys(context), *warnings]


def _report_unsendable_keys(context: DoctorContext) -> list[DoctorFinding]:
    """Reports keys of sellers that would make every request to their seller fail before it is sent."""
    accounts = context.config.accounts.accounts if context.config else {}
    keys = {name: (account.key, account.key.resolve(context.environ)) for name, account in accounts.items()}
    remedy = "Write the key alone there: one line of visible ASCII characters, without quotes."
    return [
        DoctorFinding("secrets", Status.FAILED, f"{reference}, the key of account {name}, {UNSENDABLE}.", remedy)
        for name, (reference, secret) in keys.items()
        if secret is not None and not secret.is_sendable
    ]


def _check_signing_secret(settings: Settings) -> DoctorFinding:
    """Checks the secret that signs URLs and digests keys."""
    if settings.secrets:
        rotation = ", a second one for its rotation" if len(settings.secrets) > 1 else ""
        return DoctorFinding("signing secret", Status.OK, f"IGW_SECRET is set{rotation}")
    path = settings.data / "secret"
    if not path.exists():
        return DoctorFinding("signing secret", Status.OK, f"The gateway will generate {path} when it starts")
    try:
        load_signing_secrets(settings)
    except SettingsError as error:
        return DoctorFinding("signing secret", Status.FAILED, str(error), "The gateway does not start before that.")
    warning = _check_file_mode(path, "signing secret")
    return warning or DoctorFinding("signing secret", Status.OK, f"{path} was generated. Back it up with the data")


def _get_file(reference: SecretRef) -> Path | None:
    kind, _, location = reference.partition(":")
    return Path(location) if kind == "file" else None


def _check_file_mode(path: Path, check: str = "secrets") -> DoctorFinding | None:
    """Returns a warning if other users may read the file, or change it."""
    mode = path.stat().st_mode
    if not mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        return None
    message = f"{path} has mode {stat.S_IMODE(mode):04o}: other users of this machine may read or change it."
    return DoctorFinding(check, Status.WARNING, message, f"Run chmod 600 {os.fspath(path)}")
