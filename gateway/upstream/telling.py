"""What replicas tell each other of the health of accounts and cells, and how that is written."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.catalogue import Cell
from gateway.upstream.gates import NOTHING_TOLD, Told
from gateway.upstream.measures import Kept, Latency

Key = tuple[str, str, Cell]
MOST_BYTES = 4 << 20


class AccountTold(Struct, frozen=True, array_like=True):
    account: str
    gate: Told


class CellTold(Struct, frozen=True, array_like=True):
    seller: str
    model: str
    cell: Cell
    gate: Told
    latency: Latency
    kept: Kept
    fidelity: Told = NOTHING_TOLD

    @property
    def key(self) -> Key:
        return self.seller, self.model, self.cell

    @property
    def says_something(self) -> bool:
        gates = self.gate != NOTHING_TOLD or self.fidelity != NOTHING_TOLD
        return gates or bool(self.latency.count) or bool(self.kept.count)


class Snapshot(Struct, frozen=True, array_like=True):
    """What one replica has seen itself. `at` is its wall clock; everything else is in seconds ago or left."""

    version: Literal[1]
    at: Annotated[float, Meta(ge=0, le=1e12)]
    accounts: tuple[AccountTold, ...]
    cells: tuple[CellTold, ...]


class Heard(Struct, frozen=True):
    """A replica's last snapshot: when that was made by its clock, and when it arrived by ours."""

    at: float
    arrived: float
    cells: dict[Key, CellTold]


write = msgspec.msgpack.Encoder().encode
_DECODER = msgspec.msgpack.Decoder(Snapshot)


def read(data: bytes) -> Snapshot | None:
    """Any bytes: None for what is no snapshot, perhaps because another version of the gateway has written it."""
    try:
        return _DECODER.decode(data) if len(data) <= MOST_BYTES else None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
