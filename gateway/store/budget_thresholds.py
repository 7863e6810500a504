"""The record of each soft threshold that a budget has reached in a window, so that it is announced once."""

import hashlib
from base64 import b32encode

import msgspec

from gateway.jobs.budgets import BudgetLimit, WindowKind
from gateway.store.team_records import RecordContent, TeamRecord

THRESHOLD_PREFIX = "threshold_"
_ID_LENGTH, _ID_BYTES = 28, 18


class ReachedThreshold(RecordContent, frozen=True, kw_only=True, omit_defaults=True):
    """A budget has spent `percent` of its limit in a window. `limit`, `spent`: in micro-USD, when that was noticed.

    `key_id`: of an API key; empty for the budget of the team. `is_announced`: its event and its webhooks exist.
    """

    kind: WindowKind
    period: str
    percent: int
    limit: int
    spent: int
    key_id: str = ""
    is_announced: bool = False


_decoder = msgspec.msgpack.Decoder(ReachedThreshold)


def decode_threshold(record: TeamRecord) -> ReachedThreshold:
    return _decoder.decode(record.content)


def make_threshold_id(limit: BudgetLimit, percent: int) -> str:
    """Makes the id of a record. It follows from the budget, the window and the threshold: all replicas make the same
    one."""
    window = limit.window
    content = "\0".join((limit.owner, window.kind, window.name, str(percent)))
    digest = hashlib.blake2b(content.encode(), digest_size=_ID_BYTES, person=b"igw.threshold").digest()
    return THRESHOLD_PREFIX + b32encode(digest).decode().lower()[:_ID_LENGTH]
