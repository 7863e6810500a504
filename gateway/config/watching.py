"""Keeps a catalogue that follows its files: a change is taken as a whole or not at all."""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from gateway.catalogue import Catalogue, with_draining
from gateway.config.files import Files, files_in
from gateway.config.loading import loaded
from gateway.config.located import Place, Problem
from gateway.config.resolving import Resolved, Secrets, resolve
from providers.spec import Adapter

# How long files must have lain still: whoever writes several of them is surely done by then.
REST_SECONDS = 0.1
UNEXPECTED = "could not be read, for a reason that nobody thought of; what was in force stays in force"


class Reloaded(Struct, frozen=True):
    """What came of looking at the files again. Without a catalogue in it, the one before is still in force."""

    result: Resolved
    before: str

    @property
    def taken(self) -> bool:
        return self.result.catalogue is not None


class Keeper:
    """Holds the catalogue in force. Whoever works on something takes `current` once and keeps to it."""

    def __init__(
        self, folder: Path, secrets: Secrets, adapters: Mapping[str, Adapter], told: Callable[[Reloaded], None]
    ) -> None:
        self.folder, self._secrets, self._adapters, self._told = folder, secrets, adapters, told
        self._seen = files_in(folder)
        first = self._resolved(self._seen)
        if first.catalogue is None:
            raise ConfigError(first)
        self.current: Catalogue = first.catalogue
        self.last = Reloaded(first, "")

    def reload(self) -> Reloaded:
        """Reads everything anew, now, and takes it if all of it is right."""
        files = files_in(self.folder)
        return self._take(files, self._resolved(files))

    async def watch(self, looked: Callable[[], None] = lambda: None) -> None:
        """Looks at the files until cancelled. What is being written is read when it has come to rest."""
        while True:
            await asyncio.sleep(self.current.reload.every_seconds)
            if self.current.reload.watch:
                await self._look()
            looked()

    async def _look(self) -> None:
        """Whatever goes wrong in one look, there is another after it."""
        files = None
        try:
            if (files := await self._changed()) is not None:
                # Not in the event loop, which requests are waiting for; only the swap is.
                self._take(files, await asyncio.to_thread(self._resolved, files))
        except Exception as error:  # noqa: BLE001  nobody would notice that the files are followed no more
            self._failed(files, error)

    def _failed(self, files: Files | None, error: Exception) -> None:
        """A fault of ours, told once for the same files and the same fault."""
        message = f"{UNEXPECTED}: {type(error).__name__}"
        told = [problem.message for problem in self.last.result.problems]
        if files is None and told == [message]:
            return
        self._seen = files or self._seen
        problem = Problem(Place(str(self.folder), 1), message)
        self.last = Reloaded(Resolved(None, (problem,), ()), self.current.hash)
        self._tell()

    def _tell(self) -> None:
        """Whoever is told is not in charge of whether the files are followed; his own fault is shown where all are."""
        try:
            self._told(self.last)
        except Exception as error:  # noqa: BLE001  the catalogue has been swapped, and the next look must come
            sys.excepthook(type(error), error, error.__traceback__)

    async def _changed(self) -> Files | None:
        """The files, if they are not those that were last read, and the same at two looks."""
        files = await asyncio.to_thread(files_in, self.folder)
        if files == self._seen:
            return None
        await asyncio.sleep(REST_SECONDS)
        return files if files == await asyncio.to_thread(files_in, self.folder) else None

    def _resolved(self, files: Files) -> Resolved:
        return resolve(loaded(files), self._secrets, self._adapters)

    def _take(self, files: Files, result: Resolved) -> Reloaded:
        """Swaps the catalogue whole, or leaves it; either way says so."""
        self._seen = files
        self.last = Reloaded(result, self.current.hash)
        if result.catalogue is not None:
            self.current = with_draining(result.catalogue, self.current, time.monotonic())
        self._tell()
        return self.last


class ConfigError(Exception):
    """There is nothing to start with; `result` says why."""

    def __init__(self, result: Resolved) -> None:
        super().__init__("\n".join(str(problem) for problem in result.problems))
        self.result = result
