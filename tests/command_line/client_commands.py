"""Runs commands that use a gateway, in a folder of their own."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from tests.harness.cli_runner import run_command
from tests.harness.gateway_environ import get_clean_environ
from tests.harness.wait import wait_until

PROGRAM = str(Path(sys.executable).parent / "image-gateway")


class ClientCommands:
    """Commands with IGW_URL set to the gateway. `folder`: where they run."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.environ = {"IGW_URL": url}

    def run(self, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        return run_command(*arguments, folder=self.folder, **(self.environ | environ))

    def run_successfully(self, *arguments: str) -> list[str]:
        """Returns the lines of standard output."""
        result = self.run(*arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()

    def run_json(self, *arguments: str) -> Any:
        return json.loads("\n".join(self.run_successfully(*arguments, "--json")))

    def start(self, *arguments: str, **environ: str) -> "RunningCommand":
        return RunningCommand(self, arguments, environ)

    def open_image(self, name: str) -> Image.Image:
        """Decodes a file completely, so that a truncated image fails."""
        with Image.open(self.folder / name) as image:
            image.load()
            return image

    def list_files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if path.name not in ("stdout", "stderr"))


def accept_interrupts() -> None:
    """Lets the command of this child process be interrupted, also if the tests run in the background of a script."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class RunningCommand:
    """The installed program, with its output in files."""

    def __init__(self, commands: ClientCommands, arguments: tuple[str, ...], environ: dict[str, str]) -> None:
        self._stdout, self._stderr = commands.folder / "stdout", commands.folder / "stderr"
        with self._stdout.open("wb") as out, self._stderr.open("wb") as err:
            self.process = subprocess.Popen(
                [PROGRAM, *arguments],
                cwd=commands.folder,
                env={**get_clean_environ(), **commands.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                preexec_fn=accept_interrupts,
            )

    def __enter__(self) -> "RunningCommand":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def stdout(self) -> bytes:
        return self._stdout.read_bytes()

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    def wait_for_stderr(self, text: str) -> None:
        wait_until(lambda: text in self.stderr, f"the command prints {text!r}", self._check_running)

    def _check_running(self) -> None:
        assert self.process.poll() is None or self.stderr, "the command has ended"

    def wait(self) -> int:
        return self.process.wait(60)
