"""A ledger entry of a delivered order of RunAPI."""

from gateway.jobs.commit import LedgerEntry
from gateway.jobs.transition_tables import LedgerLine
from tests.store.job_factory import CELL, DAY, NOON

JOB_ID = "job_07" + "a" * 26
ENTRY = LedgerEntry(
    day=DAY,
    hour=12,
    posted_at=NOON,
    line=LedgerLine.CAPTURE,
    amount=40_000,
    images=1,
    job=JOB_ID,
    attempt=1,
    team="acme",
    model="gpt-image-2",
    seller="runapi",
    cell=CELL,
    key_id="abcdefghij",
    ticket="ticket-1",
)
