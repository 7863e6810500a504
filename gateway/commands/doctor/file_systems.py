"""The file system of a path: whether it is on the network, or in memory."""

import os
import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
NETWORK_TYPES = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "glusterfs", "beegfs"}
)
# Of mounts through fuse, which say what they mount after a dot.
NETWORK_FUSE_TYPES = frozenset({"sshfs", "s3fs", "gcsfuse", "glusterfs", "rclone", "davfs", "mount-s3", "juicefs"})
MEMORY_TYPES = frozenset({"tmpfs", "ramfs"})
# The writable layer of a container.
CONTAINER_TYPES = frozenset({"overlay", "aufs"})
_ESCAPE = re.compile(r"\\([0-7]{3})")


def find_file_system_type(path: Path, mounts: Path = MOUNTS) -> str:
    """Returns the type of the file system that the path is or would be on; `unknown` where the system does not say."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return "unknown"
    resolved = path.resolve()
    found = [mount for line in lines if (mount := _parse_mount(line)) and resolved.is_relative_to(mount[0])]
    # Of mounts at one point, the last one is visible.
    return max(enumerate(found), key=lambda entry: (len(entry[1][0].parts), entry[0]))[1][1] if found else "unknown"


def is_network_type(file_system_type: str) -> bool:
    kind, _, mounted = file_system_type.partition(".")
    return kind in NETWORK_TYPES or (kind == "fuse" and mounted in NETWORK_FUSE_TYPES)


def find_existing_parent(path: Path) -> Path:
    """Returns the path, or its nearest parent that exists."""
    return next(candidate for candidate in (path, *path.absolute().parents) if candidate.exists())


def measure_free_bytes(folder: Path) -> int:
    """Returns how much this user may still write there: nothing if the file system can hold no more files."""
    status = os.statvfs(folder)
    # Some file systems have no fixed number of files, and say 0 for both.
    has_free_file = status.f_favail > 0 or status.f_files == 0
    return status.f_bavail * status.f_frsize if has_free_file else 0


def is_writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _parse_mount(line: str) -> tuple[Path, str] | None:
    """Parses `36 35 98:0 /root /mount/point options - type source options`."""
    head, separator, tail = line.partition(" - ")
    fields = head.split()
    if not separator or len(fields) < 5 or not tail:
        return None
    return Path(_ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4])), tail.split()[0]
