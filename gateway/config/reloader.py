"""Reloads the configuration when its files change. A change is applied as a whole or not at all."""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from gateway.catalogue import Catalogue, carry_over_draining
from gateway.config.catalogue_builder import ResolvedConfig, SecretLookup, resolve_files
from gateway.config.config_file_reader import ConfigFiles, read_folder
from gateway.config.loader import load_files
from gateway.config.value_types import Secret, SecretRef
from gateway.config.yaml_nodes import Problem, SourceLocation
from gateway.event_wait import wait_and_clear
from gateway.timeouts_and_intervals import MaintenanceTiming
from providers.adapter import Adapter

WHY_NOT_APPLIED = "The configuration is invalid, so the previous secret stays active. Correct the problems"
UNEXPECTED_ERROR = "Internal error while reading the configuration. The previous configuration stays active"


class ReloadResult(Struct, frozen=True):
    """Result of a reload. Without a catalogue the previous one stays active.

    `unapplied_secrets`: secrets of the active configuration that changed since, and are not applied either.
    """

    resolved: ResolvedConfig
    previous_hash: str
    unapplied_secrets: tuple[SecretRef, ...] = ()

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
        timing: MaintenanceTiming = MaintenanceTiming(),
    ) -> None:
        self._settle_seconds = timing.config_settle_seconds
        self.folder, self._secrets, self._adapters, self._on_reload = folder, secrets, adapters, on_reload
        self._reload_requested = asyncio.Event()
        # The secrets that the active configuration refers to, and those that the last read files refer to, too.
        self._active_secrets: dict[SecretRef, Secret | None] = {}
        self._last_secrets: dict[SecretRef, Secret | None] = {}
        self._last_files = read_folder(folder)
        first = self._resolve_files(self._last_files)
        if first.catalogue is None:
            raise ConfigError(first)
        self._active_secrets = self._last_secrets
        self.current: Catalogue = first.catalogue
        self.last_result = ReloadResult(first, "")

    def request_reload(self) -> None:
        """Makes `run` read all files and secrets now, even if they are not watched or did not change."""
        self._reload_requested.set()

    async def reload(self) -> ReloadResult:
        """Reads all files now and applies them if they are valid."""
        return await self._reload_files(await asyncio.to_thread(read_folder, self.folder))

    async def run(self, on_poll: Callable[[], None] = lambda: None) -> None:
        """Checks the files periodically until cancelled. Files that are still being written are read later."""
        while True:
            is_requested = await wait_and_clear(self._reload_requested, self.current.reload.every_seconds)
            if is_requested or self.current.reload.watch:
                await self._poll_files(is_requested)
            on_poll()

    async def _poll_files(self, is_requested: bool) -> None:
        """Checks the files once. An error does not stop later checks."""
        files = None
        try:
            if is_requested:
                await self.reload()
            elif (files := await self._read_if_changed()) is not None:
                await self._reload_files(files)
        except Exception as error:  # noqa: BLE001  otherwise reloads would stop silently
            self._record_failure(files, error)

    def _record_failure(self, files: ConfigFiles | None, error: Exception) -> None:
        """Records an internal error, once for the same files and error."""
        message = f"{UNEXPECTED_ERROR}: {type(error).__name__}"
        known_messages = [problem.message for problem in self.last_result.resolved.problems]
        if files is None and known_messages == [message]:
            return
        self._last_files = files or self._last_files
        problem = Problem(SourceLocation(str(self.folder), 1), message)
        resolved = ResolvedConfig(None, (problem,), ())
        self.last_result = ReloadResult(resolved, self.current.hash, self._list_unapplied_secrets())
        self._notify_listener()

    def _notify_listener(self) -> None:
        """Calls the listener. Its error is reported, but does not stop the reloader."""
        try:
            self._on_reload(self.last_result)
        except Exception as error:  # noqa: BLE001  the catalogue is swapped, and the next check must run
            sys.excepthook(type(error), error, error.__traceback__)

    async def _read_if_changed(self) -> ConfigFiles | None:
        """Returns the files if they or the secrets differ from the last ones and two reads in a row agree."""
        files, secrets = await asyncio.to_thread(self._read_files_and_secrets)
        if (files, secrets) == (self._last_files, self._last_secrets):
            return None
        await asyncio.sleep(self._settle_seconds)
        return files if (files, secrets) == await asyncio.to_thread(self._read_files_and_secrets) else None

    def _read_files_and_secrets(self) -> tuple[ConfigFiles, dict[SecretRef, Secret | None]]:
        return read_folder(self.folder), {reference: self._secrets(reference) for reference in self._last_secrets}

    async def _reload_files(self, files: ConfigFiles) -> ReloadResult:
        """Resolves the files, swaps the catalogue if they are valid, and notifies the listener in either case.

        All work takes place in a thread, since it would block the event loop. Only the swap happens here.
        """
        resolved = await asyncio.to_thread(self._resolve_files, files)
        self._last_files = files
        current = self.current
        if resolved.catalogue is not None:
            now = time.monotonic()
            self.current = await asyncio.to_thread(carry_over_draining, resolved.catalogue, current, now)
            self._active_secrets = self._last_secrets
        self.last_result = ReloadResult(resolved, current.hash, self._list_unapplied_secrets())
        self._notify_listener()
        return self.last_result

    def _list_unapplied_secrets(self) -> tuple[SecretRef, ...]:
        last = self._last_secrets
        return tuple(
            reference for reference, secret in self._active_secrets.items() if last.get(reference, secret) != secret
        )

    def _resolve_files(self, files: ConfigFiles) -> ResolvedConfig:
        """Resolves the files, and notes the secrets that they refer to.

        Invalid files may not be resolved as far as their secrets, so those of the active configuration stay watched.
        """
        secrets: dict[SecretRef, Secret | None] = {}

        def find_secret(reference: SecretRef) -> Secret | None:
            secrets[reference] = self._secrets(reference)
            return secrets[reference]

        self._last_secrets = {reference: self._secrets(reference) for reference in self._active_secrets}
        resolved = resolve_files(load_files(files), find_secret, self._adapters)
        self._last_secrets = secrets if resolved.catalogue is not None else self._last_secrets | secrets
        return resolved


class ConfigError(Exception):
    """The first configuration is invalid, so the gateway cannot start. `resolved` holds the problems."""

    def __init__(self, resolved: ResolvedConfig) -> None:
        super().__init__("\n".join(str(problem) for problem in resolved.problems))
        self.resolved = resolved
