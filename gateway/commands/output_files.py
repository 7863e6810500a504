"""Names and writes image files. A file is either complete or missing, and replaces another one only with --force."""

import os
import secrets
import sys
from pathlib import Path

import click
from msgspec import Struct

from gateway.commands.exit_codes import CommandFailed, ExitCode
from gateway.commands.job_report import JobImage, JobReport
from providers.orders import Format

STDOUT = "-"
# Formats by the extensions that mean them.
FORMATS_BY_EXTENSION = {**{f".{name}": name.value for name in Format}, ".jpg": Format.JPEG.value}
# Formats of images that no model makes: a PNG in such a file would surprise other programs.
OTHER_EXTENSIONS = (".avif", ".bmp", ".heic", ".heif", ".jxl", ".tif", ".tiff")
EXTENSIONS = {Format.JPEG.value: "jpg"}


class OutputFiles(Struct, frozen=True):
    """The value of --output, and whether existing files may be replaced.

    A folder, or nothing, means files named after the job. Several images are numbered: cat-1.png, cat-2.png.
    """

    output: str | None = None
    is_forced: bool = False

    @property
    def is_stdout(self) -> bool:
        return self.output == STDOUT

    @property
    def output_format(self) -> str | None:
        """The format that the extension of the file means."""
        if self.output is None or self.is_stdout:
            return None
        return FORMATS_BY_EXTENSION.get(Path(self.output).suffix.lower())

    def require_writable(self, image_count: int) -> None:
        """Raises UsageError if the images could not be written. Called before anything is ordered."""
        _require_possible_format(self.output)
        if self.is_stdout:
            return _require_piped_stdout(image_count)
        folder = self._get_folder()
        _make_folder(folder)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise click.UsageError(f"{folder} is not writable: choose another --output")
        if not self._is_folder():
            for index in range(image_count):
                _require_free(self._get_path(index, image_count), self.is_forced)

    def write_image(self, job: JobReport, image: JobImage, data: bytes) -> str:
        """Writes the image and returns its path. Raises CommandFailed if that is impossible."""
        if self.is_stdout:
            _write_to_stdout(data)
            return STDOUT
        path = self._choose_path(job, image)
        try:
            _make_folder(path.parent)
            _require_free(path, self.is_forced)
            _write_atomically(path, data, self.is_forced)
        except click.UsageError as error:
            raise CommandFailed(ExitCode.ERROR, error.message) from None
        except OSError as error:
            raise CommandFailed(ExitCode.ERROR, f"{path} cannot be written: {error.strerror}") from None
        return str(path)

    def _is_folder(self) -> bool:
        return not self.output or self.output.endswith(os.sep) or os.path.isdir(self.output)

    def _get_folder(self) -> Path:
        return Path(self.output or ".") if self._is_folder() else Path(self.output or ".").parent

    def _choose_path(self, job: JobReport, image: JobImage) -> Path:
        if not self._is_folder():
            return self._get_path(image.index, job.n)
        extension = EXTENSIONS.get(image.output_format, image.output_format)
        return _add_number(self._get_folder() / f"{job.id}.{extension}", image.index, job.n)

    def _get_path(self, index: int, image_count: int) -> Path:
        return _add_number(Path(self.output or ""), index, image_count)


def _add_number(path: Path, index: int, image_count: int) -> Path:
    """Adds the number to the name if there are several images, with as many digits as the last one has."""
    if image_count == 1:
        return path
    return path.with_name(f"{path.stem}-{index + 1:0{len(str(image_count))}}{path.suffix}")


def _require_possible_format(output: str | None) -> None:
    extension = Path(output or "").suffix.lower()
    if extension in OTHER_EXTENSIONS:
        raise click.UsageError(f"--output {output}: no model makes {extension} files. Use .png, .jpg or .webp")


def _require_piped_stdout(image_count: int) -> None:
    if image_count > 1:
        raise click.UsageError("--output - takes one image: omit -n")
    if sys.stdout.isatty():
        raise click.UsageError("--output - would write an image to the terminal: redirect it, or use --show")


def _write_to_stdout(data: bytes) -> None:
    """Writes past Python's buffer, which would keep what cannot be written, and fail again at the end."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(sys.stdout.fileno(), rest) :]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"Folder {folder} cannot be made: {error.strerror}") from None


def _require_free(path: Path, is_forced: bool) -> None:
    """Raises UsageError if the path exists. With --force only a file may be replaced: never a device or a folder."""
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise click.UsageError(f"{path} cannot be written: {error.strerror}") from None
    if not (is_forced and path.is_file()):
        advice = "use --force to replace it, or another --output" if path.is_file() else "choose another --output"
        raise click.UsageError(f"{path} exists: {advice}")


def _write_atomically(path: Path, data: bytes, is_forced: bool) -> None:
    temporary_path = path.with_name(f".image-gateway-{secrets.token_hex(8)}")
    try:
        with temporary_path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if not is_forced:
            _claim_name(temporary_path, path)
        else:
            temporary_path.replace(path)
    finally:
        temporary_path.unlink(missing_ok=True)


def _claim_name(temporary_path: Path, path: Path) -> None:
    """Gives the file its name, unless another program has created it meanwhile."""
    try:
        path.hardlink_to(temporary_path)
    except FileExistsError:
        raise
    except OSError:
        # This file system has no hard links: an empty file reserves the name.
        path.open("xb").close()
        temporary_path.replace(path)
