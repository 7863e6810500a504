"""Reloads the configuration when its files change. A change is applied as a whole or not at all."""

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

# Files must be unchanged for this long, so that a change of several files is read as a whole.
SETTLE_SECONDS = 0.1
UNEXPECTED_ERROR = "Internal error while reading the configuration. The previous configuration stays active"


class ReloadResult(Struct, frozen=True):
    """Result of a reload. Without a catalogue the previous one stays active."""

    resolved: ResolvedConfig
    previous_hash: str

    @property
    def is_applied(self) -> bool:
        return self.resolved.catalogue is not None


class ConfigReloader:
    """Holds the current catalogue. Callers read `current` once per operation and keep that one."""

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
        """Reads all files now and applies them if they are valid."""
        files = read_folder(self.folder)
        return self._apply_result(files, self._resolve_files(files))

    async def run(self, on_poll: Callable[[], None] = lambda: None) -> None:
        """Checks the files periodically until cancelled. Files that are still being written are read later."""
        while True:
            await asyncio.sleep(self.current.reload.every_seconds)
            if self.current.reload.watch:
                await self._poll_files()
            on_poll()

    async def _poll_files(self) -> None:
        """Checks the files once. An error does not stop later checks."""
        files = None
        try:
            if (files := await self._read_if_changed()) is not None:
                # In a thread, since parsing would block the event loop. Only the swap happens here.
                self._apply_result(files, await asyncio.to_thread(self._resolve_files, files))
        except Exception as error:  # noqa: BLE001  otherwise reloads would stop silently
            self._record_failure(files, error)

    def _record_failure(self, files: SourceFiles | None, error: Exception) -> None:
        """Records an internal error, once for the same files and error."""
        message = f"{UNEXPECTED_ERROR}: {type(error).__name__}"
        known_messages = [problem.message for problem in self.last_result.resolved.problems]
        if files is None and known_messages == [message]:
            return
        self._last_files = files or self._last_files
        problem = Problem(SourceLocation(str(self.folder), 1), message)
        self.last_result = ReloadResult(ResolvedConfig(None, (problem,), ()), self.current.hash)
        self._notify_listener()

    def _notify_listener(self) -> None:
        """Calls the listener. Its error is reported, but does not stop the reloader."""
        try:
            self._on_reload(self.last_result)
        except Exception as error:  # noqa: BLE001  the catalogue is swapped, and the next check must run
            sys.excepthook(type(error), error, error.__traceback__)

    async def _read_if_changed(self) -> SourceFiles | None:
        """Returns the files if they differ from the last ones read and two reads in a row agree."""
        files = await asyncio.to_thread(read_folder, self.folder)
        if files == self._last_files:
            return None
        await asyncio.sleep(SETTLE_SECONDS)
        return files if files == await asyncio.to_thread(read_folder, self.folder) else None

    def _resolve_files(self, files: SourceFiles) -> ResolvedConfig:
        return resolve(load_files(files), self._secrets, self._adapters)

    def _apply_result(self, files: SourceFiles, resolved: ResolvedConfig) -> ReloadResult:
        """Swaps the catalogue if the result is valid, and notifies the listener in either case."""
        self._last_files = files
        self.last_result = ReloadResult(resolved, self.current.hash)
        if resolved.catalogue is not None:
            self.current = carry_over_draining(resolved.catalogue, self.current, time.monotonic())
        self._notify_listener()
        return self.last_result


class ConfigError(Exception):
    """The first configuration is invalid, so the gateway cannot start. `resolved` holds the problems."""

    def __init__(self, resolved: ResolvedConfig) -> None:
        super().__init__("\n".join(str(problem) for problem in resolved.problems))
        self.resolved = resolved
