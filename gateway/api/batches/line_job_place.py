"""The place of a line's job among the concurrent jobs of its team and API key."""

from gateway.access.principal import list_limited_owners
from gateway.access.rate_limiter import LimitedOwner
from gateway.api.api_context import ApiContext
from gateway.api.batches.batch_principal import find_batch_principal
from gateway.api.batches.batch_records import Batch


class LineJobPlace:
    """The place of one line's job. It is reserved before the job is created, and held until `close`."""

    def __init__(self, context: ApiContext, batch: Batch) -> None:
        self._context, self._batch = context, batch
        self._owners: tuple[LimitedOwner, ...] | None = None

    @property
    def is_held(self) -> bool:
        return self._owners is not None

    def reserve(self) -> bool:
        """Reserves the place. Returns False if batches have no free place now."""
        owners, share = self._list_owners(), self._context.catalogue().gateway.batches.share
        if not self._context.rate_limiter.reserve_batch_job(owners, share):
            return False
        self._owners = owners
        return True

    def hold_for_existing_job(self) -> None:
        """Holds the place for a job that an earlier run created, whether or not it is within the limits."""
        if not self.is_held:
            self._owners = self._list_owners()
            self._context.rate_limiter.count_batch_job(self._owners)

    def close(self) -> None:
        """Releases the place. Safe to repeat."""
        if self._owners is not None:
            self._context.rate_limiter.release_batch_job(self._owners)
            self._owners = None

    def _list_owners(self) -> tuple[LimitedOwner, ...]:
        return list_limited_owners(find_batch_principal(self._context, self._batch), self._context.catalogue())
