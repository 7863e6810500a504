"""Keeps a catalogue that follows its files: a change is taken as a whole or not at all."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from gateway.catalogue import Catalogue, with_draining
from gateway.config.loading import files_of, load
from gateway.config.resolving import Resolved, Secrets, resolve
from providers.spec import Adapter

Stamp = tuple[tuple[str, int, int], ...]


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
        self, folder: Path, secrets: Secrets, adapters: dict[str, Adapter], told: Callable[[Reloaded], None]
    ) -> None:
        self.folder, self._secrets, self._adapters, self._told = folder, secrets, adapters, told
        self._stamp = stamp_of(folder)
        first = resolve(load(folder), secrets, adapters)
        if first.catalogue is None:
            raise ConfigError(first)
        self.current: Catalogue = first.catalogue
        self.last = Reloaded(first, "")

    def reload(self) -> Reloaded:
        """Reads everything anew and, if all of it is right, swaps the catalogue whole."""
        self._stamp = stamp_of(self.folder)
        result = resolve(load(self.folder), self._secrets, self._adapters)
        self.last = Reloaded(result, self.current.hash)
        if result.catalogue is not None:
            self.current = with_draining(result.catalogue, self.current)
        self._told(self.last)
        return self.last

    def settled(self, in_use: Callable[[str, str], bool]) -> None:
        """Lets go of draining offers that no job names any more."""
        self.current = self.current.keeping(in_use)

    async def watch(self) -> None:
        """Looks at the files until cancelled. A file that is being written is read when it has come to rest."""
        while True:
            await asyncio.sleep(self.current.reload.every_seconds)
            if self.current.reload.watch and await self._changed():
                self.reload()

    async def _changed(self) -> bool:
        seen = await asyncio.to_thread(stamp_of, self.folder)
        if seen == self._stamp:
            return False
        await asyncio.sleep(min(0.1, self.current.reload.every_seconds))
        return seen == await asyncio.to_thread(stamp_of, self.folder)


class ConfigError(Exception):
    """There is nothing to start with; `result` says why."""

    def __init__(self, result: Resolved) -> None:
        super().__init__("\n".join(str(problem) for problem in result.problems))
        self.result = result


def stamp_of(folder: Path) -> Stamp:
    """Changes whenever a file does: when it was written, how large it is, which there are."""
    found = []
    for path in files_of(folder):
        try:
            status = path.stat()
        except OSError:
            # Gone between listing and looking: the next look will not list it.
            continue
        found.append((path.name, status.st_mtime_ns, status.st_size))
    return tuple(found)
