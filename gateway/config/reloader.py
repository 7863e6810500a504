"""Keeps a catalogue that follows its files: a change is taken as a whole or not at all."""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from gateway.catalogue import Catalogue, carry_over_draining
from gateway.config.loader import load_files
from gateway.config.resolver import ResolvedConfig, SecretLookup, resolve
from gateway.config.source_files import SourceFiles, read_folder
from gateway.config.yaml_nodes import Problem, SourceLocation
from providers.adapter import Adapter

# How long files must have lain still: whoever writes several of them is surely done by then.
SETTLE_SECONDS = 0.1
UNEXPECTED_ERROR = "could not be read, for a reason that nobody thought of; what was in force stays in force"


class ReloadResult(Struct, frozen=True):
    """What came of looking at the files again. Without a catalogue in it, the one before is still in force."""

    resolved: ResolvedConfig
    previous_hash: str

    @property
    def is_applied(self) -> bool:
        return self.resolved.catalogue is not None


class ConfigReloader:
    """Holds the catalogue in force. Whoever works on something takes `current` once and keeps to it."""

    def __init__(
        self,
        folder: Path,
        secrets: SecretLookup,
        adapters: Mapping[str, Adapter],
        on_reload: Callable[[ReloadResult], None],
    ) -> None:
        self.folder, self._secrets, self._adapters, self._on_reload = folder, secrets, adapters, on_reload
        self._last_files = read_folder(folder)
        first = self._resolve_files(self._last_files)
        if first.catalogue is None:
            raise ConfigError(first)
        self.current: Catalogue = first.catalogue
        self.last_result = ReloadResult(first, "")

    def reload(self) -> ReloadResult:
        """Reads everything anew, now, and takes it if all of it is right."""
        files = read_folder(self.folder)
        return self._apply_result(files, self._resolve_files(files))

    async def run(self, on_poll: Callable[[], None] = lambda: None) -> None:
        """Looks at the files until cancelled. What is being written is read when it has come to rest."""
        while True:
            await asyncio.sleep(self.current.reload.every_seconds)
            if self.current.reload.watch:
                await self._poll_files()
            on_poll()

    async def _poll_files(self) -> None:
        """Whatever goes wrong in one look, there is another after it."""
        files = None
        try:
            if (files := await self._read_if_changed()) is not None:
                # Not in the event loop, which requests are waiting for; only the swap is.
                self._apply_result(files, await asyncio.to_thread(self._resolve_files, files))
        except Exception as error:  # noqa: BLE001  nobody would notice that the files are followed no more
            self._record_failure(files, error)

    def _record_failure(self, files: SourceFiles | None, error: Exception) -> None:
        """A fault of ours, told once for the same files and the same fault."""
        message = f"{UNEXPECTED_ERROR}: {type(error).__name__}"
        known_messages = [problem.message for problem in self.last_result.resolved.problems]
        if files is None and known_messages == [message]:
            return
        self._last_files = files or self._last_files
        problem = Problem(SourceLocation(str(self.folder), 1), message)
        self.last_result = ReloadResult(ResolvedConfig(None, (problem,), ()), self.current.hash)
        self._notify_listener()

    def _notify_listener(self) -> None:
        """Whoever is told is not in charge of whether the files are followed; his own fault is shown where all are."""
        try:
            self._on_reload(self.last_result)
        except Exception as error:  # noqa: BLE001  the catalogue has been swapped, and the next look must come
            sys.excepthook(type(error), error, error.__traceback__)

    async def _read_if_changed(self) -> SourceFiles | None:
        """The files, if they are not those that were last read, and the same at two looks."""
        files = await asyncio.to_thread(read_folder, self.folder)
        if files == self._last_files:
            return None
        await asyncio.sleep(SETTLE_SECONDS)
        return files if files == await asyncio.to_thread(read_folder, self.folder) else None

    def _resolve_files(self, files: SourceFiles) -> ResolvedConfig:
        return resolve(load_files(files), self._secrets, self._adapters)

    def _apply_result(self, files: SourceFiles, resolved: ResolvedConfig) -> ReloadResult:
        """Swaps the catalogue whole, or leaves it; either way says so."""
        self._last_files = files
        self.last_result = ReloadResult(resolved, self.current.hash)
        if resolved.catalogue is not None:
            self.current = carry_over_draining(resolved.catalogue, self.current, time.monotonic())
        self._notify_listener()
        return self.last_result


class ConfigError(Exception):
    """There is nothing to start with; `resolved` says why."""

    def __init__(self, resolved: ResolvedConfig) -> None:
        super().__init__("\n".join(str(problem) for problem in resolved.problems))
        self.resolved = resolved
