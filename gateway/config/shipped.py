"""The configuration that comes with the program: used where none is named and none is there, and copied by `init`."""

from collections.abc import Iterator
from pathlib import Path

DEFAULT_FOLDER = Path("config")


class FolderInUse(Exception):
    """Something is there already, and is not overwritten."""


def shipped_folder() -> Path:
    """Within the installed package; in a checkout, the folder that the package takes it from."""
    packaged = Path(__file__).parent / "default"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent.parent / DEFAULT_FOLDER


def find_folder(named: Path | None) -> Path:
    """The named one, whether or not it is there; else `config`, else the shipped one."""
    if named is not None:
        return named
    return DEFAULT_FOLDER if DEFAULT_FOLDER.is_dir() else shipped_folder()


def write_shipped(folder: Path) -> list[Path]:
    """Copies the shipped files there, and returns their names. FolderInUse if it is not empty; else OSError."""
    if folder.is_dir() and any(folder.iterdir()):
        raise FolderInUse(folder)
    names = sorted(_files(shipped_folder()))
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # Without its rights: what was installed may not be writable.
        target.write_bytes((shipped_folder() / name).read_bytes())
    return names


def _files(folder: Path) -> Iterator[Path]:
    return (path.relative_to(folder) for path in folder.rglob("*.yaml"))
