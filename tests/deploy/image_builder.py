"""Builds the image's file tree by the steps of the Dockerfile, without Docker.

The base image is this machine's own root, seen through an overlay: every stage writes into a layer of its own, which is
kept in memory. Steps run with `chroot`.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.deploy.dockerfile_instructions import ROOT, Instruction, Stage, read_stages

# Settings of the package index come from this machine.
INHERITED = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
BASE_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
MEMORY_MB = 1_500


class ImageLayer:
    """A stage's file tree: `root` shows it whole, `added` only the files that it has added."""

    def __init__(self, folder: Path) -> None:
        self.root, self.added = folder / "root", folder / "added"
        self.environ = {"PATH": BASE_PATH}

    def find(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def run(self, words: list[str], working_folder: str) -> None:
        script = f"cd {shlex.quote(working_folder)} && exec {shlex.join(words)}"
        command = ["chroot", str(self.root), "/bin/bash", "-c", script]
        result = subprocess.run(
            command, env=INHERITED | self.environ, capture_output=True, text=True, check=False, timeout=300
        )
        assert result.returncode == 0, f"{words}\n{result.stdout}{result.stderr}"


@contextmanager
def mount_layer(folder: Path) -> Iterator[ImageLayer]:
    """Mounts a layer over the machine's root. Skips the test where that is not allowed."""
    layer = ImageLayer(folder)
    for path in (layer.root, layer.added, folder / "work"):
        path.mkdir(parents=True)
    options = f"lowerdir=/,upperdir={layer.added},workdir={folder / 'work'}"
    if not _mount("-t", "overlay", "overlay", "-o", options, str(layer.root)):
        pytest.skip("this machine allows no mount of an overlay")
    try:
        for name in ("proc", "dev"):
            assert _mount("--rbind", f"/{name}", str(layer.root / name))
            assert _mount("--make-rslave", str(layer.root / name))
        _add_python(layer)
        yield layer
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", str(layer.root)], check=True)  # noqa: S607


def _mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0  # noqa: S607


def _add_python(layer: ImageLayer) -> None:
    """Makes this Python the one of the base image, which every user can run."""
    python = Path(os.path.realpath(sys.executable))
    for parent in python.parents:
        layer.find(str(parent)).chmod(0o755)
    # Scripts, because an environment that is made by a symbolic link does not find the library of its target.
    _write_program(layer.find("/usr/local/bin/python"), f'exec {python} "$@"')
    _write_program(layer.find("/usr/local/bin/pip"), f'exec {python} -m pip "$@"')


def _write_program(path: Path, script: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


class StageBuilder:
    """Runs the instructions of one stage that change files."""

    def __init__(self, stage: Stage, layer: ImageLayer, layers: Mapping[str, ImageLayer]) -> None:
        self._stage, self._layer, self._layers = stage, layer, layers
        self._shell, self._working_folder = ["/bin/sh", "-c"], "/"

    def build(self) -> None:
        steps = {
            "SHELL": self._set_shell,
            "ENV": self._set_environ,
            "WORKDIR": self._enter_folder,
            "COPY": self._copy_files,
            "RUN": self._run,
        }
        for instruction in self._stage.instructions:
            if step := steps.get(instruction.name):
                step(instruction)

    def _set_shell(self, instruction: Instruction) -> None:
        self._shell = list(instruction.words)

    def _set_environ(self, instruction: Instruction) -> None:
        for name, value in zip(instruction.words[::2], instruction.words[1::2], strict=True):
            self._layer.environ[name] = value.replace("$PATH", self._layer.environ["PATH"])

    def _enter_folder(self, instruction: Instruction) -> None:
        self._working_folder = instruction.words[0]
        self._layer.find(self._working_folder).mkdir(parents=True, exist_ok=True)

    def _copy_files(self, instruction: Instruction) -> None:
        *sources, target = instruction.words
        stage_names = [flag.removeprefix("--from=") for flag in instruction.flags]
        context = self._layers[stage_names[0]].root if stage_names else ROOT
        for source in sources:
            path = Path(self._working_folder) / target / (Path(source).name if target.endswith("/") else "")
            _copy(context / source.lstrip("/"), self._layer.find(str(path)))

    def _run(self, instruction: Instruction) -> None:
        self._layer.run([*self._shell, instruction.words[0]], self._working_folder)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        ignored = shutil.ignore_patterns("__pycache__") if source.is_relative_to(ROOT) else None
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=ignored)
    else:
        shutil.copy2(source, target)


@contextmanager
def build_image(folder: Path) -> Iterator[ImageLayer]:
    """Builds all stages below the folder. Returns the layer of the last one."""
    with ExitStack() as mounted:
        layers: dict[str, ImageLayer] = {}
        for number, stage in enumerate(read_stages()):
            layer = mounted.enter_context(mount_layer(folder / str(number)))
            layers[stage.name] = layer
            StageBuilder(stage, layer, layers).build()
        yield layer
