"""Health snapshots that replicas exchange, and their encoding."""

from typing import Literal

import msgspec
from msgspec import Struct

from gateway.health.circuit_breaker import EMPTY_BREAKER_SNAPSHOT, BreakerSnapshot, Moment
from gateway.health.rolling_stats import ConformanceRate, LatencyStats
from providers.orders import Cell

CellKey = tuple[str, str, Cell]
MAX_SNAPSHOT_BYTES = 4 << 20


class AccountSnapshot(Struct, frozen=True, array_like=True):
    """`access_digest`: of the key, base URL and proxy with which the replica made its observations."""

    account: str
    access_digest: str
    breaker: BreakerSnapshot


class CellSnapshot(Struct, frozen=True, array_like=True):
    seller: str
    model: str
    cell: Cell
    breaker: BreakerSnapshot = EMPTY_BREAKER_SNAPSHOT
    latency: LatencyStats = LatencyStats()
    conformance: ConformanceRate = ConformanceRate()
    fidelity_breaker: BreakerSnapshot = EMPTY_BREAKER_SNAPSHOT

    @property
    def cell_key(self) -> CellKey:
        return self.seller, self.model, self.cell

    @property
    def has_data(self) -> bool:
        return self != CellSnapshot(self.seller, self.model, self.cell)


class HealthSnapshot(Struct, frozen=True, array_like=True):
    """Observations of one replica, made at `wall_time`. All times are of its slewed wall clock."""

    version: Literal[3]
    wall_time: Moment
    accounts: tuple[AccountSnapshot, ...]
    cells: tuple[CellSnapshot, ...]


encode_snapshot = msgspec.msgpack.Encoder().encode
_DECODER = msgspec.msgpack.Decoder(HealthSnapshot)


def decode_snapshot(data: bytes) -> HealthSnapshot | None:
    """Decodes a snapshot. Returns None if the bytes are not a snapshot of this version of the gateway."""
    try:
        return _DECODER.decode(data) if len(data) <= MAX_SNAPSHOT_BYTES else None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
