"""Inspects a SQLite database without opening a store: who uses it, and whether it can be used."""

import fcntl
import os
import sqlite3
from pathlib import Path

from gateway.store.base import StoreFull, StoreMisconfigured
from gateway.store.inspection import StoreInspection, StoreProblem
from gateway.store.sqlite.database import check_content, get_lock_path, read_holder

RESTORE_REMEDY = (
    "Restore a backup (docs/operations.md). If the file never had any jobs, delete it: the gateway makes a new one."
)


def inspect_file(database: Path) -> StoreInspection:
    """Inspects the file. One that a gateway uses is left alone: that gateway has checked it."""
    description = f"SQLite {sqlite3.sqlite_version}, {database}"
    try:
        if holder := find_holder(database):
            return StoreInspection(description=f"{description}, in use by process {holder}")
        if not database.exists():
            return StoreInspection(description=f"{description}, which does not exist yet")
        if database.stat().st_uid != os.geteuid():
            # Reading creates a file beside the database, which the gateway's user could not open.
            message = f"{database} belongs to another user, and was not read."
            problem = StoreProblem(message, "Run this command as the user of the gateway.")
            return StoreInspection(description=description, problems=(problem,))
        # SQLite takes an empty file for a new database, and deletes the write-ahead log beside it.
        schema = check_content(database) if database.stat().st_size else 0
    except (StoreMisconfigured, StoreFull) as error:
        return StoreInspection(description=description, problems=(StoreProblem(str(error), loses_jobs=True),))
    except OSError as error:
        message = f"{database} cannot be read: {error.strerror}."
        remedy = "Run this command as the user of the gateway, or give that user the folder."
        return StoreInspection(description=description, problems=(StoreProblem(message, remedy, loses_jobs=True),))
    if not schema:
        message = f"{database} contains no tables of image-gateway: it was truncated, or another program made it."
        problem = StoreProblem(message, RESTORE_REMEDY, loses_jobs=True)
        return StoreInspection(description=description, problems=(problem,))
    return StoreInspection(description=f"{description}, schema {schema}")


def find_holder(database: Path) -> str | None:
    """Returns the id of the process that uses the database, or None."""
    try:
        descriptor = os.open(get_lock_path(database), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return read_holder(descriptor)
    finally:
        os.close(descriptor)
    return None
