"""A disk of limited size, in memory."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest


@contextmanager
def mount_tmpfs(disk: Path, megabytes: int, *options: str) -> Iterator[Path]:
    """Mounts a disk of this size. Skips the test where that is not allowed."""
    disk.mkdir()
    mount_options = ",".join((f"size={megabytes}m,mode=700", *options))
    command = ["mount", "-t", "tmpfs", "-o", mount_options, "images", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine allows no mount of a tmpfs")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)  # noqa: S607


@contextmanager
def fill_disk(disk: Path) -> Iterator[None]:
    """Fills the disk completely during the block."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        _write_until_full(file)
    try:
        yield
    finally:
        filler.unlink()


def _write_until_full(file: IO[bytes]) -> None:
    while True:
        file.write(bytes(4_096))
