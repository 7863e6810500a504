"""The default configuration of the package: used if no folder is given, copied by `init`."""

from collections.abc import Iterator
from pathlib import Path

DEFAULT_FOLDER = Path("config")


class FolderNotEmpty(Exception):
    """The target folder is not empty; nothing was written."""


def default_config_folder() -> Path:
    """Returns the folder in the installed package; in a checkout, the source of that folder."""
    packaged = Path(__file__).parent / "default"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent.parent / DEFAULT_FOLDER


def find_config_folder(requested: Path | None) -> Path:
    """Returns the requested folder even if it does not exist; otherwise `config`, otherwise the packaged default."""
    if requested is not None:
        return requested
    return DEFAULT_FOLDER if DEFAULT_FOLDER.is_dir() else default_config_folder()


def copy_default_config(folder: Path) -> list[Path]:
    """Copies the default files into the folder and returns their names.

    Raises FolderNotEmpty if the folder has files, OSError if it cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise FolderNotEmpty(folder)
    names = sorted(_list_files(default_config_folder()))
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # Without file permissions: installed files may be read-only.
        target.write_bytes((default_config_folder() / name).read_bytes())
    return names


def _list_files(folder: Path) -> Iterator[Path]:
    return (path.relative_to(folder) for path in folder.rglob("*.yaml"))
