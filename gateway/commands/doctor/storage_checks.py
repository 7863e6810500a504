"""Checks the image storage: an object can be written, read and deleted, and is kept."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gateway.assets.storage import ImageStorage, StorageError, StorageFull, StorageMisconfigured
from gateway.commands.doctor.blocking_calls import call_in_thread
from gateway.commands.doctor.doctor_context import DoctorContext
from gateway.commands.doctor.doctor_finding import DoctorFinding, Status
from gateway.commands.doctor.file_systems import find_existing_parent, is_writable
from gateway.commands.doctor.store_checks import check_durability, check_free_space
from gateway.settings import Settings


async def check_storage(context: DoctorContext) -> list[DoctorFinding]:
    """Checks the storage as a gateway does at its start."""
    location = get_location(context.settings)
    folder = _get_folder(location)
    if folder is not None and (findings := await call_in_thread(lambda: _check_folder(folder))):
        return findings
    try:
        await _test_storage(location)
    except StorageError as error:
        return [DoctorFinding("storage", Status.FAILED, f"{error}.", _choose_remedy(error, folder))]
    message = f"{folder or _get_bucket(location)}: a test object was written, read and deleted"
    if location.startswith("memory:"):
        warning = "Images are kept in memory, and lost with the process."
        return [DoctorFinding("storage", Status.WARNING, warning, "Set IGW_ASSETS to a folder or a bucket.")]
    durability = await call_in_thread(lambda: check_durability("storage", folder)) if folder else []
    return [DoctorFinding("storage", Status.OK, message), *durability]


def get_location(settings: Settings) -> str:
    return settings.assets or str(settings.data / "images")


def _get_folder(location: str) -> Path | None:
    if "://" not in location:
        return Path(location)
    parts = urlsplit(location)
    return Path(unquote(parts.path)) if parts.scheme == "file" and parts.path else None


def _get_bucket(location: str) -> str:
    parts = urlsplit(location)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"


def _check_folder(folder: Path) -> list[DoctorFinding]:
    """Checks a folder in which no test object should be written: the gateway's user could not use what this command
    would make. Returns nothing if one can be."""
    parent = find_existing_parent(folder)
    if not is_writable(parent):
        message = f"{parent} is not a folder that this user may write to."
        remedy = "Run as the user of the gateway, give that user the folder, or set IGW_ASSETS to another one."
        return [DoctorFinding("storage", Status.FAILED, message, remedy)]
    if parent != folder:
        if shortage := check_free_space("storage", parent, "IGW_ASSETS"):
            return shortage
        findings = check_durability("storage", parent)
        return [DoctorFinding("storage", Status.OK, f"{folder} does not exist yet; the gateway makes it"), *findings]
    if folder.stat().st_uid != os.geteuid():
        message = f"{folder} belongs to another user, so no test object was written."
        return [DoctorFinding("storage", Status.WARNING, message, "Run this command as the user of the gateway.")]
    return []


async def _test_storage(location: str) -> None:
    storage = await call_in_thread(lambda: ImageStorage(location))
    try:
        await storage.self_test()
    finally:
        await storage.close()


def _choose_remedy(error: StorageError, folder: Path | None) -> str:
    if isinstance(error, StorageFull):
        return "Free some space, or set IGW_ASSETS to a larger disk or a bucket."
    if isinstance(error, StorageMisconfigured):
        return "Correct IGW_ASSETS."
    if folder is not None:
        return "Check that the disk is mounted, and that the user of the gateway may write there."
    return "Check the bucket, its endpoint in IGW_ASSETS, and the credentials: they must write, read, list and delete."
