"""The configuration that comes with the program: used where none is named and none is there, and copied by `init`."""

from collections.abc import Iterator
from pathlib import Path

DEFAULT_FOLDER = Path("config")


class FolderNotEmpty(Exception):
    """Something is there already, and is not overwritten."""


def default_config_folder() -> Path:
    """Within the installed package; in a checkout, the folder that the package takes it from."""
    packaged = Path(__file__).parent / "default"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent.parent / DEFAULT_FOLDER


def find_config_folder(requested: Path | None) -> Path:
    """The named one, whether or not it is there; else `config`, else the shipped one."""
    if requested is not None:
        return requested
    return DEFAULT_FOLDER if DEFAULT_FOLDER.is_dir() else default_config_folder()


def copy_default_config(folder: Path) -> list[Path]:
    """Copies the shipped files there, and returns their names. FolderInUse if it is not empty; else OSError."""
    if folder.is_dir() and any(folder.iterdir()):
        raise FolderNotEmpty(folder)
    names = sorted(_list_files(default_config_folder()))
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # Without its rights: what was installed may not be writable.
        target.write_bytes((default_config_folder() / name).read_bytes())
    return names


def _list_files(folder: Path) -> Iterator[Path]:
    return (path.relative_to(folder) for path in folder.rglob("*.yaml"))
