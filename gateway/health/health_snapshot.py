"""Health snapshots that replicas exchange, and their encoding."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.health.circuit_breaker import EMPTY_BREAKER_SNAPSHOT, BreakerSnapshot
from gateway.health.stats import ConformanceRate, LatencyStats
from providers.orders import Cell

CellKey = tuple[str, str, Cell]
MAX_SNAPSHOT_BYTES = 4 << 20


class AccountSnapshot(Struct, frozen=True, array_like=True):
    account: str
    breaker: BreakerSnapshot


class CellSnapshot(Struct, frozen=True, array_like=True):
    seller: str
    model: str
    cell: Cell
    breaker: BreakerSnapshot
    latency: LatencyStats
    conformance: ConformanceRate
    fidelity_breaker: BreakerSnapshot = EMPTY_BREAKER_SNAPSHOT

    @property
    def cell_key(self) -> CellKey:
        return self.seller, self.model, self.cell

    @property
    def has_data(self) -> bool:
        has_breaker_data = self.breaker != EMPTY_BREAKER_SNAPSHOT or self.fidelity_breaker != EMPTY_BREAKER_SNAPSHOT
        return has_breaker_data or bool(self.latency.count) or bool(self.conformance.count)


class HealthSnapshot(Struct, frozen=True, array_like=True):
    """Observations of one replica. `wall_time` is its wall clock; all other times are seconds ago or left."""

    version: Literal[1]
    wall_time: Annotated[float, Meta(ge=0, le=1e12)]
    accounts: tuple[AccountSnapshot, ...]
    cells: tuple[CellSnapshot, ...]


class ReplicaHealth(Struct, frozen=True):
    """A replica's last snapshot: `wall_time` by the replica's clock, `received_at` by this process's clock."""

    wall_time: float
    received_at: float
    cells: dict[CellKey, CellSnapshot]


encode_snapshot = msgspec.msgpack.Encoder().encode
_DECODER = msgspec.msgpack.Decoder(HealthSnapshot)


def decode_snapshot(data: bytes) -> HealthSnapshot | None:
    """Decodes a snapshot. Returns None if the bytes are not a snapshot of this version of the gateway."""
    try:
        return _DECODER.decode(data) if len(data) <= MAX_SNAPSHOT_BYTES else None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
