"""Reads the ledger of a running gateway's store."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from gateway.jobs.commit import LedgerEntry
from gateway.store.base import Store


def read_ledger(make_store: Callable[[], Store]) -> tuple[LedgerEntry, ...]:
    """Reads the entries of today and yesterday: a test may run at midnight."""

    async def read() -> tuple[LedgerEntry, ...]:
        store = await make_store().open()
        try:
            today = datetime.now(UTC).date()
            days = [(today - timedelta(days=offset)).isoformat() for offset in (1, 0)]
            return tuple([entry for day in days for entry in await store.list_ledger_entries(day)])
        finally:
            await store.close()

    return asyncio.run(read())
