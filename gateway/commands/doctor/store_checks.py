"""Checks the store: it is reachable, keeps what it accepts, and takes writes."""

from pathlib import Path

from gateway.assets.folder_backend import MIN_FREE_BYTES
from gateway.commands.doctor.blocking_calls import call_in_thread
from gateway.commands.doctor.doctor_context import DoctorContext
from gateway.commands.doctor.doctor_finding import DoctorFinding, Status
from gateway.commands.doctor.file_systems import (
    CONTAINER_TYPES,
    MEMORY_TYPES,
    find_existing_parent,
    find_file_system_type,
    is_network_type,
    is_writable,
    measure_free_bytes,
)
from gateway.settings import Settings
from gateway.store.base import StoreError
from gateway.store.inspection import StoreInspection, StoreProblem
from gateway.store.redis.server_inspection import inspect_servers
from gateway.store.sqlite.file_inspection import inspect_file

STORE_REMEDY = "See docs/stores.md."


async def check_store(context: DoctorContext) -> list[DoctorFinding]:
    """Checks Redis if it is configured, otherwise the folder of SQLite."""
    if not context.settings.redis_url:
        return await call_in_thread(lambda: _check_sqlite(context.settings))
    options = context.gateway_file.store
    try:
        inspection = await inspect_servers(
            context.settings.redis_url, options.durability, context.wall_clock, options.wait_replicas
        )
    except StoreError as error:
        remedy = "Start Redis, or correct REDIS_URL: redis://user:password@host:6379/0."
        return [DoctorFinding("store", Status.FAILED, str(error), remedy)]
    context.clock_samples += inspection.clock_samples
    return _report_inspection(inspection)


def _check_sqlite(settings: Settings) -> list[DoctorFinding]:
    folder = settings.data
    parent = find_existing_parent(folder)
    if not is_writable(parent):
        message = f"{parent} is not a folder that this user may write to."
        remedy = "Run as the user of the gateway, give that user the folder, or set IGW_DATA to another one."
        return [DoctorFinding("store", Status.FAILED, message, remedy)]
    findings = [*_report_inspection(inspect_file(settings.database)), *check_durability("store", folder)]
    if shortage := check_free_space("store", parent, "IGW_DATA"):
        return [*shortage, *(finding for finding in findings if finding.status is not Status.OK)]
    return findings


def _report_inspection(inspection: StoreInspection) -> list[DoctorFinding]:
    findings = [
        DoctorFinding("store", _get_status(problem), problem.message, problem.remedy or STORE_REMEDY)
        for problem in inspection.problems
    ]
    is_usable = not any(problem.loses_jobs for problem in inspection.problems)
    return [DoctorFinding("store", Status.OK, inspection.description), *findings] if is_usable else findings


def _get_status(problem: StoreProblem) -> Status:
    return Status.FAILED if problem.loses_jobs else Status.WARNING


def check_free_space(check: str, folder: Path, setting: str) -> list[DoctorFinding]:
    """Checks that the disk of an existing folder has room for a large image, without which no job is accepted."""
    free_bytes = measure_free_bytes(folder)
    if free_bytes >= MIN_FREE_BYTES:
        return []
    message = f"The disk of {folder} is full: {free_bytes >> 10:,} KiB can be written, {MIN_FREE_BYTES >> 10:,} needed."
    remedy = f"Free some space, or set {setting} to a folder on a larger disk."
    return [DoctorFinding(check, Status.FAILED, message, remedy)]


def check_durability(check: str, folder: Path) -> list[DoctorFinding]:
    """Warns if what is stored in the folder would not survive a restart, or has no reliable locks."""
    kind = find_file_system_type(folder)
    if kind in MEMORY_TYPES:
        message = f"{folder} is in memory ({kind}): everything in it is lost with a restart of the machine."
        return [DoctorFinding(check, Status.WARNING, message, "Use a folder on a disk.")]
    if kind in CONTAINER_TYPES:
        message = f"{folder} is in the writable layer of a container ({kind}): it is lost with the container."
        return [DoctorFinding(check, Status.WARNING, message, "Mount a volume there.")]
    if check == "store" and is_network_type(kind):
        message = f"{folder} is on a network file system ({kind}), whose locks SQLite cannot rely on."
        return [DoctorFinding(check, Status.FAILED, message, "Use a folder on a local disk, or Redis.")]
    return []
