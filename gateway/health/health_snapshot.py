"""Health snapshots that replicas exchange, and their encoding."""

from typing import Literal

import msgspec
from msgspec import Struct

from gateway.health.account_check import AccountCheck
from gateway.health.charged_prices import CellCharge
from gateway.health.circuit_breaker import BreakerSnapshot, Moment
from gateway.health.rolling_stats import ConformanceRate, LatencyStats
from providers.orders import Cell

# The name of a seller, and that of a model.
CellKey = tuple[str, str, Cell]
# The name of an account, and the digest of the key, base URL and proxy with which the replica made its observations.
AccountKey = tuple[str, str]
MAX_SNAPSHOT_BYTES = 4 << 20


class AccountSnapshot(Struct, frozen=True, array_like=True):
    breaker: BreakerSnapshot = BreakerSnapshot()
    check: AccountCheck | None = None


class CellSnapshot(Struct, frozen=True, array_like=True):
    breaker: BreakerSnapshot = BreakerSnapshot()
    fidelity_breaker: BreakerSnapshot = BreakerSnapshot()
    latency: LatencyStats = LatencyStats()
    conformance: ConformanceRate = ConformanceRate()
    charges: tuple[CellCharge, ...] = ()


class HealthSnapshot(Struct, frozen=True, array_like=True):
    """Observations of one replica, made at `wall_time`. All times are of its slewed wall clock."""

    version: Literal[7]
    wall_time: Moment
    accounts: dict[AccountKey, AccountSnapshot]
    cells: dict[CellKey, CellSnapshot]


encode_snapshot = msgspec.msgpack.Encoder().encode
_DECODER = msgspec.msgpack.Decoder(HealthSnapshot)


def decode_snapshot(data: bytes) -> HealthSnapshot | None:
    """Decodes a snapshot. Returns None if the bytes are not a snapshot of this version of the gateway."""
    try:
        return _DECODER.decode(data) if len(data) <= MAX_SNAPSHOT_BYTES else None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
