"""Loads the targets of webhooks that admins added into the configuration in force."""

import asyncio
from collections.abc import Callable, Iterable, Iterator

import msgspec

from gateway.catalogue import CatalogueInForce, WebhookTarget
from gateway.config.value_types import Secret
from gateway.events import ErrorReported, EventSink, describe_exception
from gateway.store.budget_overrides import HasTeamRecords
from gateway.store.team_records import TeamRecord
from gateway.store.webhook_targets import TeamTargets, decode_targets, list_target_records


class StoredTargets:
    """The enabled targets of the store. `refresh` runs every few seconds, so that changes apply on all replicas, and so
    that secrets expire."""

    def __init__(
        self,
        store: HasTeamRecords,
        catalogue: CatalogueInForce,
        wall_clock: Callable[[], float],
        emit: EventSink,
    ) -> None:
        self._store, self._catalogue, self._wall_clock, self._emit = store, catalogue, wall_clock, emit
        # Records are applied in the order in which they are loaded.
        self._load_lock = asyncio.Lock()

    async def refresh(self) -> None:
        """Loads the targets."""
        async with self._load_lock:
            records = await list_target_records(self._store)
            now = self._wall_clock()
            listed = {record.team: _list_enabled(record, now) for record in self._decode(records)}
            self._catalogue.set_stored_targets({team: enabled for team, enabled in listed.items() if enabled})

    def _decode(self, records: Iterable[TeamRecord]) -> Iterator[TeamTargets]:
        """Yields the records. One that an incompatible version wrote does not stop the others."""
        for record in records:
            try:
                yield decode_targets(record)
            except msgspec.MsgspecError as error:
                self._emit(ErrorReported(component="webhooks", message=describe_exception(error)))


def _list_enabled(record: TeamTargets, now: float) -> dict[str, WebhookTarget]:
    return {
        target.name: WebhookTarget(
            target.to_config(), tuple(Secret(secret.value) for secret in target.secrets if secret.is_valid(now))
        )
        for target in record.targets
        if target.is_enabled
    }
